//! One queue's specification, `layout:key?option=value&option=value`, and the comma list of them in `QUEUES`.
//!
//! Bytes that would end a part, and bytes that are no UTF-8, are percent-encoded: `%2C` for a comma, `%3F` for a question
//! mark, `%26`, `%3D` and `%25` for `&`, `=` and `%`.

use crate::label;
use crate::layout::{Layout, Options, TABLE};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::time::Duration;

/// One configured queue.
pub struct Queue {
    /// The `queue` label: the option `name`, or the key.
    pub label: String,
    /// The `layout` label.
    pub layout_name: &'static str,
    /// How it is read.
    pub layout: Box<dyn Layout>,
    /// How its workers are scaled.
    pub policy: Policy,
}

/// The scaling policy of a queue, published for alerts, dashboards and autoscalers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Policy {
    /// No job should wait longer.
    pub objective_age: Option<Duration>,
    /// Backlog per worker over which workers are added.
    pub scale_up_depth: Option<u64>,
    /// Backlog per worker under which workers are removed.
    pub scale_down_depth: Option<u64>,
    /// The fewest workers.
    pub min_workers: Option<u64>,
    /// The most workers.
    pub max_workers: Option<u64>,
}

/// Parses the comma list of `QUEUES`.
pub fn list(text: &str) -> impl Iterator<Item = Result<Queue, Vec<String>>> + '_ {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| queue(part, Policy::default()))
}

/// Parses one specification.
///
/// # Errors
/// All faults, each with the specification it is about.
pub fn queue(text: &str, policy: Policy) -> Result<Queue, Vec<String>> {
    let about = |fault: String| format!("queue {text:?}: {fault}");
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    let Some((name, key)) = path.split_once(':') else {
        return Err(vec![about(format!("no layout; write LAYOUT:KEY, with LAYOUT one of {}", layouts()))]);
    };
    let Some(entry) = TABLE.iter().find(|entry| entry.name == name) else {
        return Err(vec![about(format!("unknown layout {name:?}; it must be one of {}", layouts()))]);
    };
    let mut values = BTreeMap::new();
    let mut faults = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        match part.split_once('=') {
            Some((option, value)) if values.insert(option.to_string(), decode(value)).is_some() => {
                faults.push(format!("option {option} stands there twice"));
            }
            Some(_) => {}
            None => faults.push(format!("option {part:?} has no value; write {part}=VALUE")),
        }
    }
    let key = decode(key);
    if key.is_empty() {
        faults.push("no key after the colon".into());
    }
    let mut options = Options::new(values);
    let label = options.bytes("name").map_or_else(|| label::text(&key), |name| label::text(&name));
    let layout = (entry.build)(key, &mut options);
    faults.extend(options.into_faults());
    if faults.is_empty() {
        Ok(Queue { label, layout_name: entry.name, layout, policy })
    } else {
        Err(faults.into_iter().map(about).collect())
    }
}

fn decode(text: &str) -> Bytes {
    Bytes::from(percent_decode_str(text).collect::<Vec<u8>>())
}

fn layouts() -> String {
    TABLE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}
