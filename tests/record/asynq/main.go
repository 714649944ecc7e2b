// asynq: busy, delayed, retrying, archived and paused queues, a lease that ran out, a name that is not ASCII.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/hibiken/asynq"
)

const version = "0.26.0"

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func wait(what string, condition func() bool) {
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			panic("waited in vain: " + what)
		}
	}
}

func main() {
	redis := asynq.RedisClientOpt{Addr: must(url.Parse(os.Getenv("REDIS_URL"))).Host}
	if os.Args[1] == "worker" {
		work(redis)
	}
	record(redis, os.Args[1])
}

// work never ends a job, but for those that are to succeed, to be retried or to be archived.
func work(redis asynq.RedisClientOpt) {
	server := asynq.NewServer(redis, asynq.Config{
		Concurrency:    2,
		Queues:         map[string]int{"emails": 1},
		LogLevel:       asynq.FatalLevel,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	err := server.Run(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		switch task.Type() {
		case "succeed":
			return nil
		case "retry":
			return errors.New("later")
		case "archive":
			return asynq.SkipRetry
		}
		time.Sleep(time.Hour)
		return nil
	}))
	panic(err)
}

func record(redis asynq.RedisClientOpt, out string) {
	client, inspector := asynq.NewClient(redis), asynq.NewInspector(redis)
	put := func(queue, kind string, options ...asynq.Option) {
		must(client.Enqueue(asynq.NewTask(kind, []byte(strings.Repeat("x", 1000))), append(options, asynq.Queue(queue))...))
	}
	worker := exec.Command(os.Args[0], "worker")
	if err := worker.Start(); err != nil {
		panic(err)
	}
	for range 3 {
		put("emails", "succeed")
	}
	put("emails", "retry")
	put("emails", "archive")
	info := func() *asynq.QueueInfo { return must(inspector.GetQueueInfo("emails")) }
	wait("five are processed", func() bool { return info().ProcessedTotal == 5 })
	put("emails", "block")
	put("emails", "block")
	wait("two run", func() bool { return info().Active == 2 })
	_ = worker.Process.Kill()
	_ = worker.Wait()
	put("emails", "later", asynq.ProcessIn(time.Hour))
	first := time.Now().UnixMilli()
	put("почта-é", "block", asynq.MaxRetry(1))
	put("почта-é", "block")
	put("почта-é", "late", asynq.ProcessIn(time.Second))
	if err := inspector.PauseQueue("почта-é"); err != nil {
		panic(err)
	}
	time.Sleep(time.Until(time.UnixMilli(first + 2000)))
	busy := map[string]any{
		"length": 0, "in_flight": 2, "abandoned": 0, "due": 0, "delayed": 1, "retrying": 1, "dead": 1, "paused": 0,
		"processed": 5, "failed": 2,
	}
	paused := map[string]any{
		"length": 2, "in_flight": 0, "due": 1, "delayed": 0, "retrying": 0, "dead": 0, "paused": 1,
		"processed": 0, "failed": 0, "oldest_ms": first, "within_ms": 100,
	}
	write(out, "busy", time.Now(), map[string]any{"asynq:emails": busy, "asynq:почта-é": paused})
	busy["in_flight"], busy["abandoned"] = 0, 2
	write(out, "dead-worker", time.Now().Add(10*time.Minute), map[string]any{"asynq:emails": busy})
}

func write(out, state string, now time.Time, queues map[string]any) {
	file := filepath.Join(out, fmt.Sprintf("asynq-%s-%s", version, state))
	script := filepath.Join(os.Getenv("RECORD_DIR"), "fixture.py")
	truth := string(must(json.Marshal(queues)))
	command := exec.Command("python3", script, file, "asynq", version, fmt.Sprint(now.UnixMilli()), truth)
	command.Stderr = os.Stderr
	if err := command.Run(); err != nil {
		panic(err)
	}
}
