//! The programs that the demo runs: a Redis and the exporter. Nothing of them outlives it.

use crate::Result;
use crate::workload::{QUEUES, connect, send};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The longest wait for a program to start, to answer or to stop.
const PATIENCE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(10);

/// Runs a program in an empty directory of its own, and ends it once standard input closes. That comes with the end of
/// the demo in whatever way it ends, SIGKILL included. The signals that end the demo must not end the watcher too: Redis
/// is deaf to SIGHUP, for one. What takes longer than six seconds to stop is killed.
const GUARD: &str = r#"
exec 3<&0 </dev/null
cd "$(mktemp -d)" || exit
{
    trap '' HUP INT QUIT TERM
    read -r _ <&3
    kill "$$"
    tries=0
    while kill -0 "$$" && [ "$tries" -lt 60 ]; do sleep 0.1; tries=$((tries + 1)); done
    kill -KILL "$$"
    rmdir "$PWD"
} >/dev/null 2>&1 &
exec "$@" 3<&-
"#;

/// A running program; it ends with this value.
pub struct Program {
    name: &'static str,
    child: Child,
}

impl Program {
    fn start(name: &'static str, program: &Path, configure: impl FnOnce(&mut Command)) -> Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD, "sh"]).arg(program).stdin(Stdio::piped());
        configure(&mut command);
        let child = command.spawn().map_err(|error| format!("can't start {name}: {error}"))?;
        Ok(Self { name, child })
    }

    /// Fails where the program is no longer there.
    pub fn check(&mut self) -> Result {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} has ended: {status}", self.name).into()),
        }
    }

    /// Tries something until the program is ready for it.
    fn when_ready<T>(&mut self, attempt: impl Fn() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            self.check()?;
            match attempt() {
                Ok(value) => return Ok(value),
                Err(error) if start.elapsed() > PATIENCE => return Err(format!("{}: {error}", self.name).into()),
                Err(_) => thread::sleep(RETRY),
            }
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(RETRY);
        }
        // No use where it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a Redis; its URL comes with it. The consumer group is made here, for to the exporter a stream without it is a
/// fault.
pub fn start_redis() -> Result<(Program, String)> {
    let address = free_address()?;
    let (port, url) = (address.port().to_string(), format!("redis://{address}"));
    let mut redis = Program::start("redis-server", Path::new("redis-server"), |command| {
        command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
        command.stdout(Stdio::null());
    })?;
    let mut connection = redis.when_ready(|| connect(&url))?;
    send::<()>(&mut connection, &["XGROUP", "CREATE", "parse", "workers", "0", "MKSTREAM"])?;
    Ok((redis, url))
}

/// Starts the exporter, and waits until it is ready.
pub fn start_exporter(binary: &Path, redis: &str) -> Result<(Program, SocketAddr)> {
    let address = free_address()?;
    let mut exporter = Program::start("the exporter", binary, |command| {
        command.env("REDIS_URL", redis).env("QUEUES", QUEUES).env("LISTEN_ADDR", address.to_string());
        command.env("RATE_WINDOW", "10s").env("RUST_LOG", "warn");
    })?;
    exporter.when_ready(|| get(address, "/readyz"))?;
    Ok((exporter, address))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// GET in HTTP 1.0: so the answer comes in one piece and ends with the connection.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer in HTTP")?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(format!("GET {path}: {}", head.lines().next().unwrap_or_default()).into()),
    }
}
