//! Real consumers of a real queue: one for each pod of a worker that is Running and Ready. A pod that is deleted has its worker
//! take no more jobs, end what it has within the grace period, and go; what it could not end is a job killed in flight.

use anyhow::Result;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams};
use kube::{Client, ResourceExt};
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often the pods are looked at.
const LOOK: Duration = Duration::from_millis(200);

/// What the workers of one queue have done.
#[derive(Default)]
pub struct Done {
    pub jobs: AtomicU64,
    /// Jobs that were cut off with their worker.
    pub killed: AtomicU64,
    /// Workers that take jobs.
    pub ready: AtomicU64,
}

/// The workers of one queue, until this is dropped.
pub struct Workers {
    pub done: Arc<Done>,
    task: JoinHandle<()>,
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A job: its number, the milliseconds that it takes, and when it was put in.
#[must_use]
pub fn job(number: u64, takes: u64) -> String {
    format!("{number} {takes} {}", Timestamp::now().as_millisecond())
}

fn takes(job: &str) -> Duration {
    Duration::from_millis(job.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(1))
}

impl Workers {
    /// Starts consumers of the list `queue` for the pods of the worker of that name.
    pub fn start(client: &Client, redis_url: &str, queue: &str) -> Self {
        let done = Arc::new(Done::default());
        let task = tokio::spawn(look_after(client.clone(), redis_url.to_string(), queue.to_string(), done.clone()));
        Self { done, task }
    }
}

/// One pod's worker.
struct Worker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn look_after(client: Client, url: String, queue: String, done: Arc<Done>) {
    let api: Api<Pod> = Api::namespaced(client, "jobs");
    let selector = ListParams::default().labels(&format!("queue-exporter/worker={queue}"));
    let mut workers: HashMap<String, Worker> = HashMap::new();
    // Those that leave; they end with this task, too.
    let mut tasks = tokio::task::JoinSet::new();
    loop {
        tokio::time::sleep(LOOK).await;
        // An API server that is away changes nothing for a worker.
        let Ok(pods) = api.list(&selector).await else { continue };
        let mut ready = 0;
        for pod in &pods {
            let name = pod.name_any();
            let leaving = pod.metadata.deletion_timestamp.is_some();
            if is_ready(pod) && !leaving {
                ready += 1;
                workers.entry(name).or_insert_with(|| {
                    let (stop, stopped) = watch::channel(false);
                    let work = work(url.clone(), queue.clone(), done.clone(), stopped);
                    Worker { stop, task: tokio::spawn(work) }
                });
            } else if leaving {
                match workers.remove(&name) {
                    Some(worker) => {
                        let grace = pod.metadata.deletion_grace_period_seconds.unwrap_or(30).unsigned_abs();
                        tasks.spawn(leave(api.clone(), name, worker, grace, done.clone()));
                    }
                    // It never worked, or it is being seen off.
                    None if !is_ready(pod) => {
                        let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
                    }
                    None => {}
                }
            }
        }
        // A pod that is gone without a word took its worker with it.
        let there: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        workers.retain(|name, _| {
            let stays = there.contains(name);
            if !stays {
                done.killed.fetch_add(1, Ordering::Relaxed);
            }
            stays
        });
        done.ready.store(ready, Ordering::Relaxed);
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|one| one.type_ == "Ready" && one.status == "True"))
}

/// SIGTERM, the grace period, SIGKILL; then the pod is removed.
async fn leave(api: Api<Pod>, name: String, mut worker: Worker, grace: u64, done: Arc<Done>) {
    let _ = worker.stop.send(true);
    if tokio::time::timeout(Duration::from_secs(grace), &mut worker.task).await.is_err() {
        worker.task.abort();
        done.killed.fetch_add(1, Ordering::Relaxed);
    }
    let _ = api.delete(&name, &DeleteParams::default().grace_period(0)).await;
}

async fn work(url: String, queue: String, done: Arc<Done>, stopped: watch::Receiver<bool>) {
    let processing = format!("{queue}:processing");
    while !*stopped.borrow() {
        if work_through(&url, &queue, &processing, &done, &stopped).await.is_err() {
            // Redis is away: as a library does, connect anew.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn work_through(
    url: &str,
    queue: &str,
    processing: &str,
    done: &Done,
    stopped: &watch::Receiver<bool>,
) -> Result<()> {
    let mut redis = connect(url).await?;
    while !*stopped.borrow() {
        let taken: Option<String> =
            redis.lmove(queue, processing, redis::Direction::Right, redis::Direction::Left).await?;
        let Some(job) = taken else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let end = Instant::now() + takes(&job);
        tokio::time::sleep_until(end.into()).await;
        // A Redis that is away for a moment does not undo what was done.
        while redis.lrem::<_, _, u64>(processing, 1, &job).await.is_err() {
            tokio::time::sleep(Duration::from_millis(200)).await;
            redis = match connect(url).await {
                Ok(redis) => redis,
                Err(_) => continue,
            };
        }
        done.jobs.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// A connection that gives up in bounded time; with `redis-sentinel://HOST:PORT?sentinelServiceName=NAME` to what the Sentinel names.
pub async fn connect(url: &str) -> Result<MultiplexedConnection> {
    let Some((sentinel, name)) = url.split_once("?sentinelServiceName=") else { return connect_to(url).await };
    let mut sentinel = connect_to(&sentinel.replace("redis-sentinel", "redis")).await?;
    let ask = redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(name).to_owned();
    let (host, port): (String, u16) = ask.query_async(&mut sentinel).await?;
    connect_to(&format!("redis://{host}:{port}")).await
}

async fn connect_to(url: &str) -> Result<MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(2)))
        .set_response_timeout(Some(Duration::from_secs(2)));
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}
