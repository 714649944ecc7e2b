//! The Rust of KEDA's protocol is what `externalscaler.proto` says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use protox::prost::Message;
use std::path::Path;

const FOLDER: &str = "exporter/scaler";

#[test]
fn golden_protocol() {
    let descriptors = protox::compile(["externalscaler.proto"], [FOLDER]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .out_dir(folder.path())
        .compile_fds(descriptors.clone())
        .unwrap();
    let text = std::fs::read_to_string(folder.path().join("externalscaler.rs")).unwrap();
    let head = "// Generated from externalscaler.proto: `make golden` writes it anew.\n#![allow(missing_docs)]\n";
    check("externalscaler.rs", (head.to_string() + &text).as_bytes());
    check("externalscaler.bin", &descriptors.encode_to_vec());
}

fn check(name: &str, bytes: &[u8]) {
    let path = Path::new(FOLDER).join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(std::fs::read(&path).unwrap_or_default() == bytes, "{} is not fresh: make golden", path.display());
}
