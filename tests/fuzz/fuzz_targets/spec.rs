//! Any text as `QUEUES` gives queues or faults, and any name a label that can be escaped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queue_exporter::label;
use queue_exporter::spec::{self, Spec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for spec in spec::list(text) {
            match spec {
                Ok(Spec::Queue(queue)) => assert!(!queue.name.queue.is_empty()),
                Ok(Spec::Discovery(discovery)) => drop(discovery.wants(bytes)),
                Err(faults) => assert!(!faults.is_empty()),
            }
        }
    }
    let mut escaped = String::new();
    label::escape(&label::text(bytes), &mut escaped);
    assert!(!escaped.contains('\n'));
});
