//! The connection to Redis.
//!
//! fred understands the URL. All else goes over a [`Link`] of our own to each node, for fred does work for each command: with it
//! a poll took this program twice the CPU. Where to read is asked of all Sentinels, or nodes of a Cluster, at once
//! ([`place`]): fred asks one after the other, and wants every node of a Cluster to be there.
//!
//! All reads of one slice of a poll go to each Redis node in one write, so a slice is one round trip. The atomic reads of
//! [`GROUP`] queues share one MULTI/EXEC; where Redis refuses to queue one of them it refuses all, and such a group is read
//! again, queue by queue; the queue at fault is read alone from then on ([`Request`]).
//!
//! A Redis over its `maxmemory` refuses what is queued in a MULTI, reads too: there the same reads go again without one.
//!
//! A connection that gave no answer at all is dropped and made anew at the next poll: that reads a rotated password or
//! certificate, resolves names again, and leaves nothing of the old state behind. Within a cluster this goes for the link to
//! the node at fault, and the map of slots is looked at again meanwhile.

mod link;
mod place;
pub mod resp;
mod settings;
mod watcher;

use crate::config::{RedisConfig, Timeouts};
use crate::reads::{Asks, Read, ReadError, Reply, Request};
use bytes::Bytes;
use fred::types::config::{Server, ServerConfig, TlsConnector};
use futures_util::future::join_all;
use link::{Link, Login};
use place::{Cluster, Place, primary};
use resp::Batch;
use settings::settings;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tracing::{Instrument, debug_span};
use watcher::Watcher;

/// Queues that share one MULTI/EXEC: it holds Redis for about 50 us, and saves two commands a queue.
const GROUP: usize = 32;

/// A reply, or why there is none.
type Answer = Result<Reply, ReadError>;

/// What one node is asked for.
#[derive(Default)]
struct Share<'a> {
    /// Those whose atomic reads are its.
    atomic: Vec<Request<'a>>,
    /// Its plain reads.
    plain: Vec<&'a Read>,
}

/// What one node answered: to the atomic reads of its share, and to the plain ones.
struct Found {
    atomic: std::vec::IntoIter<Answer>,
    plain: std::vec::IntoIter<Answer>,
}

/// A connected client.
pub struct Connection {
    place: Place,
    links: HashMap<Server, Link>,
    login: Arc<Login>,
    watcher: Option<Watcher>,
    timeouts: Timeouts,
    /// Nodes that gave no answer at this look: they are waited for once.
    silent: HashSet<Server>,
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
        let login = Login {
            tls: settings.tls.map(|tls| match tls.connector {
                TlsConnector::Rustls(connector) => connector,
            }),
            username: settings.username,
            password: settings.password,
            database: settings.database.unwrap_or(0),
        };
        let login = Arc::new(login);
        let timeouts = config.timeouts;
        let place = match settings.server {
            ServerConfig::Centralized { server } => Place::Server(server),
            ServerConfig::Sentinel { hosts, service_name, username, password } => {
                let login = Login { tls: login.tls.clone(), username, password, database: 0 };
                Place::Server(primary(&hosts, &service_name, &login, timeouts.connect).await?)
            }
            ServerConfig::Clustered { hosts, .. } => {
                Place::Cluster(Cluster::open(hosts, Arc::clone(&login), timeouts.connect).await?)
            }
        };
        let mut connection =
            Self { place, links: HashMap::new(), login, watcher: None, timeouts, silent: HashSet::new() };
        match &connection.place {
            Place::Server(server) => {
                let link = Link::open(server, &connection.login, timeouts.connect).await?;
                connection.links.insert(server.clone(), link);
                if !notify.is_empty() {
                    connection.watcher = Watcher::start(server, &connection.login, notify, timeouts.connect).await;
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
            Place::Server(server) => {
                let listens = self.watcher.as_ref().is_none_or(Watcher::is_alive);
                listens && self.links.get_mut(server).is_some_and(Link::is_open)
            }
            // Its links are made anew one by one.
            Place::Cluster(_) => true,
        }
    }

    /// Whether this is a Redis Cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        matches!(self.place, Place::Cluster(_))
    }

    /// Starts a look, of one read or more.
    pub fn begin(&mut self) {
        self.silent.clear();
    }

