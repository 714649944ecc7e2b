//! The chart's output, and the tools that read it: `tests/tools/setup.sh .cache/chart` builds them.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use std::io::Write;
use std::process::{Command, Output, Stdio};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// One object of a manifest.
#[derive(Clone)]
pub struct Object {
    /// The template that it comes from, without its path.
    pub source: String,
    pub text: String,
    pub value: Value,
}

impl Object {
    pub fn kind(&self) -> &str {
        self.value["kind"].as_str().unwrap()
    }

    pub fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap()
    }

    /// Of a ScaledObject, the metadata of one of its triggers.
    pub fn trigger(&self, name: &str) -> &Value {
        let triggers = self.value["spec"]["triggers"].as_array().unwrap();
        &triggers.iter().find(|trigger| trigger["name"] == name).expect(name)["metadata"]
    }
}

/// Runs one of the tools with `input`.
pub fn tool(name: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(format!("{ROOT}/.cache/chart/bin/{name}"))
        .args(arguments)
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{name}: {error}; make test builds it, by tests/tools/setup.sh .cache/chart"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_string();
    // A tool may print before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// What the tool printed; panics with what it complained of.
pub fn print(name: &str, arguments: &[&str], input: &str) -> String {
    let output = tool(name, arguments, input);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// `helm template`, in the namespace `jobs`, by helm 3 or 4.
pub fn render(helm: &str, kubernetes: &str, arguments: &[&str]) -> String {
    let mut all = vec!["template", "queue-exporter", "keda/chart", "--namespace", "jobs", "--kube-version", kubernetes];
    all.extend(arguments);
    print(helm, &all, "")
}

/// The objects of a manifest, in their order.
pub fn objects(manifest: &str) -> Vec<Object> {
    let mut found = Vec::new();
    for document in manifest.split("---\n") {
        let source = document.lines().find_map(|line| line.strip_prefix("# Source: "));
        let source = source.and_then(|path| path.rsplit('/').next()).unwrap_or_default().to_string();
        let lines = document.lines().filter(|line| !line.starts_with("# Source: ") && !line.trim().is_empty());
        let text: String = lines.flat_map(|line| [line, "\n"]).collect();
        if text.lines().all(|line| line.starts_with('#')) {
            continue;
        }
        let value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
        found.push(Object { source, text, value });
    }
    found
}
