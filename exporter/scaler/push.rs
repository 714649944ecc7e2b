//! When a stream says that its queue has work.
//!
//! It says so when the first job comes, and again while jobs wait and nothing tells of a worker: KEDA may have scaled to zero by what
//! it had read a moment before. It never says that a queue has no work: KEDA takes a worker away by its own polls, and versions before
//! 2.18 took all away at such a message, whatever other triggers said.

use crate::snapshot::Reading;
use std::time::{Duration, Instant};

/// From a push to its first repetition; each further one waits twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait between two: KEDA's own default for its polls.
const LONGEST: Duration = Duration::from_secs(30);

/// What was said on one stream.
#[derive(Debug, Default)]
pub struct Push {
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    again: Instant,
    wait: Duration,
    processed: Option<u64>,
}

impl Push {
    /// Takes in what is known of the queue at `now`; returns whether to push.
    pub fn look(&mut self, reading: Option<&Reading>, now: Instant) -> bool {
        let Some(active) = reading.and_then(Reading::is_active) else { return false };
        let Some(reading) = reading.filter(|_| active) else {
            self.said = None;
            return false;
        };
        let processed = reading.totals.processed;
        match &mut self.said {
            None => {
                self.said = Some(Said { again: now + FIRST, wait: FIRST, processed });
                true
            }
            // A worker is there.
            Some(said) if reading.seen.in_flight.is_some_and(|jobs| jobs > 0) || processed > said.processed => {
                *said = Said { again: now + FIRST, wait: FIRST, processed };
                false
            }
            Some(said) if now >= said.again => {
                said.wait = (said.wait * 2).min(LONGEST);
                said.again = now + said.wait;
                true
            }
            Some(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::Totals;
    use crate::layout::Observation;

    fn reading(length: u64, in_flight: Option<u64>, processed: u64) -> Reading {
        let seen = Observation { length: Some(length), in_flight, ..Observation::default() };
        Reading { seen, totals: Totals { processed: Some(processed), ..Totals::default() }, desired: None }
    }

    /// The seconds of ten minutes in which it pushes, with a look each second.
    fn pushes(reading: impl Fn(u64) -> Option<Reading>) -> Vec<u64> {
        let (mut push, start) = (Push::default(), Instant::now());
        let pushes = |second: &u64| push.look(reading(*second).as_ref(), start + Duration::from_secs(*second));
        (0..120).filter(pushes).collect()
    }

    #[test]
    fn once_when_a_worker_takes_the_job() {
        assert_eq!(pushes(|second| Some(reading(1, Some(u64::from(second > 0)), 0))), [0]);
        assert_eq!(pushes(|second| Some(reading(1, None, second))), [0]);
    }

    #[test]
    fn less_and_less_often_while_nobody_comes() {
        assert_eq!(pushes(|_| Some(reading(1, Some(0), 0))), [0, 1, 3, 7, 15, 31, 61, 91]);
    }

    #[test]
    fn anew_for_each_first_job() {
        assert_eq!(pushes(|second| Some(reading(u64::from(second % 40 == 5), Some(0), 0))), [5, 45, 85]);
    }

    #[test]
    fn a_queue_that_cant_be_read_says_nothing_and_forgets_nothing() {
        assert_eq!(pushes(|_| None), [0; 0]);
        let away = |second| (second % 2 == 0).then(|| reading(1, Some(1), 0));
        assert_eq!(pushes(away), [0]);
    }
}
