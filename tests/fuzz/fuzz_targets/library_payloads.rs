//! Any bytes in the place of a library's job, id, time or process information give a value or none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queue_exporter::layout;

fuzz_target!(|bytes: &[u8]| layout::parse_everything(bytes));
