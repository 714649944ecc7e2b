//! Removals from a list as keyspace notifications count them, where a look can't.
//!
//! Redis tells of one event a *command*: `RPOP key 3` is one event and three jobs. So the events are believed only while
//! they agree with what looks see when those are exact; and not before the first event has come, for a server whose
//! `notify-keyspace-events` lacks `K` and `l` sends none. Where they can't be believed, a gap stays a gap.
//!
//! The events and the looks travel on two connections, so an event may be counted one look early or late; sums are right.

use crate::fifo::Step;

/// The removals counted so far, as a look finds them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PopCount {
    /// Events since the subscription began.
    pub events: u64,
    /// Which subscription: events were lost between two.
    pub subscription: u64,
}

/// What is believed of one list's events.
#[derive(Debug, Default)]
pub struct Pops {
    /// Where the subscription that is followed began.
    start: Option<PopCount>,
    /// Departures told since then.
    told: i64,
    length: u64,
    disproved: bool,
}

impl Pops {
    /// How far events and departures may drift apart: what is on its way between two connections.
    const SLACK: i64 = 64;

    /// Replaces a step that is a lower bound by the exact one that the events tell, where they can be believed.
    pub fn correct(&mut self, step: Option<Step>, length: u64, now: Option<PopCount>) -> Option<Step> {
        let was = std::mem::replace(&mut self.length, length);
        let followed = self.start.zip(now).filter(|(start, now)| start.subscription == now.subscription);
        let (Some(step), Some((start, now))) = (step, followed) else {
            (self.start, self.told) = (now, 0);
            return step;
        };
        // All events since the start less all that was told of them: one that came late is made good here.
        let removed = i64::try_from(now.events - start.events).unwrap_or(i64::MAX) - self.told;
        let arrivals = removed + length as i64 - was as i64;
        let corrected = if step.exact {
            self.disproved |= (removed - step.departures).abs() > Self::SLACK + step.departures.abs() / 20;
            step
        } else if self.disproved || now.events == 0 || removed < 0 || arrivals < 0 {
            step
        } else {
            Step { arrivals: arrivals.unsigned_abs(), departures: removed, exact: true }
        };
        self.told += corrected.departures;
        Some(corrected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(events: u64) -> Option<PopCount> {
        Some(PopCount { events, subscription: 1 })
    }

    fn gap(arrivals: u64, departures: i64) -> Option<Step> {
        Some(Step { arrivals, departures, exact: false })
    }

    #[test]
    fn a_gap_is_closed_by_events() {
        let mut pops = Pops::default();
        assert_eq!(pops.correct(None, 0, count(0)), None);
        assert_eq!(pops.correct(gap(3, 0), 3, count(40)), Some(Step { arrivals: 43, departures: 40, exact: true }));
    }

    #[test]
    fn no_event_yet_proves_nothing() {
        let mut pops = Pops::default();
        pops.correct(None, 0, count(0));
        assert_eq!(pops.correct(gap(0, 0), 0, count(0)), gap(0, 0));
    }

    #[test]
    fn a_new_subscription_has_lost_events() {
        let mut pops = Pops::default();
        pops.correct(None, 0, count(10));
        let now = Some(PopCount { events: 3, subscription: 2 });
        assert_eq!(pops.correct(gap(0, 0), 0, now), gap(0, 0));
    }

    #[test]
    fn events_that_stand_for_many_jobs_are_not_believed() {
        let mut pops = Pops::default();
        pops.correct(None, 1000, count(0));
        pops.correct(Some(Step { arrivals: 0, departures: 300, exact: true }), 700, count(100));
        assert_eq!(pops.correct(gap(0, 700), 0, count(300)), gap(0, 700));
    }
}
