//! `celery:QUEUE`: [Celery](https://github.com/celery/celery) 4 and 5 with Redis as its broker. Key names from kombu's
//! `transport/redis.py`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | `global_keyprefix` of the broker's transport options; none unless set |
//! | `priority_steps` | as there, separated by `|`: `0|3|6|9` unless set |
//! | `sep` | as there; the bytes 06 and 16 unless set |
//!
//! Waiting jobs are messages in one list a priority (LPUSH, taken from the right). No message holds a time, and nothing
//! counts: both are seen from outside, jobs done as they are taken from the lists. What a worker has taken and not
//! acknowledged is in flight ([`super::unacked`]): jobs fetched ahead and jobs with an ETA that wait in a worker's memory
//! among them; jobs that run only with `acks_late`. A job with an ETA waits in the list until a worker takes it.
//!
//! Cost of a look: see [`crate::fifo`] for each of the four lists; an empty one costs LLEN.

use super::list_queue::{Line, ListQueue, Nothing, Stored};
use super::{Layout, Name, Options, join};
use bytes::Bytes;

pub(super) fn build(name: Name, options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let sep = options.bytes("sep").unwrap_or_else(|| Bytes::from_static(b"\x06\x16"));
    let steps = options.text("priority_steps").unwrap_or_else(|| "0|3|6|9".into());
    let numbers: Vec<Option<u8>> = steps.split('|').map(|step| step.parse().ok()).collect();
    if numbers.len() > 10 || numbers.contains(&None) {
        options.fault(format!("option priority_steps is {steps:?}; it must be up to ten numbers such as 0|3|6|9"));
    }
    let lists = numbers.into_iter().flatten().map(|step| match step {
        0 => join(&[&prefix, &queue]),
        step => join(&[&prefix, &queue, &sep, step.to_string().as_bytes()]),
    });
    ListQueue::boxed(lists.map(|list| Line::new(list, true, Stored::Nowhere)).collect(), Nothing)
}
