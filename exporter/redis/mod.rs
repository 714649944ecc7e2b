//! The connection to Redis.
//!
//! fred finds out where to read: it understands the URL, follows Sentinel and Cluster, and subscribes. The reads themselves go
//! over a [`Link`] of our own to each node, for fred does work for each command: with it a poll took this program twice the CPU.
//!
//! All reads of one slice of a poll go to each Redis node in one write, so a slice is one round trip. The atomic reads of
//! [`GROUP`] queues share one MULTI/EXEC; where Redis refuses to queue one of them it refuses all, and such a group is read
//! again, queue by queue; the queue at fault is read alone from then on ([`Request::alone`]).
//!
//! A Redis over its `maxmemory` refuses what is queued in a MULTI, reads too: there the same reads go again without one.
//!
//! A connection that gave no answer at all is dropped and made anew at the next poll: that reads a rotated password or
//! certificate, resolves names again, and leaves nothing of the old state behind. Within a cluster this goes for the link to
//! the node at fault; fred looks at the map of slots again meanwhile, and reconnects to single nodes by itself, without end,
//! after 0.1 to 1 s with jitter.

mod link;
pub mod resp;
mod settings;
mod watcher;

use crate::config::{RedisConfig, Timeouts};
use crate::reads::{Ask, Read, ReadError, Reply};
use bytes::Bytes;
use fred::error::{Error, ErrorKind};
use fred::prelude::*;
use fred::types::config::{Server, ServerConfig, TlsConnector};
use futures_util::future::join_all;
use link::{Link, Login};
use resp::{Batch, Word};
use settings::settings;
use std::collections::{BTreeMap, HashMap};
use tokio::task::JoinHandle;
use watcher::Watcher;

/// Queues that share one MULTI/EXEC: it holds Redis for about 50 us, and saves two commands a queue.
const GROUP: usize = 32;
/// Events that may be on their way before one is lost, and with it a subscription's count.
const EVENTS: usize = 65_536;

/// What one queue asks for.
#[derive(Debug)]
pub struct Request {
    /// The reads.
    pub ask: Ask,
    /// Whether its atomic reads get a MULTI/EXEC of their own.
    pub alone: bool,
}

/// The answers to one [`Request`]: atomic reads first, then plain ones.
pub type Answers = Vec<Result<Reply, ReadError>>;

/// What one node is asked for.
#[derive(Default)]
struct Share<'a> {
    /// Requests whose atomic reads are its.
    atomic: Vec<usize>,
    /// Plain reads, with their place in the answers: request and position.
    plain: Vec<(usize, usize, &'a Read)>,
}

impl Share<'_> {
    /// Answers all of it with an error.
    fn fail(&self, error: &ReadError, requests: &[Request], found: &mut Vec<Found>) {
        fail(error, requests, &self.atomic, found);
        found.extend(self.plain.iter().map(|(index, position, _)| (*index, *position, Err(error.clone()))));
    }
}

/// A result and its place in the answers: request and position.
type Found = (usize, usize, Result<Reply, ReadError>);

/// A connected client.
pub struct Connection {
    place: Place,
    links: HashMap<Server, Link>,
    login: Login,
    watcher: Option<Watcher>,
    timeouts: Timeouts,
}

/// Where the keys are.
enum Place {
    /// All at one server.
    Server(Server),
    /// Each at the node that has its slot.
    Cluster(Cluster),
}

/// fred's view of a cluster, or of what a Sentinel watches.
struct Cluster {
    client: Client,
    task: JoinHandle<Result<(), Error>>,
    /// A new look at the map of slots.
    refresh: Option<JoinHandle<()>>,
}

impl Cluster {
    async fn open(builder: &Builder, timeouts: Timeouts) -> Result<Self, ReadError> {
        let client = builder.build().map_err(|error| ReadError::NoAnswer(error.to_string()))?;
        // fred has a bound for each step of connecting; this one is for all of them.
        let task = tokio::time::timeout(timeouts.connect, client.init()).await;
        let task = task.map_err(|_| ReadError::NoAnswer("connecting timed out".into()))?.map_err(refusal)?;
        Ok(Self { client, task, refresh: None })
    }

    /// Looks at the map of slots again, unless it is being looked at.
    fn refresh(&mut self) {
        if self.refresh.as_ref().is_none_or(JoinHandle::is_finished) {
            let client = self.client.clone();
            self.refresh = Some(tokio::spawn(async move {
                if let Err(error) = client.sync_cluster().await {
                    tracing::debug!(%error, "the cluster's slots are not known anew");
                }
            }));
        }
    }
}

