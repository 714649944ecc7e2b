//! A program that ends with this one, whatever happens to it, and writes what it says into a file.

use anyhow::{Context, Result, bail};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program has ended that should not have: there is nothing to wait for.
#[derive(Debug)]
struct Ended(String);

impl std::fmt::Display for Ended {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Ended {}

/// A running program.
pub struct Process {
    name: String,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `program` with its output in `logs/NAME.log`.
    pub fn start(
        logs: &Path,
        name: &str,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, &str)],
    ) -> Result<Self> {
        let command = [vec![program.display().to_string()], arguments.to_vec()].concat();
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let log = logs.join(format!("{name}.log"));
        let child = spawn(&command, &environment, &log).with_context(|| format!("starting {name}"))?;
        Ok(Self { name: name.into(), command, environment, log, child })
    }

    /// Sends it a signal, such as STOP.
    pub fn signal(&self, signal: &str) -> Result<()> {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.child.id().to_string()]).status()?;
        if !sent.success() {
            bail!("{} is not there for signal {signal}", self.name);
        }
        Ok(())
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it anew, as it was.
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.child = spawn(&self.command, &self.environment, &self.log)?;
        Ok(())
    }

    /// Fails with the end of its log if it has ended.
    pub fn check(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            return Err(Ended(format!("{} ended with {status}:\n{last}", self.name)).into());
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: &[String], environment: &[(String, String)], log: &Path) -> Result<Child> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
    // setpriv: the kernel kills it when this program is gone, even if that was killed
    let child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL"])
        .args(command)
        .env_clear()
        .env("PATH", std::env::var("PATH").unwrap_or_default())
        .env("HOME", "/nonexistent")
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()?;
    Ok(child)
}

/// A port that was free a moment ago.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Tries until `condition` gives something; fails with `what` and the last fault after `seconds`.
pub async fn wait_for<T>(what: &str, seconds: u64, mut condition: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        match condition().await {
            Ok(found) => return Ok(found),
            Err(fault) if Instant::now() > end || fault.is::<Ended>() => {
                return Err(fault.context(format!("waited {seconds} s in vain: {what}")));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
