//! The options of one queue's specification, taken by name; what nobody takes is a fault.

use crate::times::Unit;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Options not taken yet, and what was wrong with those that were.
#[derive(Debug, Default)]
pub struct Options {
    values: BTreeMap<String, Bytes>,
    known: Vec<&'static str>,
    faults: Vec<String>,
}

impl Options {
    /// Options by name, values as bytes.
    #[must_use]
    pub fn new(values: BTreeMap<String, Bytes>) -> Self {
        Self { values, ..Self::default() }
    }

    /// Those that were not taken yet.
    #[must_use]
    pub fn values(&self) -> BTreeMap<String, Bytes> {
        self.values.clone()
    }

    /// An option that is a Redis key, or other bytes.
    pub fn bytes(&mut self, name: &'static str) -> Option<Bytes> {
        self.known.push(name);
        let value = self.values.remove(name)?;
        if value.is_empty() {
            self.fault(format!("option {name} is empty"));
            return None;
        }
        Some(value)
    }

    /// Gives an option a value where it has none.
    pub fn assume(&mut self, name: &str, value: &'static str) {
        self.values.entry(name.to_string()).or_insert(Bytes::from_static(value.as_bytes()));
    }

    /// An option that is text.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let value = self.bytes(name)?;
        match String::from_utf8(value.to_vec()) {
            Ok(text) => Some(text),
            Err(_) => {
                self.fault(format!("option {name} is not UTF-8"));
                None
            }
        }
    }

    /// An option that is one of a few words; the first is the default.
    pub fn choice<T: Copy>(&mut self, name: &'static str, default: T, choices: &[(&str, T)]) -> T {
        let Some(text) = self.text(name) else { return default };
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return *value;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.fault(format!("option {name} is {text:?}; it must be one of {}", words.join(", ")));
        default
    }

    /// An option that names the unit of stored times; `None` for `auto`, the default.
    pub fn unit(&mut self, name: &'static str) -> Option<Unit> {
        let units = ["s", "ms", "us", "ns"].map(|unit| (unit, Unit::named(unit)));
        let mut choices = vec![("auto", None)];
        choices.extend(units);
        self.choice(name, None, &choices)
    }

    /// Notes a fault.
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// All faults, those options that nobody took among them.
    #[must_use]
    pub fn into_faults(mut self) -> Vec<String> {
        for name in self.values.keys() {
            self.faults.push(format!("unknown option {name}; this layout knows {}", self.known.join(", ")));
        }
        self.faults
    }
}
