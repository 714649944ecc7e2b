// Records asynq: asynq_record REDIS_URL OUTDIR DUMP.PY
//
// The database is flushed before each state. `asynq_record worker REDIS_URL QUEUE` is the process that gets killed.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

type truth struct {
	Waiting   int    `json:"waiting"`
	InFlight  int    `json:"in_flight"`
	Delayed   int    `json:"delayed"`
	Overdue   int    `json:"delayed_overdue"`
	Retrying  int    `json:"retrying"`
	Dead      int    `json:"dead"`
	Processed int    `json:"processed_total"`
	Failed    int    `json:"failed_total"`
	Oldest    *int64 `json:"oldest_enqueued_at_ms"`
	Paused    bool   `json:"paused"`
	Grouped   int    `json:"grouped,omitempty"`
	Abandoned int    `json:"abandoned,omitempty"`
}

type job struct {
	at, due int64
	state   string
}

// What producers and workers know of their jobs, without asking Redis.
type ledger struct {
	sync.Mutex
	jobs  map[string]map[string]*job
	extra map[string]*truth
}

func (l *ledger) set(queue, id, state string, at, due int64) {
	l.Lock()
	defer l.Unlock()
	if l.jobs[queue] == nil {
		l.jobs[queue] = map[string]*job{}
		l.extra[queue] = &truth{}
	}
	j := l.jobs[queue][id]
	if j == nil {
		j = &job{}
		l.jobs[queue][id] = j
	}
	if at != 0 {
		j.at, j.due = at, due
	}
	// A quick worker may have begun the job before Enqueue returned.
	if at == 0 || j.state == "" {
		j.state = state
	}
}

func (l *ledger) count(queue, state string) int {
	l.Lock()
	defer l.Unlock()
	n := 0
	for _, j := range l.jobs[queue] {
		if j.state == state {
			n++
		}
	}
	return n
}

func (l *ledger) truths() map[string]truth {
	all := map[string]truth{}
	for queue := range l.jobs {
		t := *l.extra[queue]
		t.Waiting, t.InFlight = l.count(queue, "waiting"), l.count(queue, "in_flight")
		t.Delayed, t.Retrying, t.Dead = l.count(queue, "delayed"), l.count(queue, "retrying"), l.count(queue, "dead")
		t.Grouped, t.Abandoned = l.count(queue, "grouped"), l.count(queue, "abandoned")
		for _, j := range l.jobs[queue] {
			if j.state == "delayed" && j.due <= time.Now().UnixMilli() {
				t.Overdue++
			}
			if j.state == "waiting" && (t.Oldest == nil || j.at < *t.Oldest) {
				at := j.at
				t.Oldest = &at
			}
		}
		all[queue] = t
	}
	return all
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Waits for a condition: a recording must never depend on how fast the machine is.
func until(what string, condition func() bool) {
	for end := time.Now().Add(60 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic("waited in vain: " + what)
		}
	}
}

type hand struct {
	url       string
	opt       asynq.RedisConnOpt
	redis     *redis.Client
	client    *asynq.Client
	inspector *asynq.Inspector
	ledger    *ledger
	gate      chan struct{}
	servers   []*asynq.Server
	seq       int
}

func (h *hand) add(queue, kind string, options ...asynq.Option) {
	h.addBig(queue, kind, "", options...)
}

func (h *hand) addBig(queue, kind, blob string, options ...asynq.Option) {
	h.seq++
	id := fmt.Sprintf("%s-%d", kind, h.seq)
	body, err := json.Marshal(map[string]string{"for": "somebody@example.test", "blob": blob})
	must(err)
	at := time.Now()
	options = append(options, asynq.Queue(queue), asynq.TaskID(id))
	info, err := h.client.Enqueue(asynq.NewTask(kind, body), options...)
	must(err)
	state := map[asynq.TaskState]string{
		asynq.TaskStatePending: "waiting", asynq.TaskStateScheduled: "delayed", asynq.TaskStateAggregating: "grouped",
	}[info.State]
	h.ledger.set(queue, id, state, at.UnixMilli(), info.NextProcessAt.UnixMilli())
}

func (h *hand) times(n int, queue, kind string, options ...asynq.Option) {
	for ; n > 0; n-- {
		h.add(queue, kind, options...)
	}
}

