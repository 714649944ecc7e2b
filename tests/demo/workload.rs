//! The workload: producers and workers, each a thread with a connection of its own, and what they know of their jobs.

use crate::Result;
use redis::{Cmd, Connection, FromRedisValue, RedisResult};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What the exporter is told to watch: the queues of [`PLANS`].
pub const QUEUES: &str = "list:crawl,list:ocr?in_flight=ocr:processing&processed=ocr:done,stream:parse?group=workers,\
    zset:label,list:thumbnails";

/// How the clients of a queue use Redis: the ways of those who have no library for it.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// LPUSH and BRPOP: Redis forgets a job when it is taken.
    Popped,
    /// LPUSH and LMOVE to a second list, from which a job is removed when it is done; a counter counts those.
    Moved,
    /// A stream with a consumer group.
    Streamed,
    /// A sorted set, scored by the time in ms at which a job is due.
    Scheduled,
}

/// What comes to a queue, and who works on it.
pub struct Plan {
    /// Its key, and its name in the exporter's labels.
    pub queue: &'static str,
    kind: Kind,
    per_second: f64,
    /// So many jobs at once, from the start on, each so many seconds.
    burst: (u64, u64),
    workers: usize,
    /// How long a worker takes for a job.
    job_ms: u64,
}

#[rustfmt::skip]
const PLANS: [Plan; 5] = [
    // Now and then a site map comes: so one sees the queue grow and shrink, and not just stay empty.
    Plan { queue: "crawl", kind: Kind::Popped, per_second: 40.0, burst: (240, 30), workers: 4, job_ms: 80 },
    Plan { queue: "ocr", kind: Kind::Moved, per_second: 0.0, burst: (60, 20), workers: 2, job_ms: 600 },
    Plan { queue: "parse", kind: Kind::Streamed, per_second: 25.0, burst: (0, 1), workers: 3, job_ms: 100 },
    Plan { queue: "label", kind: Kind::Scheduled, per_second: 10.0, burst: (0, 1), workers: 2, job_ms: 150 },
    // Its worker has died, and nobody has noticed.
    Plan { queue: "thumbnails", kind: Kind::Popped, per_second: 3.0, burst: (0, 1), workers: 0, job_ms: 0 },
];
/// How many jobs one more worker of the stream takes before it dies with them.
const LOST: usize = 5;
/// How often idle clients look for something to do.
const TICK: Duration = Duration::from_millis(10);

impl Plan {
    /// How many jobs must have come after so long.
    fn due(&self, elapsed: Duration) -> u64 {
        let (jobs, every) = self.burst;
        (elapsed.as_secs_f64() * self.per_second) as u64 + jobs * (1 + elapsed.as_secs() / every)
    }
}

/// The truth of one queue: the jobs that wait, each with the moment since which a worker may take it.
pub struct Queue {
    /// Where it comes from.
    pub plan: &'static Plan,
    jobs: Mutex<BTreeMap<u64, Instant>>,
}

impl Queue {
    fn jobs(&self) -> MutexGuard<'_, BTreeMap<u64, Instant>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of the jobs that wait now waited at that moment.
    pub fn waiting(&self, at: Instant) -> usize {
        self.jobs().values().filter(|since| **since <= at).count()
    }

    /// How many seconds the oldest has waited; 0 where none waits.
    pub fn oldest(&self) -> f64 {
        self.jobs().values().min().map_or(0.0, |since| since.elapsed().as_secs_f64())
    }
}

/// Connects to Redis.
pub fn connect(url: &str) -> Result<Connection> {
    Ok(redis::Client::open(url)?.get_connection()?)
}

/// Sends one command, given word by word.
pub fn send<T: FromRedisValue>(redis: &mut Connection, words: &[&str]) -> RedisResult<T> {
    Cmd::new().arg(words).query(redis)
}

fn unix_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

/// A job that a worker holds.
struct Job {
    payload: String,
    /// Its id in the stream; empty elsewhere.
    entry: String,
}

impl Job {
    /// The number in `{"id":123,...`.
    fn id(&self) -> Option<u64> {
        self.payload.split([':', ',']).nth(1)?.parse().ok()
    }
}

/// A producer or a worker.
struct Client {
    redis: Connection,
    queue: Arc<Queue>,
    name: String,
    on: Arc<AtomicBool>,
}

impl Client {
    fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn push(&mut self) -> RedisResult<()> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let (key, kind, id) = (self.queue.plan.queue, self.queue.plan.kind, NEXT.fetch_add(1, Ordering::Relaxed));
        // Every other one is due at once, the rest within 20 seconds, evenly spread by a prime.
        let later = kind == Kind::Scheduled && id.is_multiple_of(2);
        let delay = Duration::from_millis(if later { id * 7919 % 20_000 } else { 0 });
        let payload = format!(r#"{{"id":{id},"url":"https://example.com/page/{id}"}}"#);
        // Noted before it is sent: else a worker could take it before it is known.
        self.queue.jobs().insert(id, Instant::now() + delay);
        let due = (unix_ms() + delay.as_millis()).to_string();
        match kind {
            Kind::Popped | Kind::Moved => send(&mut self.redis, &["LPUSH", key, &payload]),
            Kind::Streamed => send(&mut self.redis, &["XADD", key, "*", "job", &payload]),
            Kind::Scheduled => send(&mut self.redis, &["ZADD", key, &due, &payload]),
        }
    }

