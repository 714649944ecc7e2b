//! Any bytes as a job's payload give a finite time or nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queue_exporter::payload::TimePath;

fuzz_target!(|payload: &[u8]| {
    for path in ["a", "a.0.b"] {
        let found = TimePath::new(path, None).and_then(|path| path.find(payload));
        assert!(found.is_none_or(f64::is_finite));
    }
});