    /// Reads all that is asked for, in one write to each node. Answers come in the order of the requests, of each the atomic reads first.
    pub async fn read(&mut self, asks: &Asks) -> Vec<Answer> {
        let (servers, slots) = match &mut self.place {
            Place::Server(server) => (vec![server.clone()], None),
            Place::Cluster(cluster) => {
                let slots = cluster.slots().await;
                (slots.primaries().to_vec(), Some(slots))
            }
        };
        // The place in `servers` of the one that has a key.
        let node = |read: &Read| slots.map_or(Some(0), |slots| slots.primary(slot(read)));
        let mut shares: Vec<Share> = servers.iter().map(|_| Share::default()).collect();
        // Of the atomic reads of each request together, and of each plain read.
        let mut places = Vec::with_capacity(asks.size());
        for request in asks.requests() {
            if let Some(read) = request.atomic.first() {
                let place = node(read);
                if let Some(share) = place.and_then(|place| shares.get_mut(place)) {
                    share.atomic.push(request);
                }
                places.push(place);
            }
            for read in request.plain {
                let place = node(read);
                if let Some(share) = place.and_then(|place| shares.get_mut(place)) {
                    share.plain.push(read);
                }
                places.push(place);
            }
        }
        let clustered = slots.is_some();
        let mut links = std::mem::take(&mut self.links);
        let reads = servers.iter().zip(shares).map(|(server, share)| {
            let link = links.remove(server);
            let silent = self.silent.contains(server);
            let (login, timeouts) = (&self.login, self.timeouts);
            let node = Node { server, login, timeouts, clustered, link, astray: false, silent };
            node.read(share)
        });
        let mut stale = places.iter().any(Option::is_none);
        let mut found = Vec::with_capacity(servers.len());
        for (node, answers) in join_all(reads.collect::<Vec<_>>()).await {
            stale |= node.astray;
            if node.silent {
                self.silent.insert(node.server.clone());
            }
            self.links.extend(node.link.map(|link| (node.server.clone(), link)));
            found.push(answers);
        }
        // Each node has answered in the order of the requests, so going through them once more puts all together.
        let mut answers = Vec::with_capacity(asks.size());
        let mut places = places.into_iter();
        for request in asks.requests() {
            if !request.atomic.is_empty() {
                match places.next().flatten().and_then(|place| found.get_mut(place)) {
                    Some(found) => answers.extend(found.atomic.by_ref().take(request.atomic.len())),
                    None => answers.extend(request.atomic.iter().map(|_| unserved_slot())),
                }
            }
            for _ in request.plain {
                let answer = places.next().flatten().and_then(|place| found.get_mut(place)?.plain.next());
                answers.push(answer.unwrap_or_else(unserved_slot));
            }
        }
        if let Place::Cluster(cluster) = &mut self.place
            && stale
        {
            cluster.refresh();
        }
        answers
    }
}

fn unserved_slot() -> Answer {
    Err(ReadError::NoAnswer("no node of the cluster has its slot".into()))
}

/// A node while it is read.
struct Node<'a> {
    server: &'a Server,
    login: &'a Login,
    timeouts: Timeouts,
    clustered: bool,
    link: Option<Link>,
    /// Whether it sent us elsewhere, or gave no answer: the map of slots may be old.
    astray: bool,
    /// Whether it gave no answer at this look.
    silent: bool,
}

