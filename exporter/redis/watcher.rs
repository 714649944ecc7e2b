//! Keyspace notifications: counts removals from the lists that ask for it, on a connection of its own.
//!
//! One channel a list, `__keyspace@DB__:KEY`, so Redis sends nothing of other keys. The server must be set to send them:
//! `notify-keyspace-events` with `K` and `l`. Cost: about 2.5 us of Redis a job and one message to this program.

use crate::pops::PopCount;
use bytes::Bytes;
use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Builder;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// Subscriptions are told apart by number, over all connections of this process.
static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);

/// A subscription and its counts.
pub struct Watcher {
    counts: Arc<RwLock<HashMap<Bytes, PopCount>>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Watcher {
    /// Subscribes; `None`, and a line in the log, where Redis does not let that be.
    pub async fn start(builder: &Builder, keys: &[Bytes], timeout: Duration) -> Option<Self> {
        match tokio::time::timeout(timeout, Self::subscribe(builder, keys)).await {
            Ok(Ok(watcher)) => Some(watcher),
            Ok(Err(error)) => {
                tracing::warn!(error = %error.details(), "no keyspace notifications; polls that saw a drain stay gaps");
                None
            }
            Err(_) => {
                tracing::warn!("subscribing to keyspace notifications timed out; polls that saw a drain stay gaps");
                None
            }
        }
    }

    async fn subscribe(builder: &Builder, keys: &[Bytes]) -> Result<Self, fred::error::Error> {
        let client: SubscriberClient = builder.build_subscriber_client()?;
        let database = client.client_config().database.unwrap_or(0);
        let channels: HashMap<String, Bytes> = keys
            .iter()
            .filter_map(|key| {
                Some((format!("__keyspace@{database}__:{}", std::str::from_utf8(key).ok()?), key.clone()))
            })
            .collect();
        let subscription = SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed);
        let start = PopCount { events: 0, subscription };
        let counts = Arc::new(RwLock::new(channels.values().map(|key| (key.clone(), start)).collect()));
        let mut events = client.keyspace_event_rx();
        let connection = client.init().await?;
        client.subscribe(channels.keys().cloned().collect::<Vec<_>>()).await?;
        let shared = Arc::clone(&counts);
        let counting = tokio::spawn(async move {
            loop {
                match events.recv().await {
                    Ok(event) if is_removal(&event.operation) => update(&shared, |counts| {
                        if let Some(count) = counts.get_mut(event.key.as_bytes()) {
                            count.events += 1;
                        }
                    }),
                    Ok(_) => {}
                    // Some were lost: what was counted so far can't be continued.
                    Err(RecvError::Lagged(_)) => {
                        let subscription = SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed);
                        update(&shared, |counts| {
                            counts.values_mut().for_each(|count| count.subscription = subscription)
                        });
                    }
                    Err(RecvError::Closed) => break,
                }
            }
        });
        let shared = Arc::clone(&counts);
        let ending = tokio::spawn(async move {
            let _keep = client;
            let _ = connection.await;
            update(&shared, HashMap::clear);
        });
        Ok(Self { counts, tasks: vec![counting, ending] })
    }

    /// The removals from one list so far; `None` once the subscription has ended.
    #[must_use]
    pub fn count(&self, key: &Bytes) -> Option<PopCount> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

fn update(counts: &RwLock<HashMap<Bytes, PopCount>>, change: impl FnOnce(&mut HashMap<Bytes, PopCount>)) {
    change(&mut counts.write().unwrap_or_else(PoisonError::into_inner));
}

/// The events of RPOP, LPOP, LMOVE and their blocking kin at the list that is taken from.
fn is_removal(event: &str) -> bool {
    event == "rpop" || event == "lpop"
}