impl Drop for Cluster {
    /// Closes the sockets at once: a QUIT to a server that does not answer would wait.
    fn drop(&mut self) {
        self.task.abort();
        self.refresh.iter().for_each(JoinHandle::abort);
    }
}

/// The primary that a Sentinel names.
async fn primary(builder: &Builder, timeouts: Timeouts) -> Result<Server, ReadError> {
    let sentinel = Cluster::open(builder, timeouts).await?;
    sentinel.client.sentinel_primary().ok_or_else(|| ReadError::NoAnswer("no Sentinel names a primary".into()))
}

/// Checks the settings as far as that goes without a connection.
///
/// # Errors
/// One text that names the setting and the remedy, and holds no secret.
pub fn check(config: &RedisConfig) -> Result<(), String> {
    settings(config).map(|_| ())
}

impl Connection {
    /// Connects, logs in, and subscribes to the removals of the lists in `notify`.
    ///
    /// # Errors
    /// [`ReadError::Login`] where Redis refuses the login, else [`ReadError::NoAnswer`].
    pub async fn open(config: &RedisConfig, notify: &[Bytes]) -> Result<Self, ReadError> {
        let settings = settings(config).map_err(ReadError::NoAnswer)?;
        let server = settings.server.clone();
        let login = Login {
            tls: settings.tls.as_ref().map(|tls| match &tls.connector {
                TlsConnector::Rustls(connector) => connector.clone(),
            }),
            username: settings.username.clone(),
            password: settings.password.clone(),
            database: settings.database.unwrap_or(0),
        };
        let timeouts = config.timeouts;
        let mut builder = Builder::from_config(settings);
        builder.with_connection_config(|connection| {
            connection.connection_timeout = timeouts.connect;
            connection.internal_command_timeout = timeouts.connect;
            connection.disable_cluster_health_check = true;
        });
        let place = match server {
            ServerConfig::Centralized { server } => Place::Server(server),
            ServerConfig::Sentinel { .. } => Place::Server(primary(&builder, timeouts).await?),
            ServerConfig::Clustered { .. } => {
                builder.set_policy(ReconnectPolicy::new_exponential(0, 100, 1_000, 2));
                Place::Cluster(Cluster::open(&builder, timeouts).await?)
            }
        };
        let mut connection = Self { place, links: HashMap::new(), login, watcher: None, timeouts };
        match &connection.place {
            Place::Server(server) => {
                let link = Link::open(server, &connection.login, timeouts.connect).await?;
                connection.links.insert(server.clone(), link);
                if !notify.is_empty() {
                    builder.with_performance_config(|performance| performance.broadcast_channel_capacity = EVENTS);
                    connection.watcher = Watcher::start(&builder, notify, timeouts.connect).await;
                }
            }
            // Each node tells of its own keys only, and which node that is can change.
            Place::Cluster(_) if !notify.is_empty() => {
                tracing::warn!("notify=true has no effect in a Redis Cluster; polls that saw a drain stay gaps");
            }
            Place::Cluster(_) => {}
        }
        Ok(connection)
    }

    /// The removals from a list that notifications have counted so far.
    #[must_use]
    pub fn pops(&self, key: &Bytes) -> Option<crate::pops::PopCount> {
        self.watcher.as_ref()?.count(key)
    }

    /// Whether reads can go over it.
    #[must_use]
    pub fn is_alive(&mut self) -> bool {
        match &self.place {
            Place::Server(server) => self.links.get_mut(server).is_some_and(Link::is_open),
            Place::Cluster(cluster) => !cluster.task.is_finished(),
        }
    }

