//! What the producers and workers of each library say to Redis, and what is true of its queue then.

mod apalis;
mod arq;
mod asynq;
mod bull;
mod bullmq;
mod celery;
mod dramatiq;
mod huey;
mod laravel;
mod list;
mod resque;
mod rq;
mod saq;
mod sidekiq;
mod stream;
mod taskiq;
mod zset;

use super::history::Act;
use super::jobs::Jobs;
use super::truth::Truth;
use super::world::World;

/// A queue of one library.
pub trait Library {
    /// As it stands in `QUEUES`; the name is the `queue` label.
    fn spec(&self) -> String;

    /// The key of the waiting jobs.
    fn key(&self) -> String;

    /// Does it to the queue in Redis, and in the model.
    fn act(&mut self, act: Act, world: &mut World);

    fn jobs(&self) -> &Jobs;

    /// What is true now.
    fn truth(&self, now: u64) -> Truth;
}

/// All of them, each with keys of its own.
pub fn all() -> Vec<Box<dyn Library>> {
    vec![
        Box::new(list::List::repeating("l1")),
        Box::new(list::List::with_companions("l2")),
        Box::new(list::List::counted("l3")),
        Box::new(zset::SortedSet::bare("z1")),
        Box::new(zset::SortedSet::counted("z2")),
        Box::new(stream::Stream::bare("s1")),
        Box::new(stream::Stream::with_companions("s2")),
        Box::new(apalis::Apalis::new("ap")),
        Box::new(arq::Arq::new("arq")),
        Box::new(asynq::Asynq::new("as")),
        Box::new(bull::Bull::new("b4")),
        Box::new(bullmq::BullMq::new("b5", 5, false)),
        Box::new(bullmq::BullMq::new("b6", 6, true)),
        Box::new(celery::Celery::new("ce")),
        Box::new(dramatiq::Dramatiq::new("dr")),
        Box::new(huey::Huey::new("hu")),
        Box::new(huey::PriorityHuey::new("hp")),
        Box::new(laravel::Laravel::plain("la")),
        Box::new(laravel::Laravel::horizon("lh")),
        Box::new(laravel::Laravel::old("lo")),
        Box::new(resque::Resque::new("re")),
        Box::new(rq::Rq::new("rq")),
        Box::new(saq::Saq::new("sq")),
        Box::new(sidekiq::Sidekiq::new("k7", false)),
        Box::new(sidekiq::Sidekiq::new("k8", true)),
        Box::new(taskiq::list("ti")),
        Box::new(stream::Stream::of_taskiq("ts")),
    ]
}

/// Whole seconds, as milliseconds.
fn whole_seconds(millis: u64) -> u64 {
    millis / 1_000 * 1_000
}

/// A time as Python and JavaScript write it into JSON and hashes.
fn iso(millis: u64) -> String {
    jiff::Timestamp::from_millisecond(millis as i64).unwrap().to_string()
}
