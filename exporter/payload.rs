//! The enqueue time inside a job's payload. Payloads are foreign bytes: anything may come, nothing but a time or `None`
//! goes out.

use crate::times::{self, Unit};

/// The longest payload that is parsed, in bytes.
pub const LIMIT: usize = 64 * 1024;

/// Where in a JSON payload the enqueue time stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TimePath {
    steps: Vec<String>,
    unit: Option<Unit>,
}

impl TimePath {
    /// A path such as `enqueued_at`, `$.headers.sent` or `$.stamps.0`; without a unit the magnitude tells it.
    #[must_use]
    pub fn new(path: &str, unit: Option<Unit>) -> Option<Self> {
        let steps: Vec<String> = path.strip_prefix("$.").unwrap_or(path).split('.').map(String::from).collect();
        (!steps.iter().any(String::is_empty)).then_some(Self { steps, unit })
    }

    /// The time in seconds since 1970, or `None` where the payload is too long, no JSON, or holds no time there.
    #[must_use]
    pub fn find(&self, payload: &[u8]) -> Option<f64> {
        if payload.len() > LIMIT {
            return None;
        }
        let document: serde_json::Value = serde_json::from_slice(payload).ok()?;
        let value = self.steps.iter().try_fold(&document, |value, step| match value {
            serde_json::Value::Object(fields) => fields.get(step),
            serde_json::Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            _ => None,
        })?;
        times::from_json(value, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_time_is_found_by_its_path() {
        let payload = br#"{"id": 7, "meta": {"ts": 1795574013753, "all": [1, "1795574013.753"]}}"#;
        for path in ["meta.ts", "$.meta.ts", "meta.all.1"] {
            assert_eq!(TimePath::new(path, None).unwrap().find(payload), Some(1_795_574_013.753), "{path}");
        }
        for path in ["ts", "meta", "meta.all", "meta.all.9", "id"] {
            assert_eq!(TimePath::new(path, None).unwrap().find(payload), None, "{path}");
        }
        assert_eq!(TimePath::new("a..b", None), None);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let found = TimePath::new("a", None).unwrap().find(&bytes);
            prop_assert!(found.is_none_or(f64::is_finite));
        }
    }
}
