//! queue-exporter tells, for every job queue in a Redis, how many jobs wait and are in flight, how fast they are
//! processed and how long the oldest has waited.
//!
//! Data flows one way: the environment becomes a checked [`config::Config`]; at each tick [`poll`] reads all queues in
//! one pipelined round trip through their [`layout`]s, folds each observation into its [`flow`], and publishes an
//! immutable [`snapshot::Snapshot`]; [`http`] serves what [`metrics`] and [`page`] make of it, and never touches Redis.

pub mod anchors;
pub mod board;
pub mod check;
pub mod config;
pub mod curve;
pub mod fifo;
pub mod flow;
pub mod glob;
pub mod http;
pub mod label;
pub mod layout;
pub mod metrics;
pub mod page;
pub mod payload;
pub mod poll;
pub mod pops;
pub mod reader;
pub mod reads;
pub mod redis;
pub mod snapshot;
pub mod spec;
pub mod times;
pub mod watched;
mod watcher;

use config::Config;
use http::{Limits, Pages};
use metrics::Stats;
use poll::Poller;
use std::sync::Arc;
use tokio::net::TcpListener;

/// Polls and serves until `shutdown` ends. The caller binds the listener, so tests use port 0.
///
/// # Errors
/// Where the exporter's own series can't be registered, which is a fault of this program.
pub async fn run(
    config: Config,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> Result<(), prometheus::Error> {
    let stats = Arc::new(Stats::new(config.queues.len(), config.queues_dropped)?);
    if let Ok(address) = listener.local_addr() {
        let (queues, patterns) = (config.queues.len(), config.discoveries.len());
        tracing::info!(%address, queues, patterns, "serving");
    }
    if config.queues_dropped > 0 {
        tracing::warn!(dropped = config.queues_dropped, "more queues than MAX_QUEUES are configured");
    }
    let poller = Poller::new(config, Arc::clone(&stats));
    let pages = Pages { shown: poller.watch(), stats, pulse: poller.pulse() };
    let polling = tokio::spawn(poller.run());
    http::serve(listener, pages, Limits::default(), shutdown).await;
    polling.abort();
    Ok(())
}
