//! Any text as `QUEUES` gives queues or faults, and any name a label that can be escaped.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queue_exporter::{label, spec};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        for queue in spec::list(text) {
            assert!(queue.is_ok_and(|queue| !queue.label.is_empty()) || !text.is_empty());
        }
    }
    let mut escaped = String::new();
    label::escape(&label::text(bytes), &mut escaped);
    assert!(!escaped.contains('\n'));
});