    /// Takes a job where there is one, and notes that it waits no more.
    fn take(&mut self) -> RedisResult<Option<Job>> {
        let key = self.queue.plan.queue;
        let job = match self.queue.plan.kind {
            Kind::Popped => {
                let popped: Option<(String, String)> = send(&mut self.redis, &["BRPOP", key, "0.2"])?;
                popped.map(|(_, payload)| Job { payload, entry: String::new() })
            }
            Kind::Moved => {
                let processing = format!("{key}:processing");
                let moved: Option<String> = send(&mut self.redis, &["LMOVE", key, &processing, "RIGHT", "LEFT"])?;
                moved.map(|payload| Job { payload, entry: String::new() })
            }
            Kind::Streamed => self.take_entry(key)?,
            Kind::Scheduled => self.take_due(key)?,
        };
        if let Some(id) = job.as_ref().and_then(Job::id) {
            self.queue.jobs().remove(&id);
        }
        Ok(job)
    }

    fn take_entry(&mut self, key: &str) -> RedisResult<Option<Job>> {
        type Entries = Vec<(String, (String, String))>;
        let group = ["XREADGROUP", "GROUP", "workers", &self.name];
        let read = [&group[..], &["COUNT", "1", "BLOCK", "200", "STREAMS", key, ">"]].concat();
        let streams: Option<Vec<(String, Entries)>> = send(&mut self.redis, &read)?;
        let entry = streams.into_iter().flatten().flat_map(|(_, entries)| entries).next();
        Ok(entry.map(|(entry, (_, payload))| Job { payload, entry }))
    }

    /// Two workers may see the same job: it is whose ZREM removes it.
    fn take_due(&mut self, key: &str) -> RedisResult<Option<Job>> {
        let range = ["ZRANGEBYSCORE", key, "-inf", &unix_ms().to_string(), "LIMIT", "0", "1"];
        let due: Vec<String> = send(&mut self.redis, &range)?;
        let Some(payload) = due.into_iter().next() else { return Ok(None) };
        let mine: bool = send(&mut self.redis, &["ZREM", key, &payload])?;
        Ok(mine.then_some(Job { payload, entry: String::new() }))
    }

    fn finish(&mut self, job: &Job) -> RedisResult<()> {
        let key = self.queue.plan.queue;
        match self.queue.plan.kind {
            Kind::Popped | Kind::Scheduled => Ok(()),
            Kind::Streamed => send(&mut self.redis, &["XACK", key, "workers", &job.entry]),
            Kind::Moved => {
                send::<()>(&mut self.redis, &["LREM", &format!("{key}:processing"), "1", &job.payload])?;
                send(&mut self.redis, &["INCR", &format!("{key}:done")])
            }
        }
    }

    fn produce(mut self) -> RedisResult<()> {
        let (start, mut pushed) = (Instant::now(), 0);
        while self.is_on() {
            while pushed < self.queue.plan.due(start.elapsed()) {
                self.push()?;
                pushed += 1;
            }
            thread::sleep(TICK);
        }
        Ok(())
    }

    fn work(mut self) -> RedisResult<()> {
        while self.is_on() {
            if let Some(job) = self.take()? {
                thread::sleep(Duration::from_millis(self.queue.plan.job_ms));
                self.finish(&job)?;
            } else {
                thread::sleep(TICK);
            }
        }
        Ok(())
    }

    /// Takes a few jobs and dies with them.
    fn lose(mut self) -> RedisResult<()> {
        let mut taken = 0;
        while taken < LOST && self.is_on() {
            taken += usize::from(self.take()?.is_some());
        }
        Ok(())
    }
}

/// Clients that stop together.
struct Crew {
    on: Arc<AtomicBool>,
    threads: Vec<JoinHandle<RedisResult<()>>>,
}

impl Crew {
    fn new() -> Self {
        Self { on: Arc::new(AtomicBool::new(true)), threads: Vec::new() }
    }

    fn add(&mut self, url: &str, queue: &Arc<Queue>, task: fn(Client) -> RedisResult<()>) -> Result {
        let name = format!("client-{}", self.threads.len());
        let client = Client { redis: connect(url)?, queue: Arc::clone(queue), name, on: Arc::clone(&self.on) };
        self.threads.push(thread::spawn(move || task(client)));
        Ok(())
    }

    /// Joins those that have ended, or all; fails where one of them did.
    fn join(&mut self, all: bool) -> Result {
        for thread in self.threads.extract_if(.., |thread| all || thread.is_finished()) {
            thread.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    }

    fn stop(&mut self) -> Result {
        self.on.store(false, Ordering::Relaxed);
        self.join(true)
    }
}

/// All queues with all their clients.
pub struct Workload {
    /// The truth.
    pub queues: Vec<Arc<Queue>>,
    producers: Crew,
    workers: Crew,
}

impl Workload {
    /// Starts all producers and workers.
    pub fn start(url: &str) -> Result<Self> {
        let mut workload = Self { queues: Vec::new(), producers: Crew::new(), workers: Crew::new() };
        for plan in &PLANS {
            let queue = Arc::new(Queue { plan, jobs: Mutex::default() });
            workload.producers.add(url, &queue, Client::produce)?;
            if plan.kind == Kind::Streamed {
                workload.workers.add(url, &queue, Client::lose)?;
            }
            for _ in 0..plan.workers {
                workload.workers.add(url, &queue, Client::work)?;
            }
            workload.queues.push(queue);
        }
        Ok(workload)
    }

    /// Fails where a client did.
    pub fn check(&mut self) -> Result {
        self.producers.join(false)?;
        self.workers.join(false)
    }

    /// Stops everything, and waits until the exporter must have seen that. The workers stop first, so that jobs are left
    /// waiting: a comparison of zeros would prove little.
    pub fn stop(&mut self) -> Result {
        self.workers.stop()?;
        thread::sleep(Duration::from_secs(1));
        self.producers.stop()?;
        thread::sleep(Duration::from_secs(3));
        Ok(())
    }
}
