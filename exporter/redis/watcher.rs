//! Keyspace notifications: counts removals from the lists that ask for it, on a connection of its own.
//!
//! One channel a list, `__keyspace@DB__:KEY`, so Redis sends nothing of other keys. The server must be set to send them:
//! `notify-keyspace-events` with `K` and `l`. Cost: about 2.5 us of Redis a job and one message to this program; a PING where
//! nothing came for [`QUIET`].

use super::link::{Link, Login};
use super::resp::{Batch, Decoder, Word};
use crate::pops::PopCount;
use crate::reads::{ReadError, Reply};
use bytes::Bytes;
use fred::types::config::Server;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::task::JoinHandle;

/// After so long without a word the server is asked for one, and has as long again.
const QUIET: Duration = Duration::from_secs(5);

/// Subscriptions are told apart by number, over all connections of this process.
static SUBSCRIPTIONS: AtomicU64 = AtomicU64::new(1);

type Counts = HashMap<Bytes, PopCount>;

/// A subscription and its counts.
pub struct Watcher {
    counts: Arc<RwLock<Counts>>,
    task: JoinHandle<()>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watcher {
    /// Subscribes; `None`, and a line in the log, where Redis does not let that be.
    pub async fn start(server: &Server, login: &Login, keys: &[Bytes], limit: Duration) -> Option<Self> {
        let subscribed = tokio::time::timeout(limit, subscribe(server, login, keys, limit)).await;
        match subscribed.unwrap_or_else(|_| Err(ReadError::NoAnswer("subscribing timed out".into()))) {
            Ok((link, decoder)) => {
                let start = PopCount { events: 0, subscription: SUBSCRIPTIONS.fetch_add(1, Ordering::Relaxed) };
                let counts = Arc::new(RwLock::new(keys.iter().map(|key| (key.clone(), start)).collect()));
                let (shared, prefix) = (Arc::clone(&counts), channel(login, b"").len());
                let task = tokio::spawn(async move {
                    let error = listen(link, decoder, prefix, &shared).await;
                    tracing::warn!(%error, "keyspace notifications have ended; they are asked for again at the next poll");
                    update(&shared, Counts::clear);
                });
                Some(Self { counts, task })
            }
            Err(error) => {
                tracing::warn!(%error, "no keyspace notifications; polls that saw a drain stay gaps");
                None
            }
        }
    }

    /// Whether the subscription goes on.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// The removals from one list so far; `None` once the subscription has ended.
    #[must_use]
    pub fn count(&self, key: &Bytes) -> Option<PopCount> {
        self.counts.read().unwrap_or_else(PoisonError::into_inner).get(key).copied()
    }
}

fn channel(login: &Login, key: &[u8]) -> Vec<u8> {
    [format!("__keyspace@{}__:", login.database).as_bytes(), key].concat()
}

/// Connects, and waits until each subscription is confirmed.
async fn subscribe(
    server: &Server,
    login: &Login,
    keys: &[Bytes],
    limit: Duration,
) -> Result<(Link, Decoder), ReadError> {
    let mut link = Link::open(server, login, limit).await?;
    let channels: Vec<Vec<u8>> = keys.iter().map(|key| channel(login, key)).collect();
    let words: Vec<Word> =
        std::iter::once(Word::Text(b"SUBSCRIBE")).chain(channels.iter().map(|channel| Word::Text(channel))).collect();
    let mut batch = Batch::default();
    batch.add(&words);
    link.say(&batch).await?;
    let mut decoder = Decoder::default();
    for _ in &channels {
        if let Reply::Error(text) = link.hear(&mut decoder).await? {
            return Err(ReadError::Refused(text));
        }
    }
    Ok((link, decoder))
}

/// Counts until the server falls silent, or hangs up; gives what it ended with.
async fn listen(mut link: Link, mut decoder: Decoder, prefix: usize, counts: &RwLock<Counts>) -> ReadError {
    let mut ping = Batch::default();
    ping.add(&[Word::Text(b"PING")]);
    let mut asked = false;
    loop {
        match tokio::time::timeout(QUIET, link.hear(&mut decoder)).await {
            Ok(Ok(reply)) => {
                asked = false;
                if let Some(key) = removed(&reply, prefix) {
                    update(counts, |counts| counts.get_mut(key).into_iter().for_each(|count| count.events += 1));
                }
            }
            Ok(Err(error)) => return error,
            Err(_) if asked => return ReadError::NoAnswer("the server has fallen silent".into()),
            Err(_) => {
                asked = true;
                if let Err(error) = link.say(&ping).await {
                    return error;
                }
            }
        }
    }
}

/// The list that a message tells a removal from: RPOP, LPOP, LMOVE and their blocking kin.
fn removed(message: &Reply, prefix: usize) -> Option<&[u8]> {
    let Reply::Array(parts) = message else { return None };
    match parts.as_slice() {
        [Reply::Bytes(kind), Reply::Bytes(channel), Reply::Bytes(event)]
            if kind.as_ref() == b"message" && matches!(event.as_ref(), b"rpop" | b"lpop") =>
        {
            channel.get(prefix..)
        }
        _ => None,
    }
}

fn update(counts: &RwLock<Counts>, change: impl FnOnce(&mut Counts)) {
    change(&mut counts.write().unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_is_told_from_other_messages() {
        let text = |text: &'static str| Reply::Bytes(Bytes::from_static(text.as_bytes()));
        let message = |kind, event| Reply::Array(vec![text(kind), text("__keyspace@0__:mail"), text(event)]);
        assert_eq!(removed(&message("message", "rpop"), 15), Some(&b"mail"[..]));
        assert_eq!(removed(&message("message", "lpop"), 100), None);
        assert_eq!(removed(&message("message", "lpush"), 15), None);
        assert_eq!(removed(&message("subscribe", "rpop"), 15), None);
        assert_eq!(removed(&Reply::Array(vec![text("pong"), text("")]), 15), None);
        assert_eq!(removed(&Reply::Int(1), 15), None);
    }
}
