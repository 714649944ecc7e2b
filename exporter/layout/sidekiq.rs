//! `sidekiq:QUEUE`: [Sidekiq](https://github.com/sidekiq/sidekiq) 6 to 8. Key names from its `client.rb`, `launcher.rb` and
//! `api.rb`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | the namespace of redis-namespace, colon included; none unless set |
//!
//! Waiting jobs are JSON in the list `queue:QUEUE` (LPUSH, taken from the right) with `enqueued_at`, in seconds up to
//! Sidekiq 7 and in milliseconds since 8, stamped anew when a job is promoted. What is scheduled, to be retried or dead is
//! in sets of all queues together, and so are the counters: see [`super::sidekiq_processes`], which also tells the jobs in
//! flight. Jobs done are seen from outside, as they are taken from the list.
//!
//! Cost of a look: see [`crate::fifo`], and LRANGE of the oldest job.

use super::list_queue::{Line, ListQueue, Nothing, Stored};
use super::{Layout, Name, Options, join};
use crate::payload::LIMIT;
use crate::times;

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let list = join(&[&prefix, b"queue:", &queue]);
    ListQueue::boxed(vec![Line::new(list, true, Stored::Element(enqueued_at))], Nothing)
}

pub(super) fn enqueued_at(job: &[u8]) -> Option<f64> {
    if job.len() > LIMIT {
        return None;
    }
    let job: serde_json::Value = serde_json::from_slice(job).ok()?;
    times::from_json(job.get("enqueued_at")?, None)
}
