//! A real Prometheus on a free port, with a history made for the test.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use super::{free_port, get, request, wait_for};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// Seconds between two moments: over the lookback, so that what is missing at a moment is missing.
const STEP: usize = 2;
const START: usize = 1_700_000_000;
/// Prometheus gives no more points for one query.
const POINTS: usize = 11_000;

/// The value of each series, by its name with labels, at one moment.
pub type Moment = BTreeMap<String, f64>;

pub struct Prometheus {
    child: Child,
    address: SocketAddr,
    moments: usize,
    _data: tempfile::TempDir,
}

impl Prometheus {
    /// Holds `moments`, one after another.
    pub fn holding(moments: &[Moment]) -> Self {
        Self::since(START, STEP, moments)
    }

    /// The same from a second since 1970 on, so many seconds apart.
    pub fn since(start: usize, step: usize, moments: &[Moment]) -> Self {
        let mut families: BTreeMap<&str, String> = BTreeMap::new();
        for (index, moment) in moments.iter().enumerate() {
            for (series, value) in moment {
                let name = series.split('{').next().unwrap();
                let lines = families.entry(name).or_insert_with(|| format!("# TYPE {name} gauge\n"));
                writeln!(lines, "{series} {value} {}", start + step * index).unwrap();
            }
        }
        let text: String = families.into_values().chain(["# EOF\n".to_string()]).collect();
        let data = tempfile::tempdir().unwrap();
        let (file, blocks) = (data.path().join("history"), data.path().join("blocks"));
        std::fs::write(&file, text).unwrap();
        let made = Command::new("promtool")
            .args(["tsdb", "create-blocks-from", "openmetrics"])
            .args([&file, &blocks])
            .output()
            .expect("promtool is needed: tests/setup.sh prometheus");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        std::fs::write(data.path().join("config"), "").unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", data.path().join("config").display()))
            .arg(format!("--storage.tsdb.path={}", blocks.display()))
            .arg(format!("--web.listen-address={address}"))
            .args(["--storage.tsdb.retention.time=100y", "--query.lookback-delta=1s"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { child, address, moments: moments.len(), _data: data };
        wait_for("Prometheus is ready", || get(address, "/-/ready", "").filter(|answer| answer.status == 200));
        prometheus
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What a query gives at each moment; panics if it is refused or gives more than one series.
    pub fn at_each(&self, query: &str) -> Vec<Option<f64>> {
        let mut values = vec![None; self.moments];
        for first in (0..self.moments).step_by(POINTS) {
            let last = (first + POINTS).min(self.moments) - 1;
            let path = format!(
                "/api/v1/query_range?start={}&end={}&step={STEP}&query={}",
                START + STEP * first,
                START + STEP * last,
                utf8_percent_encode(query, NON_ALPHANUMERIC)
            );
            // 1.0: in one piece, not in chunks
            let answer = request(self.address, &format!("GET {path} HTTP/1.0\r\n\r\n")).unwrap().text();
            let answer: Value = serde_json::from_str(&answer).unwrap();
            let series = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}"));
            assert!(series.len() <= 1, "KEDA takes one series at most: {query}");
            for point in series.iter().flat_map(|one| one["values"].as_array().unwrap()) {
                let time = usize::try_from(point[0].as_u64().unwrap()).unwrap();
                values[(time - START) / STEP] = Some(point[1].as_str().unwrap().parse().unwrap());
            }
        }
        values
    }
}

impl Prometheus {
    /// The series that a query gives at the first moment; panics if it is refused.
    pub fn at_first(&self, query: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?time={START}&query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let answer = request(self.address, &format!("GET {path} HTTP/1.0\r\n\r\n")).unwrap().text();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{query}: {answer}")).clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