    /// Whether this is a Redis Cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Reads all requests, in one write to each node. Answers come in the order of the requests.
    pub async fn read(&mut self, requests: &[Request]) -> Vec<Answers> {
        let slots = match &self.place {
            Place::Server(_) => None,
            Place::Cluster(cluster) => cluster.client.cached_cluster_state(),
        };
        let server = |read: &Read| match &self.place {
            Place::Server(server) => Some(server),
            Place::Cluster(_) => slots.as_ref()?.get_server(slot(read)),
        };
        let mut shares: BTreeMap<Option<&Server>, Share> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            if let Some(read) = request.ask.atomic.first() {
                shares.entry(server(read)).or_default().atomic.push(index);
            }
            for (position, read) in request.ask.plain.iter().enumerate() {
                shares.entry(server(read)).or_default().plain.push((index, position + request.ask.atomic.len(), read));
            }
        }
        let missing = || Err(ReadError::Shape("a reply is missing"));
        let mut answers: Vec<Answers> = requests
            .iter()
            .map(|request| vec![missing(); request.ask.atomic.len() + request.ask.plain.len()])
            .collect();
        let clustered = self.is_clustered();
        let mut nodes = Vec::with_capacity(shares.len());
        let mut unserved = Vec::new();
        for (server, share) in shares {
            let Some(server) = server else {
                share.fail(&ReadError::NoAnswer("no node of the cluster has its slot".into()), requests, &mut unserved);
                continue;
            };
            let link = self.links.remove(server);
            let node = Node { server, login: &self.login, timeouts: self.timeouts, clustered, link, moved: false };
            nodes.push((node, share));
        }
        let reads = nodes.into_iter().map(|(node, share)| node.read(requests, share));
        let mut stale = !unserved.is_empty();
        let mut put = |found: Vec<Found>| {
            for (index, position, result) in found {
                if let Some(place) = answers.get_mut(index).and_then(|answers| answers.get_mut(position)) {
                    *place = result;
                }
            }
        };
        put(unserved);
        for (node, found) in join_all(reads).await {
            stale |= node.moved || node.link.is_none();
            self.links.extend(node.link.map(|link| (node.server.clone(), link)));
            put(found);
        }
        if let Place::Cluster(cluster) = &mut self.place
            && stale
        {
            cluster.refresh();
        }
        answers
    }
}

/// A node while it is read.
struct Node<'a> {
    server: &'a Server,
    login: &'a Login,
    timeouts: Timeouts,
    clustered: bool,
    link: Option<Link>,
    /// Whether it sent us elsewhere.
    moved: bool,
}

impl Node<'_> {
    async fn read(mut self, requests: &[Request], share: Share<'_>) -> (Self, Vec<Found>) {
        let groups = self.groups(requests, &share.atomic);
        let mut batch = Batch::with_capacity(self.link.as_ref().map_or(0, Link::sent));
        for group in &groups {
            add_group(&mut batch, requests, group);
        }
        for (.., read) in &share.plain {
            batch.add_read(read);
        }
        let mut results = self.send(batch).await.into_iter();
        let mut found = Vec::with_capacity(results.len());
        let (mut failed, mut refused) = (Vec::new(), Vec::new());
        for group in &groups {
            match take_group(requests, group, &mut results, &mut found) {
                Ok(()) => {}
                Err(error) if error.is_out_of_memory() => refused.extend(group.iter().copied()),
                Err(error) if group.len() == 1 || error.is_silence() => fail(&error, requests, group, &mut found),
                Err(_) => failed.extend(group.iter().copied()),
            }
        }
        found.extend(share.plain.iter().zip(results).map(|((index, position, _), result)| (*index, *position, result)));
        self.read_alone(requests, &failed, &mut found).await;
        self.read_bare(requests, &refused, &mut found).await;
        (self, found)
    }

    /// Reads the atomic part of these requests again without MULTI, which a Redis that is out of memory refuses. What leaves between
    /// two of these reads is seen by the one and not by the other; next to nothing comes in meanwhile.
    async fn read_bare(&mut self, requests: &[Request], indices: &[usize], found: &mut Vec<Found>) {
        let mut batch = Batch::default();
        let mut places = Vec::new();
        for index in indices {
            let reads = requests.get(*index).map_or(&[][..], |request| &request.ask.atomic);
            for (position, read) in reads.iter().enumerate() {
                batch.add_read(read);
                places.push((*index, position));
            }
        }
        let results = self.send(batch).await;
        found.extend(places.into_iter().zip(results).map(|((index, position), result)| (index, position, result)));
    }

    /// Reads the atomic part of these requests again, each in a MULTI/EXEC of its own.
    async fn read_alone(&mut self, requests: &[Request], indices: &[usize], found: &mut Vec<Found>) {
        let mut batch = Batch::default();
        for index in indices {
            add_group(&mut batch, requests, &[*index]);
        }
        let mut results = self.send(batch).await.into_iter();
        for index in indices {
            if let Err(error) = take_group(requests, &[*index], &mut results, found) {
                fail(&error, requests, &[*index], found);
            }
        }
    }

    /// Requests with atomic reads, as they share a MULTI/EXEC: only within one slot in a cluster.
    fn groups(&self, requests: &[Request], indices: &[usize]) -> Vec<Vec<usize>> {
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut open: Option<u16> = None;
        for index in indices {
            let Some(request) = requests.get(*index) else { continue };
            let slot = if self.clustered { request.ask.atomic.first().map_or(0, slot) } else { 0 };
            match groups.last_mut() {
                Some(group) if open == Some(slot) && !request.alone && group.len() < GROUP => group.push(*index),
                _ => groups.push(vec![*index]),
            }
            open = (!request.alone).then_some(slot);
        }
        groups
    }

    /// Sends a batch and returns as many results as it has commands.
    async fn send(&mut self, batch: Batch) -> Answers {
        if batch.commands() == 0 {
            return Vec::new();
        }
        let exchanged = tokio::time::timeout(self.timeouts.command, self.exchange(&batch)).await;
        match exchanged.unwrap_or_else(|_| Err(ReadError::NoAnswer("timed out".into()))) {
            Ok(replies) => replies.into_iter().map(|reply| self.result(reply)).collect(),
            Err(error) => vec![Err(error); batch.commands()],
        }
    }

    /// The link is kept only where all went well.
    async fn exchange(&mut self, batch: &Batch) -> Result<Vec<Reply>, ReadError> {
        let open = self.link.as_mut().is_some_and(Link::is_open);
        let mut link = match self.link.take().filter(|_| open) {
            Some(link) => link,
            None => Link::open(self.server, self.login, self.timeouts.connect).await?,
        };
        let replies = link.exchange(batch).await?;
        self.link = Some(link);
        Ok(replies)
    }

    /// A slot that is moving, or has moved, is read at the next poll, by a new map of slots.
    fn result(&mut self, reply: Reply) -> Result<Reply, ReadError> {
        let Reply::Error(text) = reply else { return Ok(reply) };
        let moving = self.clustered && ["MOVED ", "ASK ", "TRYAGAIN "].iter().any(|start| text.starts_with(start));
        self.moved |= moving;
        Err(if moving {
            ReadError::NoAnswer("its slot is moving to another node".into())
        } else {
            ReadError::Refused(text)
        })
    }
}

