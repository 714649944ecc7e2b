//! What docker/compose.yaml puts together: each file is there and right, and its workload makes the numbers move. The containers
//! themselves are not started here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::chart::ROOT;
use support::{Exporter, Redis, kill};

#[test]
fn every_file_that_is_mounted_is_there() {
    let text = std::fs::read_to_string(format!("{ROOT}/docker/compose.yaml")).unwrap();
    let compose: Value = serde_saphyr::from_str(&text).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mut mounted = 0;
    for volume in services.values().filter_map(|service| service["volumes"].as_array()).flatten() {
        let path = volume.as_str().unwrap().split(':').next().unwrap();
        assert!(Path::new(ROOT).join("docker").join(path).exists(), "{path}");
        mounted += 1;
    }
    assert!(mounted >= 6);
    let checked = Command::new("promtool")
        .args(["check", "config", "--syntax-only"])
        .arg(format!("{ROOT}/docker/prometheus.yaml"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The script with all that it starts, in a process group that ends with it.
struct Workload(Child);

impl Drop for Workload {
    fn drop(&mut self) {
        kill(self.0.id(), "TERM");
        let _ = self.0.wait();
    }
}

#[test]
fn the_workload_moves_the_numbers() {
    let redis = Redis::start();
    let mut script = Command::new("setsid");
    script.args(["sh", "docker/workload.sh", "127.0.0.1", &redis.port.to_string()]).current_dir(ROOT);
    let _workload = Workload(script.stdout(Stdio::null()).spawn().unwrap());
    let queues = format!("{ROOT}/docker/queues.yaml");
    let exporter = Exporter::start_with(&[("REDIS_URL", &redis.url()), ("QUEUES_FILE", &queues)]);
    for queue in ["crawler", "ocr", "parser"] {
        exporter.wait(queue, |metrics| metrics.of("in_flight", queue).is_some_and(|jobs| jobs > 0.0));
    }
    exporter.wait("OCR can't keep up", |metrics| metrics.of("backlog", "ocr").is_some_and(|jobs| jobs > 0.0));
}