// The body of every job: what it does is in its type.
func (h *hand) run(ctx context.Context, task *asynq.Task) error {
	id, _ := asynq.GetTaskID(ctx)
	queue, _ := asynq.GetQueueName(ctx)
	most, _ := asynq.GetMaxRetry(ctx)
	done, _ := asynq.GetRetryCount(ctx)
	h.ledger.set(queue, id, "in_flight", 0, 0)
	if task.Type() == "hold" {
		<-h.gate
	}
	if task.Type() == "fail" {
		state := "retrying"
		if done >= most {
			state = "dead"
		}
		h.ledger.set(queue, id, state, 0, 0)
		h.ledger.Lock()
		h.ledger.extra[queue].Failed++
		h.ledger.Unlock()
		return errors.New("failed on purpose")
	}
	h.ledger.set(queue, id, "done", 0, 0)
	h.ledger.Lock()
	h.ledger.extra[queue].Processed++
	h.ledger.Unlock()
	return nil
}

func (h *hand) work(concurrency int, queues ...string) {
	weights := map[string]int{}
	for _, queue := range queues {
		weights[queue] = 1
	}
	server := asynq.NewServer(h.opt, asynq.Config{
		Concurrency: concurrency,
		Queues:      weights,
		LogLevel:    asynq.FatalLevel,
		// Else the overdue job and the retry would be moved to pending while they are recorded.
		DelayedTaskCheckInterval: time.Hour,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Hour },
		ShutdownTimeout:          time.Second,
	})
	must(server.Start(asynq.HandlerFunc(h.run)))
	h.servers = append(h.servers, server)
}

func (h *hand) reaches(queue, state string, n int) {
	until(fmt.Sprintf("%d %s in %s", n, state, queue), func() bool { return h.ledger.count(queue, state) == n })
}

// A server writes what it works on once in 5 s, for asynq:servers and asynq:workers.
func (h *hand) heartbeat(active int) {
	until("heartbeat", func() bool {
		servers, err := h.inspector.Servers()
		must(err)
		n := 0
		for _, server := range servers {
			n += len(server.ActiveWorkers)
		}
		return n == active
	})
}

// What a job left behind is written after its body has returned.
func (h *hand) settles(queue string) {
	until("settled", func() bool {
		info, err := h.inspector.GetQueueInfo(queue)
		must(err)
		return info.Active == h.ledger.count(queue, "in_flight")
	})
}

func state(url, outdir, dump, name string, notes []string, act func(*hand)) {
	opt, err := asynq.ParseRedisURI(url)
	must(err)
	ropt, err := redis.ParseURL(url)
	must(err)
	h := &hand{
		url: url, opt: opt, redis: redis.NewClient(ropt), client: asynq.NewClient(opt), inspector: asynq.NewInspector(opt),
		ledger: &ledger{jobs: map[string]map[string]*job{}, extra: map[string]*truth{}}, gate: make(chan struct{}),
	}
	must(h.redis.FlushDB(context.Background()).Err())
	act(h)
	body, err := json.Marshal(map[string]any{
		"library": "asynq", "version": version(), "state": name, "queues": h.ledger.truths(),
		"notes": append(notes, "oldest_enqueued_at_ms is the producer's clock just before Enqueue: pending_since may be some ms later"),
	})
	must(err)
	command := exec.Command("python3", dump, url, outdir)
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(body), os.Stdout, os.Stderr
	must(command.Run())
	close(h.gate)
	for _, server := range h.servers {
		server.Shutdown()
	}
	_ = h.client.Close()
	_ = h.inspector.Close()
	_ = h.redis.Close()
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/hibiken/asynq" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	panic("asynq is not among the dependencies")
}

// Says on standard output that a job has begun, then holds it for good.
func worker(url, queue string) {
	opt, err := asynq.ParseRedisURI(url)
	must(err)
	server := asynq.NewServer(opt, asynq.Config{Concurrency: 2, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel})
	must(server.Run(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		fmt.Println(id)
		select {}
	})))
}

