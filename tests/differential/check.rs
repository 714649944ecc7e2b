//! The numbers and the age that are published of a queue, held against what is true.

use super::truth::{Came, Sight, Truth};
use queue_exporter::metrics::{Number, QUEUE_FAMILIES};
use queue_exporter::snapshot::Row;
use std::time::{Duration, Instant};

/// Rounding of times, in seconds.
const ROUNDING: f64 = 1e-5;
/// The same of times that are stored: BullMQ's due times are a little more than whole milliseconds.
const STORED: f64 = 0.001;

/// What is published of one queue, by the name of the family.
pub struct Published<'a>(pub &'a Row);

impl Published<'_> {
    fn real(&self, name: &str) -> Option<f64> {
        let family = QUEUE_FAMILIES.iter().find(|family| family.name.strip_prefix("redis_queue_") == Some(name));
        match (family.unwrap_or_else(|| panic!("no family {name}")).value)(self.0)? {
            Number::Whole(number) => Some(number as f64),
            Number::Real(number) => Some(number),
        }
    }

    pub fn whole(&self, name: &str) -> Option<u64> {
        self.real(name).map(|number| number as u64)
    }

    pub fn is_up(&self) -> bool {
        self.real("up") == Some(1.0)
    }

    /// Series beside `up` and the policy, of which there is none here.
    pub fn readings(&self) -> usize {
        QUEUE_FAMILIES.iter().filter(|family| (family.value)(self.0).is_some()).count() - 1
    }
}

/// When a poll was made: its start and end, and the time in the history.
#[derive(Clone, Copy)]
pub struct Moment {
    pub start: Instant,
    pub end: Instant,
    pub now: u64,
}

/// Differences, each in words.
pub type Differences = Vec<String>;

/// The numbers of one moment.
pub fn gauges(published: &Published, truth: &Truth, differences: &mut Differences) {
    let backlog = truth.length + truth.due.unwrap_or(0);
    let wanted = [
        ("length", Some(truth.length)),
        ("in_flight", truth.in_flight),
        ("due", truth.due),
        ("delayed", truth.delayed),
        ("retrying", truth.retrying),
        ("dead", truth.dead),
        ("abandoned", truth.abandoned),
        ("consumers", truth.consumers),
        ("slots", truth.slots),
        ("paused", truth.paused.map(u64::from)),
        ("backlog", Some(backlog)),
        ("up", Some(1)),
    ];
    for (name, wanted) in wanted {
        let got = published.whole(name);
        if got != wanted {
            differences.push(format!("{name} is {got:?}, truly {wanted:?}"));
        }
    }
}

/// How an age was published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    Known,
    Least,
    Nothing,
}

/// The age. `fresh` is the first batch of which every job came after the first look at it.
pub fn age(
    published: &Published,
    truth: &Truth,
    moment: Moment,
    batches: &[(Instant, Instant)],
    fresh: usize,
    differences: &mut Differences,
) -> Told {
    // Each job's age lies between two bounds: by the history's clock they are one, in real time a batch and a poll apart.
    let by_clock = |since: &u64| {
        let seconds = moment.now.saturating_sub(*since) as f64 / 1e3;
        (seconds - STORED, seconds + STORED)
    };
    let in_real_time = |(first, last): &Came| {
        let ((before, _), (_, after)) = (batches[*first], batches[*last]);
        (seconds(moment.start, after), seconds(moment.end, before))
    };
    let ages: Vec<(f64, f64)> = truth.since.iter().map(by_clock).chain(truth.seen.iter().map(in_real_time)).collect();
    let least = ages.iter().map(|(least, _)| *least).fold(0.0, f64::max);
    let most = ages.iter().map(|(_, most)| *most).fold(0.0, f64::max);
    let sight = match truth.sight {
        Sight::Sure if truth.seen.iter().any(|(first, _)| *first < fresh) => Sight::Partly,
        sight => sight,
    };
    // What else may be taken for the age of one of them.
    let others: Vec<(f64, f64)> = match sight {
        Sight::Sure => Vec::new(),
        _ => truth.since_too.iter().map(by_clock).chain(truth.seen_too.iter().map(in_real_time)).collect(),
    };
    let highest = others.iter().map(|(_, most)| *most).fold(most, f64::max);
    let said = published.real("oldest_job_age_seconds").zip(published.real("oldest_job_age_error_seconds"));
    let at_least = published.real("oldest_job_age_at_least_seconds");
    let mut wrong = |text: String| differences.push(format!("{text}, truly {least:.4} to {most:.4} ({sight:?})"));
    match (said, at_least) {
        (Some((age, error)), None) => {
            let matches = |least: f64, most: f64| age - error <= most + ROUNDING && age + error >= least - ROUNDING;
            let is_one_of = |ages: &[(f64, f64)]| ages.iter().any(|(least, most)| matches(*least, *most));
            let is_true = match sight {
                Sight::Sure => matches(least, most),
                Sight::Younger => age - error <= highest + ROUNDING,
                Sight::Partly => matches(least, most) || is_one_of(&others),
                // It is that of one of the jobs that wait.
                Sight::Hidden => is_one_of(&ages) || is_one_of(&others),
            };
            if !is_true || error < 0.0 || ages.is_empty() && (age, error) != (0.0, 0.0) {
                wrong(format!("the age is {age:.4} give or take {error:.4}"));
            }
            Told::Known
        }
        (None, Some(age)) => {
            if age > highest + ROUNDING || sight == Sight::Sure {
                wrong(format!("the age is at least {age:.4}"));
            }
            Told::Least
        }
        (None, None) => {
            if sight == Sight::Sure {
                wrong("the age is absent".into());
            }
            Told::Nothing
        }
        (Some(_), Some(_)) => {
            wrong("the age is known and unknown".into());
            Told::Nothing
        }
    }
}

fn seconds(later: Instant, earlier: Instant) -> f64 {
    later.checked_duration_since(earlier).unwrap_or(Duration::ZERO).as_secs_f64()
}