fn add_group(batch: &mut Batch, requests: &[Request], group: &[usize]) {
    batch.add(&[Word::Text(b"MULTI")]);
    for request in group.iter().filter_map(|index| requests.get(*index)) {
        request.ask.atomic.iter().for_each(|read| batch.add_read(read));
    }
    batch.add(&[Word::Text(b"EXEC")]);
}

fn slot(read: &Read) -> u16 {
    fred::util::redis_keyslot(read.key())
}

fn atomic(requests: &[Request], index: usize) -> usize {
    requests.get(index).map_or(0, |request| request.ask.atomic.len())
}

/// The places of the atomic reads of a group.
fn places(requests: &[Request], group: &[usize]) -> impl Iterator<Item = (usize, usize)> {
    group.iter().flat_map(|index| (0..atomic(requests, *index)).map(move |position| (*index, position)))
}

/// Answers all reads of a group with an error.
fn fail(error: &ReadError, requests: &[Request], group: &[usize], found: &mut Vec<Found>) {
    found.extend(places(requests, group).map(|(index, position)| (index, position, Err(error.clone()))));
}

/// Takes the results of MULTI, the queued reads and EXEC of one group.
///
/// An error at a read says why EXEC gave up; else the reply of EXEC, which must hold one reply a read.
fn take_group(
    requests: &[Request],
    group: &[usize],
    results: &mut std::vec::IntoIter<Result<Reply, ReadError>>,
    found: &mut Vec<Found>,
) -> Result<(), ReadError> {
    let total: usize = group.iter().map(|index| atomic(requests, *index)).sum();
    // All of them are taken, whatever they say.
    let mut refused = None;
    for result in results.by_ref().take(total + 1) {
        refused = refused.or(result.err());
    }
    let executed = results.next().unwrap_or(Err(ReadError::Shape("no reply to EXEC")));
    if let Some(error) = refused {
        return Err(error);
    }
    let replies = match executed? {
        Reply::Array(replies) if replies.len() == total => replies,
        _ => return Err(ReadError::Shape("EXEC gave other than one reply a command")),
    };
    found.extend(places(requests, group).zip(replies).map(|((index, position), reply)| match reply {
        Reply::Error(text) => (index, position, Err(ReadError::Refused(text))),
        reply => (index, position, Ok(reply)),
    }));
    Ok(())
}

/// Sorts fred's errors: what the server said, and what is only that it said nothing.
fn refusal(error: Error) -> ReadError {
    match error.kind() {
        ErrorKind::Auth => ReadError::Login(error.details().to_string()),
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Cluster => {
            ReadError::Refused(error.details().to_string())
        }
        _ => ReadError::NoAnswer(settings::of_tls(error.details()).unwrap_or(error.details()).to_string()),
    }
}
