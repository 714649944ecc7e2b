//! Times as queue libraries store them: numbers in four units, digits in strings, ISO 8601.

use serde::Deserialize;

/// The unit of a stored time, counted from 1970.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Milliseconds.
    Millis,
    /// Microseconds.
    Micros,
    /// Nanoseconds.
    Nanos,
}

/// 2001-09-09 and a day: stored times before are no times, but counters or priorities.
const EARLIEST: f64 = 1e9;
/// How far ahead of now a time of arrival may lie: clocks differ, but not by more than a day.
const AHEAD: f64 = 86_400.0;

impl Unit {
    /// The unit in which `number` is a time between 2001 and 5138, where there is one. The four ranges do not overlap.
    #[must_use]
    pub fn of(number: f64) -> Option<Self> {
        match number {
            n if (1e9..1e11).contains(&n) => Some(Self::Seconds),
            n if (1e12..1e14).contains(&n) => Some(Self::Millis),
            n if (1e15..1e17).contains(&n) => Some(Self::Micros),
            n if (1e18..1e20).contains(&n) => Some(Self::Nanos),
            _ => None,
        }
    }

    /// The unit by its name in a configuration: `s`, `ms`, `us`, `ns`.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "s" => Some(Self::Seconds),
            "ms" => Some(Self::Millis),
            "us" => Some(Self::Micros),
            "ns" => Some(Self::Nanos),
            _ => None,
        }
    }

    /// How many of it are a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        match self {
            Self::Seconds => 1.0,
            Self::Millis => 1e3,
            Self::Micros => 1e6,
            Self::Nanos => 1e9,
        }
    }
}

/// A number as seconds since 1970, by its unit or, without one, by its magnitude.
#[must_use]
pub fn seconds(number: f64, unit: Option<Unit>) -> Option<f64> {
    let unit = unit.or_else(|| Unit::of(number))?;
    number.is_finite().then(|| number / unit.per_second())
}

/// Seconds since 1970 from a JSON number, digits in a string, or a time with a zone in ISO 8601.
#[must_use]
pub fn from_json(value: &serde_json::Value, unit: Option<Unit>) -> Option<f64> {
    match value {
        serde_json::Value::Number(number) => seconds(number.as_f64()?, unit),
        serde_json::Value::String(text) => match text.parse::<f64>() {
            Ok(number) => seconds(number, unit),
            Err(_) => text.parse::<jiff::Timestamp>().ok().map(|time| time.as_nanosecond() as f64 / 1e9),
        },
        _ => None,
    }
}

/// How long ago `then` was, both in seconds since 1970; `None` where `then` can be no time of arrival. A clock that is
/// ahead gives 0, never less.
#[must_use]
pub fn age(then: f64, now: f64) -> Option<f64> {
    (EARLIEST..now + AHEAD).contains(&then).then(|| (now - then).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_unit_is_told_by_its_magnitude() {
        for stored in [
            json!(1_795_574_013.5),
            json!(1_795_574_013_500_u64),
            json!(1_795_574_013_500_000_u64),
            json!("1795574013500"),
        ] {
            assert_eq!(from_json(&stored, None), Some(1_795_574_013.5), "{stored}");
        }
        assert_eq!(from_json(&json!("2026-11-25T02:33:33.500000Z"), None), Some(1_795_574_013.5));
        assert_eq!(from_json(&json!("2026-11-25T03:33:33.5+01:00"), None), Some(1_795_574_013.5));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for stored in [json!(5), json!(-1e300), json!("soon"), json!(null), json!([1]), json!("NaN"), json!("inf")] {
            assert_eq!(from_json(&stored, None), None, "{stored}");
        }
    }

    #[test]
    fn ages_are_never_negative_nor_of_thousands_of_years() {
        assert_eq!(age(1_795_574_010.0, 1_795_574_013.0), Some(3.0));
        assert_eq!(age(1_795_574_016.0, 1_795_574_013.0), Some(0.0));
        assert_eq!(age(1.0, 1_795_574_013.0), None);
        assert_eq!(age(1e12, 1_795_574_013.0), None);
    }
}
