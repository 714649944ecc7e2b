//! `resque:QUEUE`: [Resque](https://github.com/resque/resque). Key names from its `data_store.rb`.
//!
//! | option | |
//! |---|---|
//! | `prefix` | the namespace, colon included; `resque:` unless set |
//!
//! Waiting jobs are JSON in the list `queue:QUEUE` (RPUSH, taken from the left), which holds no time: the age and the jobs
//! done are seen from outside. Jobs in flight, failed ones and counters are of all queues together: see
//! [`super::resque_workers`].
//!
//! Cost of a look: see [`crate::fifo`].

use super::list_queue::{Line, ListQueue, Nothing, Stored};
use super::{Layout, Options, join};
use bytes::Bytes;

pub(super) fn build(key: Bytes, options: &mut Options) -> Box<dyn Layout> {
    let prefix = options.bytes("prefix").unwrap_or_else(|| Bytes::from_static(b"resque:"));
    let list = join(&[&prefix, b"queue:", &key]);
    ListQueue::boxed(vec![Line::new(list, false, Stored::Nowhere)], Nothing)
}
