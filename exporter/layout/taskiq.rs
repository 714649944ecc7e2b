//! `taskiq:QUEUE`: [TaskIQ](https://github.com/taskiq-python/taskiq-redis) with its list or its stream broker. Key names
//! from its `redis_broker.py`.
//!
//! | option | |
//! |---|---|
//! | `group` | of the stream broker, `consumer_group_name`: `taskiq` unless set |
//!
//! The key is the queue's name, bare. A list (LPUSH, taken from the right) holds no time, and jobs in flight are nowhere:
//! the age and the jobs done are seen from outside, as they are taken. A stream is read as [`super::stream`] reads it;
//! failed jobs are acknowledged as well, and jobs fetched ahead are in flight.
//!
//! Cost of a look: see [`crate::fifo`] or [`super::stream`].

use super::detect::Detect;
use super::list_queue::{Line, ListQueue, Nothing, Stored};
use super::{Layout, Name, Options, stream};

pub(super) fn build(name: Name, options: &mut Options) -> Box<dyn Layout> {
    let key = name.queue.clone();
    let list = ListQueue::boxed(vec![Line::new(key.clone(), true, Stored::Nowhere)], Nothing);
    options.assume("group", "taskiq");
    let stream = stream::build(Name { prefix: name.prefix, queue: key.clone() }, options);
    Detect::boxed(key, [("list", list), ("stream", stream)])
}
