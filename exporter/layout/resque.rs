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
use super::{Layout, Name, Options, join};

pub(super) fn build(name: Name, _options: &mut Options) -> Box<dyn Layout> {
    let Name { prefix, queue } = name;
    let list = join(&[&prefix, b"queue:", &queue]);
    ListQueue::boxed(vec![Line::new(list, false, Stored::Nowhere)], Nothing)
}
