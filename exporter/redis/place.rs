//! Where the keys are: at one server, at the primary that the Sentinels name, or each at the node of a Cluster that has its slot.
//!
//! All nodes that may know are asked at once, and the first that does is believed: one that is down, or silent, costs no time.
//! Cost: a connection and one command (`SENTINEL get-master-addr-by-name`, `CLUSTER SLOTS`) each, when connecting; in a Cluster
//! again when a node is silent or a slot has moved, beside the reads of that poll.

use super::link::{Link, Login};
use super::resp::{Batch, Word};
use crate::reads::{ReadError, Reply};
use fred::types::config::Server;
use futures_util::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Where the keys are.
pub enum Place {
    /// All at one server.
    Server(Server),
    /// Each at the node that has its slot.
    Cluster(Cluster),
}

/// A cluster, as one of its nodes told it.
pub struct Cluster {
    /// Those of the URL.
    seeds: Vec<Server>,
    slots: Slots,
    login: Arc<Login>,
    limit: Duration,
    /// A new look at the map of slots.
    refresh: Option<JoinHandle<Result<Slots, ReadError>>>,
}

/// The primary of each slot.
#[derive(Debug, Default, PartialEq)]
pub struct Slots {
    primaries: Vec<Server>,
    /// By the first slot of a range its last one, and the place of its primary.
    ranges: BTreeMap<u16, (u16, usize)>,
}

impl Slots {
    /// The place among [`Slots::primaries`] of the one that has this slot.
    #[must_use]
    pub fn primary(&self, slot: u16) -> Option<usize> {
        let (_, (last, place)) = self.ranges.range(..=slot).next_back()?;
        (slot <= *last).then_some(*place)
    }

    /// All primaries that have slots.
    #[must_use]
    pub fn primaries(&self) -> &[Server] {
        &self.primaries
    }
}

impl Cluster {
    /// Asks these nodes for the map of slots.
    ///
    /// # Errors
    /// Why none of them told it.
    pub async fn open(seeds: Vec<Server>, login: Arc<Login>, limit: Duration) -> Result<Self, ReadError> {
        let slots = first(&seeds, &login, limit, &[Word::Text(b"CLUSTER"), Word::Text(b"SLOTS")], slots).await?;
        Ok(Self { seeds, slots, login, limit, refresh: None })
    }

    /// The map of slots as it was last told.
    pub async fn slots(&mut self) -> &Slots {
        if self.refresh.as_ref().is_some_and(JoinHandle::is_finished)
            && let Some(refresh) = self.refresh.take()
        {
            match refresh.await {
                Ok(Ok(slots)) => self.slots = slots,
                Ok(Err(error)) => tracing::debug!(%error, "the cluster's slots are not known anew"),
                Err(_) => {}
            }
        }
        &self.slots
    }

