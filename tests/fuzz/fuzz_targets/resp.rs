//! What a server sends is read alike however it is cut into parts.
#![no_main]

use libfuzzer_sys::fuzz_target;
use queue_exporter::redis::resp::replies;

fuzz_target!(|bytes: &[u8]| {
    let Some((part, bytes)) = bytes.split_first() else { return };
    assert_eq!(replies(bytes, usize::from(*part).max(1)), replies(bytes, bytes.len().max(1)));
});
