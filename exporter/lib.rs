//! queue-exporter tells, for every job queue in a Redis, how many jobs wait and are in flight, how fast they are
//! processed and how long the oldest has waited.
//!
//! Data flows one way: the environment becomes a checked [`config::Config`]; at each tick [`poll`] reads all queues in
//! one pipelined round trip through their [`layout`]s, folds each observation into its [`flow`], and publishes an
//! immutable [`snapshot::Snapshot`]; [`http`] serves what [`metrics`] and [`page`] make of it, and never touches Redis.

pub mod anchors;
pub mod board;
pub mod check;
pub mod clock;
pub mod config;
pub mod curve;
pub mod desired;
pub mod fifo;
pub mod flow;
pub mod glob;
pub mod http;
pub mod label;
pub mod layout;
pub mod load;
pub mod metrics;
pub mod page;
pub mod payload;
pub mod poll;
pub mod pops;
pub mod reader;
pub mod reads;
pub mod redis;
pub mod replay;
pub mod scaler;
pub mod snapshot;
pub mod spec;
pub mod times;
pub mod tls;
pub mod watched;
pub mod web;
pub mod window;

use config::Config;
use http::{Limits, Pages};
use metrics::Stats;
use poll::Poller;
use scaler::Scaler;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Where it serves: bound by the caller, so tests use port 0.
pub struct Listeners {
    /// For HTTP.
    pub http: TcpListener,
    /// For gRPC, where the configuration asks for it.
    pub grpc: Option<TcpListener>,
}

impl From<TcpListener> for Listeners {
    fn from(http: TcpListener) -> Self {
        Self { http, grpc: None }
    }
}

/// Polls and serves until `shutdown` ends.
///
/// # Errors
/// Where the exporter's own series can't be registered, which is a fault of this program.
pub async fn run(
    mut config: Config,
    listeners: impl Into<Listeners>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), prometheus::Error> {
    let stats = Arc::new(Stats::new(config.queues.len(), config.queues_dropped)?);
    let Listeners { http: listener, grpc } = listeners.into();
    if let Ok(address) = listener.local_addr() {
        let (queues, patterns) = (config.queues.len(), config.discoveries.len());
        tracing::info!(%address, queues, patterns, "serving");
    }
    if config.queues_dropped > 0 {
        tracing::warn!(dropped = config.queues_dropped, "more queues than MAX_QUEUES are configured");
    }
    let web = config.web.take().map(Arc::new);
    let tls = config.grpc.take().and_then(|grpc| grpc.tls);
    let poller = Poller::new(config, Arc::clone(&stats));
    let (closing, closed) = watch::channel(false);
    let scaler = Scaler { shown: poller.watch(), interest: poller.interest(), closing: closed };
    let scaling = async {
        if let Some(listener) = grpc {
            if let Ok(address) = listener.local_addr() {
                tracing::info!(%address, tls = tls.is_some(), "serving KEDA's external scaler");
            }
            scaler::serve(listener, tls, scaler).await;
        }
    };
    let pages = Pages { shown: poller.watch(), stats, pulse: poller.pulse(), web };
    let polling = tokio::spawn(poller.run());
    let shutdown = async {
        shutdown.await;
        closing.send_replace(true);
    };
    tokio::join!(http::serve(listener, pages, Limits::default(), shutdown), scaling);
    polling.abort();
    Ok(())
}
