//! The image: its final stage, built by buildah as docker/Dockerfile says, with the static binary that `make test` has built in
//! place of the first stage (which needs a base image from a registry); run as its own user against a real Redis.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use support::chart::ROOT;
use support::{Redis, get, kill, wait_for};

/// buildah with a store of its own; it starts no daemon, and chroot asks for no rights that a container lacks.
struct Store(tempfile::TempDir);

impl Store {
    fn buildah(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("buildah");
        command.args(["--storage-driver", "vfs", "--root"]).arg(self.0.path().join("root"));
        command.arg("--runroot").arg(self.0.path().join("run")).args(arguments).current_dir(ROOT);
        command
    }

    fn print(&self, arguments: &[&str]) -> String {
        let output = self.buildah(arguments).output().expect("buildah is needed: tests/setup.sh buildah");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    }
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The process that serves in the container, as this machine sees it.
fn served_by(port: u16) -> Option<u32> {
    let mark = format!("LISTEN_ADDR=127.0.0.1:{port}");
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.into_iter().find(|pid| {
        let of = |file: &str| std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        of("cmdline").starts_with(b"/queue-exporter\0")
            && of("environ").split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    })
}

#[test]
fn the_image_runs_as_its_user() {
    let binary = format!("{ROOT}/target/{}-unknown-linux-musl/release/queue-exporter", std::env::consts::ARCH);
    let stage = tempfile::tempdir().unwrap();
    let certificates = stage.path().join("etc/ssl/certs");
    std::fs::create_dir_all(&certificates).unwrap();
    std::fs::copy(&binary, stage.path().join("queue-exporter")).expect("make test builds the static binary");
    std::fs::copy("/etc/ssl/certs/ca-certificates.crt", certificates.join("ca-certificates.crt")).unwrap();

    let store = Store(tempfile::tempdir().unwrap());
    let context = format!("build={}", stage.path().display());
    let file = ["--file", "docker/Dockerfile", "--build-context", &context, "--tag", "queue-exporter:test"];
    store.print(&[&["bud", "--isolation", "chroot"], &file[..], &["."]].concat());
    let config: serde_json::Value = serde_json::from_str(&store.print(&["inspect", "queue-exporter:test"])).unwrap();
    let image = &config["OCIv1"]["config"];
    assert_eq!(image["User"], "65532:65532");
    assert_eq!(image["Entrypoint"][0], "/queue-exporter");
    assert_eq!(image["Labels"]["org.opencontainers.image.version"], env!("CARGO_PKG_VERSION"));
    let container = store.print(&["from", "queue-exporter:test"]);
    let tree = store.print(&["mount", &container]);
    let files = Command::new("find").args([&tree, "-type", "f"]).output().unwrap();
    let files = String::from_utf8(files.stdout).unwrap();
    let size: u64 = files.lines().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    assert_eq!(files.lines().count(), 2, "{files}");
    assert!(size < 10_000_000, "{size} bytes");

    let redis = Redis::start();
    redis.say("LPUSH q one two three");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let variables = [("REDIS_URL", redis.url()), ("QUEUES", "list:q".into()), ("LISTEN_ADDR", address.clone())];
    let pairs: Vec<String> = variables.iter().map(|(name, value)| format!("--env={name}={value}")).collect();
    let mut run = vec!["run", "--isolation", "chroot"];
    run.extend(pairs.iter().map(String::as_str));
    run.extend([container.as_str(), "--", "/queue-exporter"]);
    let child = store.buildah(&run).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut running = Running(child);
    let address: SocketAddr = address.parse().unwrap();
    wait_for("the exporter in the image reads the queue", || {
        let text = get(address, "/metrics", "")?.text();
        text.contains("redis_queue_length{queue=\"q\",layout=\"list\"} 3\n").then_some(())
    });
    let pid = served_by(port).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    assert!(status.contains("Uid:\t65532\t65532"), "{status}");
    kill(pid, "TERM");
    assert!(running.0.wait().unwrap().success(), "SIGTERM ends it with 0");
}
