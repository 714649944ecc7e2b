//! One queue's specification, `layout:key?option=value&option=value`, and the comma list of them in `QUEUES`.
//!
//! Bytes that would end a part, and bytes that are no UTF-8, are percent-encoded: `%2C` for a comma, `%3F` for a question
//! mark, `%26`, `%3D` and `%25` for `&`, `=` and `%`.

use crate::glob;
use crate::label;
use crate::layout::{Entry, Layout, Name, Options, Register, TABLE};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;
use std::time::Duration;

/// One queue that is watched.
pub struct Queue {
    /// The `queue` label: the option `name`, or the key.
    pub label: String,
    /// Its place in Redis.
    pub name: Name,
    /// Whose layout it has.
    pub entry: &'static Entry,
    /// How it is read.
    pub layout: Box<dyn Layout>,
    /// How its workers are scaled.
    pub policy: Policy,
}

/// The queues of one library whose names are of a pattern, whichever they are at the time.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// Whose layout they have.
    pub entry: &'static Entry,
    /// What all keys of the library start with.
    pub prefix: Bytes,
    /// The pattern of their names.
    include: Bytes,
    /// Patterns of names that are left out.
    exclude: Vec<Bytes>,
    /// Options for each of them.
    options: BTreeMap<String, Bytes>,
    /// How their workers are scaled.
    pub policy: Policy,
}

/// One configured entry.
pub enum Spec {
    /// A queue by its name.
    Queue(Queue),
    /// Queues by a pattern.
    Discovery(Discovery),
}

impl Discovery {
    /// The pattern of their names, for people.
    #[must_use]
    pub fn pattern(&self) -> String {
        label::text(&self.include)
    }

    /// Whether a queue of this name is wanted.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> bool {
        glob::matches(&self.include, name) && !self.exclude.iter().any(|pattern| glob::matches(pattern, name))
    }

    /// A queue that was found.
    #[must_use]
    pub fn queue(&self, name: Bytes) -> Queue {
        let mut options = Options::new(self.options.clone());
        let label = label::text(&name);
        let name = Name { prefix: self.prefix.clone(), queue: name };
        let layout = (self.entry.build)(name.clone(), &mut options);
        Queue { label, name, entry: self.entry, layout, policy: self.policy }
    }
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
    /// Jobs that one worker runs at once; 1 where nothing is said.
    pub worker_slots: Option<u64>,
    /// How long a job takes, for as long as that is not measured.
    pub job_seconds: Option<Duration>,
    /// In what time the backlog is to be gone once jobs are late; the objective where nothing is said.
    pub catch_up: Option<Duration>,
    /// Whether workers come with the arrivals, before a backlog does; yes where nothing is said.
    pub arrival_rate: Option<bool>,
    /// Whether a busy worker stays, whatever else is wanted; yes where nothing is said.
    pub keep_busy: Option<bool>,
}

/// Parses the comma list of `QUEUES`.
pub fn list(text: &str) -> impl Iterator<Item = Result<Spec, Vec<String>>> + '_ {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(|part| parse(part, Policy::default()))
}

/// Parses one specification. A `*` in the key that is not percent-encoded makes it a pattern.
///
/// # Errors
/// All faults, each with the specification it is about.
pub fn parse(text: &str, policy: Policy) -> Result<Spec, Vec<String>> {
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
    if key.is_empty() {
        faults.push("no key after the colon".into());
    }
    let mut options = Options::new(values);
    let prefix = entry.prefix.map(|usual| match options.bytes("prefix") {
        Some(prefix) if prefix.as_ref() == b"none" => Bytes::new(),
        Some(prefix) => prefix,
        None => Bytes::from_static(usual.as_bytes()),
    });
    let name = Name { prefix: prefix.unwrap_or_default(), queue: decode(key) };
    let spec = if key.contains('*') {
        Spec::Discovery(discovery(entry, name, options, policy, &mut faults))
    } else {
        let label = options.bytes("name").unwrap_or_else(|| name.queue.clone());
        let layout = (entry.build)(name.clone(), &mut options);
        faults.extend(options.into_faults());
        Spec::Queue(Queue { label: label::text(&label), name, entry, layout, policy })
    };
    if faults.is_empty() { Ok(spec) } else { Err(faults.into_iter().map(about).collect()) }
}

fn discovery(
    entry: &'static Entry,
    pattern: Name,
    mut options: Options,
    policy: Policy,
    faults: &mut Vec<String>,
) -> Discovery {
    if matches!(entry.register, Register::None) {
        let name = entry.name;
        faults.push(format!(
            "queues of the layout {name} are listed nowhere in Redis; name each (%2A is a star in a name)"
        ));
    }
    let exclude = options.bytes("exclude").unwrap_or_default();
    let exclude = exclude.split(|byte| *byte == b'|').filter(|pattern| !pattern.is_empty());
    let exclude = exclude.map(Bytes::copy_from_slice).collect();
    let Name { prefix, queue: include } = pattern;
    let kept = options.values();
    // Made once with any name, so that faults of the options come up now.
    let _ = (entry.build)(Name { prefix: prefix.clone(), queue: include.clone() }, &mut options);
    faults.extend(options.into_faults());
    Discovery { entry, prefix, include, exclude, options: kept, policy }
}

fn decode(text: &str) -> Bytes {
    Bytes::from(percent_decode_str(text).collect::<Vec<u8>>())
}

fn layouts() -> String {
    TABLE.iter().map(|entry| entry.name).collect::<Vec<_>>().join(", ")
}
