//! What a ScaledObject asks for: a queue, which of its numbers, and what is its target for each worker.

use crate::curve::Age;
use crate::snapshot::Row;
use crate::spec::Policy;
use std::collections::HashMap;
use tonic::Status;

/// One number of one queue, as the metadata of a trigger choose it.
#[derive(Clone, Debug, PartialEq)]
pub struct Aspect {
    /// The `queue` label.
    pub queue: String,
    /// Which number.
    pub metric: Metric,
    /// The target for each worker, where it is not left to the policy.
    pub target: Option<f64>,
    /// Workers that are there beside those that are scaled: what they do is taken off.
    pub floor: u64,
}

/// Which number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Workers that the queue needs ([`crate::desired`]).
    DesiredWorkers,
    /// Jobs that wait.
    Backlog,
    /// Jobs in flight.
    InFlight,
    /// Seconds that the oldest job has waited.
    Age,
    /// Jobs that come in a second.
    Rate,
}

impl Metric {
    const ALL: [Self; 5] = [Self::DesiredWorkers, Self::Backlog, Self::InFlight, Self::Age, Self::Rate];

    /// Its name in a trigger's metadata, and to the HPA.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::DesiredWorkers => "desired_workers",
            Self::Backlog => "backlog",
            Self::InFlight => "in_flight",
            Self::Age => "age",
            Self::Rate => "rate",
        }
    }
}

impl Aspect {
    /// Reads the metadata of a trigger. Keys that are KEDA's own, or new ones of it, are passed over.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT`, with the key and the remedy.
    pub fn of(metadata: &HashMap<String, String>) -> Result<Self, Status> {
        let value = |key: &str| metadata.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let refuse = |text: String| Err(Status::invalid_argument(text));
        let Some(queue) = value("queue") else {
            return refuse("the trigger's metadata have no queue; it must be the queue's label in /metrics".into());
        };
        let name = value("metric").unwrap_or("desired_workers");
        let Some(metric) = Metric::ALL.into_iter().find(|metric| metric.name() == name) else {
            let names = Metric::ALL.map(Metric::name).join(", ");
            return refuse(format!("metric is {name:?}; it must be one of {names}"));
        };
        let target = match value("target").map(|text| (text, text.parse::<f64>())) {
            None => None,
            Some((_, Ok(target))) if target.is_finite() && target > 0.0 => Some(target),
            Some((text, _)) => return refuse(format!("target is {text:?}; it must be a number over 0")),
        };
        let floor = match value("floor").map(|text| (text, text.parse())) {
            None => 0,
            Some((_, Ok(floor))) => floor,
            Some((text, _)) => return refuse(format!("floor is {text:?}; it must be a whole number of 0 or more")),
        };
        Ok(Self { queue: queue.into(), metric, target, floor })
    }

    /// The target for each worker.
    ///
    /// # Errors
    /// `FAILED_PRECONDITION` where neither the trigger nor the policy says it.
    pub fn target(&self, policy: &Policy) -> Result<f64, Status> {
        let slots = policy.worker_slots.unwrap_or(1).max(1) as f64;
        let (target, setting) = match self.metric {
            Metric::DesiredWorkers => (Some(1.0), ""),
            Metric::InFlight => (Some(slots), ""),
            Metric::Backlog => (policy.scale_up_depth.map(|depth| depth as f64), "scale_up_depth"),
            Metric::Age => (policy.objective_age.map(|age| age.as_secs_f64()), "objective_age"),
            Metric::Rate => (policy.job_seconds.map(|time| slots / time.as_secs_f64()), "job_seconds"),
        };
        self.target.or(target).filter(|target| *target > 0.0).ok_or_else(|| {
            let Self { queue, metric, .. } = self;
            let name = metric.name();
            Status::failed_precondition(format!(
                "queue {queue:?} has no {setting} in QUEUES_FILE, which is the target of {name}; give it, or target in the trigger"
            ))
        })
    }

    /// The value now.
    ///
    /// # Errors
    /// `UNAVAILABLE` where the queue can't be read, `FAILED_PRECONDITION` where this number can't be known of it now.
    pub fn value(&self, row: &Row) -> Result<f64, Status> {
        let reading = row.reading.as_ref().ok_or_else(|| unreadable(row))?;
        let value = match self.metric {
            Metric::DesiredWorkers => reading.desired.map(|workers| workers as f64),
            Metric::Backlog => reading.backlog().map(|jobs| jobs as f64),
            Metric::InFlight => reading.seen.in_flight.map(|jobs| jobs as f64),
            Metric::Age => match reading.seen.age {
                Age::Known { seconds, .. } => Some(seconds),
                _ => None,
            },
            Metric::Rate => reading.totals.arrival_rate,
        };
        let unknown = || {
            let Self { queue, metric, .. } = self;
            Status::failed_precondition(format!("the {} of queue {queue:?} can't be known now", metric.name()))
        };
        let value = value.filter(|value| value.is_finite()).ok_or_else(unknown)?;
        // An age is not shared out among workers.
        let less = if self.metric == Metric::Age { 0.0 } else { self.floor as f64 * self.target(&row.id.policy)? };
        Ok((value - less).max(0.0))
    }
}