impl Node<'_> {
    async fn read(mut self, share: Share<'_>) -> (Self, Found) {
        let mut batch = self.link.as_mut().map(Link::batch).unwrap_or_default();
        for group in self.groups(&share.atomic) {
            add_group(&mut batch, group);
        }
        for read in &share.plain {
            batch.add_read(read);
        }
        let mut answers = self.send(batch).await.into_iter();
        let mut atomic = Vec::with_capacity(size(&share.atomic));
        // Requests to be read again, with the place of their answers.
        let (mut failed, mut refused) = (Vec::new(), Vec::new());
        for group in self.groups(&share.atomic) {
            let place = atomic.len();
            let Err(error) = take_group(group, &mut answers, &mut atomic) else { continue };
            if error.is_out_of_memory() {
                refused.push((place, group));
            } else if group.len() > 1 && !error.is_silence() {
                failed.push((place, group));
            }
            atomic.resize(place + size(group), Err(error));
        }
        self.read_alone(&failed, &mut atomic).await;
        self.read_bare(&refused, &mut atomic).await;
        (self, Found { atomic: atomic.into_iter(), plain: answers.collect::<Vec<_>>().into_iter() })
    }

    /// Reads the atomic part of these requests again without MULTI, which a Redis that is out of memory refuses. What leaves between
    /// two of these reads is seen by the one and not by the other; next to nothing comes in meanwhile.
    async fn read_bare(&mut self, groups: &[(usize, &[Request<'_>])], found: &mut [Answer]) {
        let mut batch = Batch::default();
        let reads = groups.iter().flat_map(|(_, group)| group.iter().flat_map(|request| request.atomic));
        reads.for_each(|read| batch.add_read(read));
        let mut answers = self.send(batch).await.into_iter();
        for (place, group) in groups {
            let places = found.iter_mut().skip(*place).take(size(group));
            places.zip(answers.by_ref()).for_each(|(place, answer)| *place = answer);
        }
    }

    /// Reads the atomic part of these requests again, each in a MULTI/EXEC of its own.
    async fn read_alone(&mut self, groups: &[(usize, &[Request<'_>])], found: &mut [Answer]) {
        let mut batch = Batch::default();
        let requests = || groups.iter().flat_map(|(_, group)| group.iter());
        requests().for_each(|request| add_group(&mut batch, std::slice::from_ref(request)));
        let mut answers = self.send(batch).await.into_iter();
        for (place, group) in groups {
            let mut again = Vec::with_capacity(size(group));
            for request in *group {
                let end = again.len() + request.atomic.len();
                if let Err(error) = take_group(std::slice::from_ref(request), &mut answers, &mut again) {
                    again.resize(end, Err(error));
                }
            }
            let places = found.iter_mut().skip(*place);
            places.zip(again).for_each(|(place, answer)| *place = answer);
        }
    }

    /// Requests with atomic reads, as they share a MULTI/EXEC: only within one slot in a cluster.
    fn groups<'a, 'b>(&self, requests: &'a [Request<'b>]) -> impl Iterator<Item = &'a [Request<'b>]> + use<'a, 'b> {
        let clustered = self.clustered;
        let slot = move |request: &Request| if clustered { request.atomic.first().map_or(0, slot) } else { 0 };
        let together = move |one: &Request, next: &Request| !one.alone && !next.alone && slot(one) == slot(next);
        requests.chunk_by(together).flat_map(|company| company.chunks(GROUP))
    }

    /// Sends a batch and returns as many results as it has commands.
    async fn send(&mut self, batch: Batch) -> Vec<Answer> {
        if batch.commands() == 0 {
            return Vec::new();
        }
        let commands = batch.commands();
        if self.silent {
            return vec![Err(ReadError::NoAnswer("its node has fallen silent".into())); commands];
        }
        let span = debug_span!("exchange", server = %self.server, commands, bytes = batch.bytes().len());
        let limit = self.timeouts.command;
        let exchanged = tokio::time::timeout(limit, self.exchange(&batch).instrument(span)).await;
        if let Some(link) = &mut self.link {
            link.keep(batch);
        }
        match exchanged.unwrap_or_else(|_| Err(ReadError::NoAnswer("timed out".into()))) {
            Ok(replies) => replies.into_iter().map(|reply| self.result(reply)).collect(),
            Err(error) => {
                (self.astray, self.silent) = (true, error.is_silence());
                vec![Err(error); commands]
            }
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
    fn result(&mut self, reply: Reply) -> Answer {
        let Reply::Error(text) = reply else { return Ok(reply) };
        let moving = self.clustered && ["MOVED ", "ASK ", "TRYAGAIN "].iter().any(|start| text.starts_with(start));
        self.astray |= moving;
        Err(if moving {
            ReadError::NoAnswer("its slot is moving to another node".into())
        } else {
            ReadError::Refused(text)
        })
    }
}

fn add_group(batch: &mut Batch, group: &[Request]) {
    batch.add_multi();
    group.iter().flat_map(|request| request.atomic).for_each(|read| batch.add_read(read));
    batch.add_exec();
}

fn slot(read: &Read) -> u16 {
    fred::util::redis_keyslot(read.key())
}

/// How many atomic reads these have.
fn size(group: &[Request]) -> usize {
    group.iter().map(|request| request.atomic.len()).sum()
}

/// Takes the answers to MULTI, the queued reads and EXEC of one group; what EXEC gave is added to `found`.
///
/// An error at a read says why EXEC gave up; else the reply of EXEC, which must hold one reply a read.
fn take_group(
    group: &[Request],
    answers: &mut impl Iterator<Item = Answer>,
    found: &mut Vec<Answer>,
) -> Result<(), ReadError> {
    let size = size(group);
    // All of them are taken, whatever they say.
    let mut refused = None;
    for answer in answers.take(size + 1) {
        refused = refused.or(answer.err());
    }
    let executed = answers.next().unwrap_or(Err(ReadError::Shape("no reply to EXEC")));
    if let Some(error) = refused {
        return Err(error);
    }
    let replies = match executed? {
        Reply::Array(replies) if replies.len() == size => replies,
        _ => return Err(ReadError::Shape("EXEC gave other than one reply a command")),
    };
    found.extend(replies.into_iter().map(|reply| match reply {
        Reply::Error(text) => Err(ReadError::Refused(text)),
        reply => Ok(reply),
    }));
    Ok(())
}