    /// Looks at the map of slots again, unless it is being looked at.
    pub fn refresh(&mut self) {
        if self.refresh.is_none() {
            let (login, limit) = (Arc::clone(&self.login), self.limit);
            let mut nodes = self.slots.primaries.clone();
            nodes.extend(self.seeds.iter().filter(|seed| !self.slots.primaries.contains(seed)).cloned());
            self.refresh = Some(tokio::spawn(async move {
                first(&nodes, &login, limit, &[Word::Text(b"CLUSTER"), Word::Text(b"SLOTS")], slots).await
            }));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.refresh.iter().for_each(JoinHandle::abort);
    }
}

/// The primary that one of these Sentinels names.
///
/// # Errors
/// Why none of them names one.
pub async fn primary(sentinels: &[Server], service: &str, login: &Login, limit: Duration) -> Result<Server, ReadError> {
    let words = [Word::Text(b"SENTINEL"), Word::Text(b"get-master-addr-by-name"), Word::Text(service.as_bytes())];
    first(sentinels, login, limit, &words, |reply, _| match reply {
        Reply::Array(parts) => match parts.as_slice() {
            [Reply::Bytes(host), Reply::Bytes(port)] => server(host, std::str::from_utf8(port).ok()?.parse().ok()?),
            _ => None,
        },
        _ => None,
    })
    .await
    .map_err(|error| match error {
        ReadError::Shape(_) => ReadError::NoAnswer(format!("the Sentinels know of no primary named {service}")),
        error => error,
    })
}

/// Asks all of these at once; gives what the first of them says that `read` makes something of.
///
/// # Errors
/// Of the errors one that says most.
async fn first<T>(
    servers: &[Server],
    login: &Login,
    limit: Duration,
    words: &[Word<'_>],
    read: impl Fn(&Reply, &Server) -> Option<T>,
) -> Result<T, ReadError> {
    let mut asked: FuturesUnordered<_> = servers.iter().map(|server| ask(server, login, limit, words)).collect();
    let mut worst = ReadError::NoAnswer("no node is named in REDIS_URL".into());
    while let Some((server, reply)) = asked.next().await {
        match reply.and_then(|reply| read(&reply, server).ok_or(ReadError::Shape("no node is told"))) {
            Ok(found) => return Ok(found),
            Err(error) if worst.is_silence() || matches!(error, ReadError::Login(_)) => worst = error,
            Err(_) => {}
        }
    }
    Err(worst)
}

async fn ask<'a>(
    server: &'a Server,
    login: &Login,
    limit: Duration,
    words: &[Word<'_>],
) -> (&'a Server, Result<Reply, ReadError>) {
    let talk = async {
        let mut link = Link::open(server, login, limit).await?;
        let mut batch = Batch::default();
        batch.add(words);
        match link.exchange(&batch).await?.pop() {
            Some(Reply::Error(text)) => Err(ReadError::Refused(text)),
            Some(reply) => Ok(reply),
            None => Err(ReadError::Shape("no reply")),
        }
    };
    let told = tokio::time::timeout(limit, talk).await;
    (server, told.unwrap_or_else(|_| Err(ReadError::NoAnswer("connecting timed out".into()))))
}

/// The map of CLUSTER SLOTS: of each range its first and last slot, its primary and its replicas; a node is its preferred
/// host, or nil for the host that was asked, its port, its id, and since Redis 7 pairs of other names.
pub(super) fn slots(reply: &Reply, asked: &Server) -> Option<Slots> {
    let Reply::Array(ranges) = reply else { return None };
    let mut slots = Slots::default();
    for range in ranges {
        let Reply::Array(range) = range else { return None };
        let [Reply::Int(start), Reply::Int(end), Reply::Array(node), ..] = range.as_slice() else { return None };
        let [host, Reply::Int(port), ..] = node.as_slice() else { return None };
        let preferred = match host {
            Reply::Bytes(host) if !host.is_empty() => Some(std::str::from_utf8(host).ok()?),
            _ => None,
        };
        // A certificate holds names rather than addresses.
        let is_name = preferred.is_some_and(|host| host.parse::<std::net::IpAddr>().is_err());
        let named = node.get(3).and_then(hostname).filter(|_| !is_name);
        let host = named.or(preferred).unwrap_or(&asked.host);
        let server = server(host.as_bytes(), u16::try_from(*port).ok()?)?;
        let place = slots.primaries.iter().position(|known| *known == server).unwrap_or(slots.primaries.len());
        if place == slots.primaries.len() {
            slots.primaries.push(server);
        }
        slots.ranges.insert(u16::try_from(*start).ok()?, (u16::try_from(*end).ok()?, place));
    }
    Some(slots)
}

/// The `hostname` among a node's other names.
fn hostname(names: &Reply) -> Option<&str> {
    let Reply::Array(names) = names else { return None };
    names.chunks(2).find_map(|pair| match pair {
        [Reply::Bytes(name), Reply::Bytes(host)] if name.as_ref() == b"hostname" && !host.is_empty() => {
            std::str::from_utf8(host).ok()
        }
        _ => None,
    })
}

fn server(host: &[u8], port: u16) -> Option<Server> {
    Some(Server::new(std::str::from_utf8(host).ok()?, port))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn text(text: &str) -> Reply {
        Reply::Bytes(Bytes::copy_from_slice(text.as_bytes()))
    }

    fn range(start: i64, end: i64, node: Vec<Reply>) -> Reply {
        Reply::Array(vec![Reply::Int(start), Reply::Int(end), Reply::Array(node)])
    }

    #[test]
    fn the_map_says_which_primary_has_a_slot() {
        let asked = Server::new("seed", 1);
        let names = Reply::Array(vec![text("hostname"), text("b.example.com")]);
        let told = Reply::Array(vec![
            range(0, 99, vec![text("10.0.0.1"), Reply::Int(6379), text("id")]),
            range(100, 199, vec![text("10.0.0.2"), Reply::Int(6379), text("id"), names]),
            range(300, 400, vec![Reply::Nil, Reply::Int(7000), text("id"), Reply::Array(Vec::new())]),
            range(500, 16_383, vec![text("10.0.0.1"), Reply::Int(6379), text("id")]),
        ]);
        let slots = slots(&told, &asked).unwrap();
        let at = |slot| slots.primary(slot).map(|place| slots.primaries()[place].to_string());
        let known = [0, 99, 100, 300, 400, 500, 16_383].map(|slot| at(slot).unwrap());
        let [one, two, three] = ["10.0.0.1:6379", "b.example.com:6379", "seed:7000"];
        assert_eq!(known, [one, one, two, three, three, one, one]);
        assert_eq!([200, 299, 401, 499].map(at), [None, None, None, None]);
        assert_eq!(slots.primaries().len(), 3);
    }

    proptest! {
        #[test]
        fn no_reply_is_too_strange(start in any::<i64>(), end in any::<i64>(), port in any::<i64>(), host in any::<Vec<u8>>()) {
            let node = vec![Reply::Bytes(host.into()), Reply::Int(port), Reply::Nil, Reply::Array(vec![Reply::Nil])];
            let _ = slots(&Reply::Array(vec![range(start, end, node)]), &Server::new("seed", 1));
        }
    }
}