func killed(h *hand) {
	h.times(3, "emails", "hold")
	self, err := os.Executable()
	must(err)
	child := exec.Command(self, "worker", h.url, "emails")
	begun, err := child.StdoutPipe()
	must(err)
	must(child.Start())
	defer func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}()
	for range 2 {
		var id string
		_, err := fmt.Fscanln(begun.(io.Reader), &id)
		must(err)
		h.ledger.set("emails", id, "abandoned", 0, 0)
	}
	h.heartbeat(2)
	must(child.Process.Kill())
	until("leases ran out", func() bool {
		n, err := h.redis.ZCount(context.Background(), "asynq:{emails}:lease", "-inf", fmt.Sprint(time.Now().Unix()-1)).Result()
		must(err)
		return n == 2
	})
	h.ledger.extra["emails"].Abandoned = 2
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 4 {
		log.Fatal("usage: asynq_record REDIS_URL OUTDIR DUMP.PY | asynq_record worker REDIS_URL QUEUE")
	}
	if os.Args[1] == "worker" {
		worker(os.Args[2], os.Args[3])
		return
	}
	url, outdir, dump := os.Args[1], os.Args[2], os.Args[3]

	state(url, outdir, dump, "busy", []string{
		"processed counts failed attempts too: processed = processed_total + failed_total, failed = failed_total",
		"delayed counts the overdue job too; the retrying job is in a zset of its own",
		"archived: one job out of retries; completed: 2 jobs with a retention, the others leave nothing behind",
		"digest: 3 jobs of group daily wait to be put together: they are neither pending nor scheduled",
		"почта-é never had a worker; one pending job of emails carries 100 kB",
	}, func(h *hand) {
		h.times(3, "emails", "quick")
		h.times(2, "emails", "quick", asynq.Retention(time.Hour))
		h.add("emails", "fail", asynq.MaxRetry(0))
		h.add("emails", "fail", asynq.MaxRetry(3))
		h.work(2, "emails")
		h.reaches("emails", "done", 5)
		h.reaches("emails", "dead", 1)
		h.reaches("emails", "retrying", 1)
		h.settles("emails")
		h.times(2, "emails", "hold", asynq.Timeout(time.Hour))
		h.reaches("emails", "in_flight", 2)
		h.times(6, "emails", "quick")
		h.addBig("emails", "quick", strings.Repeat("x", 100*1000))
		h.times(2, "emails", "quick", asynq.ProcessIn(time.Hour))
		h.add("emails", "quick", asynq.ProcessIn(1500*time.Millisecond))

		h.add("reports", "hold")
		h.work(1, "reports")
		h.reaches("reports", "in_flight", 1)
		h.times(4, "reports", "quick")
		h.times(3, "почта-é", "quick")
		h.times(3, "digest", "quick", asynq.Group("daily"))
		// Scores are whole seconds: wait until the due second lies in the past.
		until("overdue", func() bool { return h.ledger.truths()["emails"].Overdue == 1 })
		h.heartbeat(3)
	})
	state(url, outdir, dump, "drained", []string{
		"emails: nothing waits, 2 of 4 slots work; reports: all done, only its counters and its name in asynq:queues are left",
	}, func(h *hand) {
		h.work(4, "emails")
		h.times(3, "emails", "quick")
		h.times(2, "emails", "hold")
		h.reaches("emails", "done", 3)
		h.reaches("emails", "in_flight", 2)
		h.work(1, "reports")
		h.times(2, "reports", "quick")
		h.reaches("reports", "done", 2)
		h.settles("emails")
		h.settles("reports")
		h.heartbeat(2)
	})
	state(url, outdir, dump, "paused", []string{
		"emails is paused: the key asynq:{emails}:paused exists and its value is the time; pending keeps its jobs, one still runs",
	}, func(h *hand) {
		h.add("emails", "hold")
		h.work(2, "emails")
		h.reaches("emails", "in_flight", 1)
		must(h.inspector.PauseQueue("emails"))
		h.ledger.extra["emails"].Paused = true
		h.times(3, "emails", "quick")
		h.add("emails", "quick", asynq.ProcessIn(time.Hour))
		h.times(2, "reports", "quick")
	})
	state(url, outdir, dump, "killed", []string{
		"the worker was killed: its 2 jobs are still in active, their leases (zset lease, score in s) have run out; in_flight counts live workers only",
		"no other worker lives, so nobody moves them to retry",
	}, killed)
}
