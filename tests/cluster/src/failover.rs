//! A replica of the world's Redis and a Sentinel that lets it take over.

use crate::process::{Process, free_port, wait_for};
use crate::workers::connect;
use anyhow::{Result, ensure};
use std::path::Path;

/// While this is there, Redis is asked for through the Sentinel.
pub struct Failover {
    pub url: String,
    _replica: Process,
    _sentinel: Process,
}

/// Starts `redis-server` on this port, with what it holds in a folder of its own.
pub fn redis(logs: &Path, folder: &Path, port: u16) -> Result<Process> {
    std::fs::create_dir_all(folder)?;
    let config = folder.join("redis.conf");
    // what it has taken is kept when it is killed
    let text = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nappendonly yes\nappendfsync always\nsave ''\n\
         repl-diskless-sync-delay 0\nreplica-serve-stale-data no\n",
        folder.display()
    );
    std::fs::write(&config, text)?;
    Process::start(logs, "redis", Path::new("redis-server"), &[config.display().to_string()], &[])
}

impl Failover {
    /// Has the Redis on port `primary` followed and watched; waits until the replica is in step.
    pub async fn start(logs: &Path, folder: &Path, primary: u16) -> Result<Self> {
        let port = free_port()?;
        let replica = redis(logs, &folder.join("replica"), port)?;
        let replica_url = format!("redis://127.0.0.1:{port}");
        wait_for("the replica is in step", 20, async || {
            let mut redis = connect(&replica_url).await?;
            let primary = primary.to_string();
            redis::cmd("REPLICAOF").arg("127.0.0.1").arg(primary).exec_async(&mut redis).await?;
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut redis).await?;
            ensure!(info.contains("master_link_status:up"), "{info}");
            Ok(())
        })
        .await?;
        let port = free_port()?;
        let config = folder.join("sentinel.conf");
        let text = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor jobs 127.0.0.1 {primary} 1\n\
             sentinel down-after-milliseconds jobs 1000\nsentinel failover-timeout jobs 5000\n",
            folder.display()
        );
        std::fs::write(&config, text)?;
        let arguments = [config.display().to_string(), "--sentinel".to_string()];
        let sentinel = Process::start(logs, "sentinel", Path::new("redis-server"), &arguments, &[])?;
        let sentinel_url = format!("redis://127.0.0.1:{port}");
        wait_for("the Sentinel knows the replica", 20, async || {
            let mut redis = connect(&sentinel_url).await?;
            let known: Vec<redis::Value> =
                redis::cmd("SENTINEL").arg("replicas").arg("jobs").query_async(&mut redis).await?;
            ensure!(!known.is_empty(), "no replica");
            Ok(())
        })
        .await?;
        let url = format!("redis-sentinel://127.0.0.1:{port}?sentinelServiceName=jobs");
        Ok(Self { url, _replica: replica, _sentinel: sentinel })
    }
}
