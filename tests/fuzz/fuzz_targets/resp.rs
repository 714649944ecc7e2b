//! What a server sends is read alike however it is cut into parts, and nothing is set aside for what it only promises.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use queue_exporter::reads::{ReadError, Reply};
use queue_exporter::redis::resp::Decoder;

fn replies(bytes: &[u8], part: usize) -> Result<Vec<Reply>, ReadError> {
    let (mut decoder, mut buffer, mut found) = (Decoder::default(), BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        buffer.extend_from_slice(part);
        while let Some(reply) = decoder.next(&mut buffer)? {
            found.push(reply);
        }
    }
    Ok(found)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((part, bytes)) = bytes.split_first() else { return };
    assert_eq!(replies(bytes, usize::from(*part).max(1)), replies(bytes, bytes.len().max(1)));
});
