//! The time of day, to compare stored times with: that of Redis's clock, carried on by this machine's monotonic one. So the ages are right whatever
//! this machine's clock says, or when it is set; ids of streams are of Redis's clock anyway.
//!
//! Cost: one more round trip with one TIME at each connect and once a minute.

use crate::reads::{ReadError, Replies, Reply, digits};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long an answer is good for: two clocks drift apart by some milliseconds in that time.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Seconds since 1970 by this machine's clock.
#[must_use]
pub fn unix_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Whose time it is.
enum Source {
    /// Of the caller, for queues that were recorded.
    Given(Box<dyn Fn() -> f64 + Send + Sync>),
    /// Of Redis at a moment, where it has said it.
    Redis(Option<(Instant, f64)>),
}

/// A clock.
pub struct Clock {
    source: Source,
    asked: Option<Instant>,
    refused: bool,
}

impl Default for Clock {
    fn default() -> Self {
        Self { source: Source::Redis(None), asked: None, refused: false }
    }
}

impl Clock {
    /// One of the caller, in seconds since 1970.
    #[must_use]
    pub fn given(clock: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { source: Source::Given(Box::new(clock)), ..Self::default() }
    }

    /// Seconds since 1970; by this machine's clock where Redis does not say.
    #[must_use]
    pub fn now(&self) -> f64 {
        match &self.source {
            Source::Given(clock) => clock(),
            Source::Redis(Some((at, unix))) => unix + at.elapsed().as_secs_f64(),
            Source::Redis(None) => unix_now(),
        }
    }

    /// Whether Redis is to be asked.
    #[must_use]
    pub fn is_due(&self) -> bool {
        matches!(self.source, Source::Redis(_)) && self.asked.is_none_or(|asked| asked.elapsed() >= GOOD_FOR)
    }

    /// Has Redis asked before it is next read: it may be another server.
    pub fn reconnected(&mut self) {
        self.asked = None;
    }

    /// Takes in what TIME gave, which was sent at this moment and is here now.
    ///
    /// # Errors
    /// Where nothing was heard.
    pub fn answer(&mut self, sent: Instant, replies: &mut Replies) -> Result<(), ReadError> {
        let now = Instant::now();
        self.asked = Some(now);
        let reading = match replies.array() {
            Ok(parts) => time(&parts).map(|unix| (sent + now.saturating_duration_since(sent) / 2, unix)),
            Err(error) if error.is_silence() => return Err(error),
            // It loads, or is busy: what it said before holds on, and it is asked again at the next look.
            Err(error) if error.kind() == "unavailable" => {
                self.asked = None;
                return Ok(());
            }
            Err(error) => {
                if !self.refused {
                    tracing::warn!("Redis does not tell the time, so ages go by this machine's clock: {error}");
                }
                self.refused = true;
                None
            }
        };
        self.refused &= reading.is_none();
        self.source = Source::Redis(reading);
        Ok(())
    }
}

/// Seconds and microseconds, as text.
fn time(parts: &[Reply]) -> Option<f64> {
    let number = |part: &Reply| match part {
        Reply::Bytes(text) => digits(text),
        Reply::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    match parts {
        [seconds, micros] => Some(number(seconds)? as f64 + number(micros)? as f64 / 1e6),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(clock: &mut Clock, reply: Result<Reply, ReadError>) -> Result<(), ReadError> {
        clock.answer(Instant::now(), &mut Replies::new(vec![reply]))
    }

    #[test]
    fn it_goes_by_redis_and_without_it_by_this_machine() {
        let mut clock = Clock::default();
        assert!(clock.is_due() && (clock.now() - unix_now()).abs() < 1.0);
        let text = |text: &'static str| Reply::Bytes(text.into());
        answer(&mut clock, Ok(Reply::Array(vec![text("1700000000"), text("500000")]))).unwrap();
        assert!(!clock.is_due() && (1_700_000_000.5..1_700_000_001.5).contains(&clock.now()));
        clock.reconnected();
        assert!(clock.is_due());
        let silent = ReadError::NoAnswer("gone".into());
        assert_eq!(answer(&mut clock, Err(silent.clone())), Err(silent));
        answer(&mut clock, Err(ReadError::Refused("LOADING Redis is loading".into()))).unwrap();
        assert!(clock.now() < 1_750_000_000.0 && clock.is_due(), "what was known is kept, and asked for again");
        answer(&mut clock, Err(ReadError::Refused("NOPERM".into()))).unwrap();
        assert!((clock.now() - unix_now()).abs() < 1.0);
    }

    #[test]
    fn a_given_clock_is_never_asked_for() {
        let clock = Clock::given(|| 7.0);
        assert_eq!((clock.now(), clock.is_due()), (7.0, false));
    }
}