/// That a queue can't be read, and why.
#[must_use]
pub fn unreadable(row: &Row) -> Status {
    let problem = row.problem.as_deref().unwrap_or("it was not read yet");
    Status::unavailable(format!("queue {:?} can't be read: {problem}", row.id.label))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::Observation;
    use crate::snapshot::{Identity, Reading};
    use std::sync::Arc;
    use std::time::Duration;
    use tonic::Code;

    fn aspect(pairs: &[(&str, &str)]) -> Result<Aspect, Status> {
        Aspect::of(&pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect())
    }

    fn row(reading: Option<Reading>, policy: Policy) -> Row {
        let id = Arc::new(Identity::new("a".into(), "list", policy));
        Row { id, reading: reading.map(Arc::new), problem: Some("wrong type".into()), trace: Arc::default() }
    }

    fn reading() -> Reading {
        let seen = Observation { length: Some(90), due: Some(10), in_flight: Some(3), ..Observation::default() };
        Reading { seen, totals: Default::default(), desired: Some(5) }
    }

    #[test]
    fn bad_metadata_are_refused_with_the_remedy() {
        let cases: [(&[(&str, &str)], &str); 4] = [
            (&[], "have no queue"),
            (&[("queue", "a"), ("metric", "depth")], "must be one of desired_workers"),
            (&[("queue", "a"), ("target", "0")], "must be a number over 0"),
            (&[("queue", "a"), ("floor", "-1")], "must be a whole number"),
        ];
        for (pairs, part) in cases {
            let status = aspect(pairs).unwrap_err();
            assert!(status.code() == Code::InvalidArgument && status.message().contains(part), "{status}");
        }
    }

    #[test]
    fn the_target_is_the_policys_unless_the_trigger_says_otherwise() {
        let policy = Policy {
            scale_up_depth: Some(20),
            objective_age: Some(Duration::from_secs(30)),
            job_seconds: Some(Duration::from_secs(2)),
            worker_slots: Some(4),
            ..Policy::default()
        };
        let target = |metric| aspect(&[("queue", "a"), ("metric", metric)]).unwrap().target(&policy).unwrap();
        let targets = ["desired_workers", "backlog", "in_flight", "age", "rate"].map(target);
        assert_eq!(targets, [1.0, 20.0, 4.0, 30.0, 2.0]);
        let own = aspect(&[("queue", "a"), ("metric", "backlog"), ("target", "7.5")]).unwrap();
        assert_eq!(own.target(&policy).unwrap(), 7.5);
        let status = aspect(&[("queue", "a"), ("metric", "age")]).unwrap().target(&Policy::default()).unwrap_err();
        assert!(status.message().contains("no objective_age in QUEUES_FILE"), "{status}");
    }

    #[test]
    fn a_number_that_is_not_known_is_an_error_and_never_0() {
        let policy = Policy { scale_up_depth: Some(20), ..Policy::default() };
        let rate = aspect(&[("queue", "a"), ("metric", "rate"), ("target", "1")]).unwrap();
        assert_eq!(rate.value(&row(Some(reading()), policy)).unwrap_err().code(), Code::FailedPrecondition);
        let backlog = aspect(&[("queue", "a"), ("metric", "backlog")]).unwrap();
        assert_eq!(backlog.value(&row(Some(reading()), policy)).unwrap(), 100.0);
        let status = backlog.value(&row(None, policy)).unwrap_err();
        assert!(status.code() == Code::Unavailable && status.message().contains("wrong type"), "{status}");
    }

    #[test]
    fn what_the_floor_does_is_taken_off() {
        let policy = Policy { scale_up_depth: Some(20), ..Policy::default() };
        let value = |metric| {
            aspect(&[("queue", "a"), ("metric", metric), ("floor", "2")]).unwrap().value(&row(Some(reading()), policy))
        };
        assert_eq!(
            [value("desired_workers"), value("backlog"), value("in_flight")].map(Result::unwrap),
            [3.0, 60.0, 1.0]
        );
    }
}
