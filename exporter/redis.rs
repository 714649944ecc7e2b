//! The connection to Redis: the only file that names fred.
//!
//! All reads of one slice of a poll go to each Redis node as one pipeline, so a slice is one round trip. The atomic reads
//! of [`GROUP`] queues share one MULTI/EXEC; the reply of a group in which one read fails is an error as a whole, so such a
//! group is read again, queue by queue, and the queue at fault is read alone from then on ([`Request::alone`]).
//!
//! fred writes each command of a pipeline to the socket by itself unless another command is queued behind it; the PING at
//! the end of each pipeline is that command, and turns a system call a command into one a buffer.
//!
//! A Redis over its `maxmemory` refuses what is queued in a MULTI, reads too: there the same reads go again without one.
//!
//! A client that gave no answer at all is dropped and made anew at the next poll: that reads a rotated password or
//! certificate, resolves names again, and leaves nothing of the old state behind. Within a cluster fred reconnects to
//! single nodes by itself, without end, after 0.1 to 1 s with jitter.

use crate::config::{RedisConfig, UrlSource};
use crate::reads::{Ask, Read, ReadError, Reply};
use crate::watcher::Watcher;
use bytes::Bytes;
use fred::error::{Error, ErrorKind};
use fred::prelude::*;
use fred::types::RespVersion;
use fred::types::config::{Server, TlsConfig, TlsConnector};
use fred::types::sorted_sets::{ZRange, ZRangeBound, ZRangeKind, ZSort};
use fred::types::{ClusterHash, CustomCommand};
use futures_util::future::join_all;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Queues that share one MULTI/EXEC: it holds Redis for about 50 us, and saves two commands a queue.
const GROUP: usize = 32;
/// Events that may be on their way before one is lost, and with it a subscription's count.
const EVENTS: usize = 65_536;

/// The schemes of a URL of Redis; those of Valkey mean the same.
const SCHEMES: [&str; 12] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "redis-sentinel",
    "rediss-sentinel",
    "valkey",
    "valkeys",
    "valkey-cluster",
    "valkeys-cluster",
    "valkey-sentinel",
    "valkeys-sentinel",
];

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
    /// The same, each request by itself.
    fn split(&self) -> Vec<Self> {
        let mut parts: BTreeMap<usize, Self> = BTreeMap::new();
        for index in &self.atomic {
            parts.entry(*index).or_default().atomic.push(*index);
        }
        for plain in &self.plain {
            parts.entry(plain.0).or_default().plain.push(*plain);
        }
        parts.into_values().collect()
    }
}

/// A result and its place in the answers: request and position.
type Found = (usize, usize, Result<Reply, ReadError>);

/// A connected client.
pub struct Connection {
    client: Client,
    task: tokio::task::JoinHandle<Result<(), Error>>,
    watcher: Option<Watcher>,
    timeout: Duration,
    clustered: bool,
}

impl Drop for Connection {
    /// Closes the sockets at once: a QUIT to a server that does not answer would wait.
    fn drop(&mut self) {
        self.task.abort();
    }
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
        let clustered = settings.server.is_clustered();
        let mut builder = Builder::from_config(settings);
        let timeouts = config.timeouts;
        builder.with_connection_config(|connection| {
            connection.connection_timeout = timeouts.connect;
            connection.internal_command_timeout = timeouts.connect;
            connection.max_command_attempts = 1;
            // fred's way to follow an ASK takes the next answer on that connection for its own, which in a pipeline it is not.
            connection.max_redirections = 0;
            connection.disable_cluster_health_check = true;
        });
        builder.with_performance_config(|performance| {
            performance.default_command_timeout = timeouts.command;
            performance.max_feed_count = u64::MAX;
        });
        if clustered {
            builder.set_policy(ReconnectPolicy::new_exponential(0, 100, 1_000, 2));
        }
        let client = builder.build().map_err(|error| ReadError::NoAnswer(error.to_string()))?;
        // fred has a bound for each step of connecting; this one is for all of them.
        let task = tokio::time::timeout(timeouts.connect, client.init());
        let task = task.await.map_err(|_| ReadError::NoAnswer("connecting timed out".into()))?.map_err(refusal)?;
        let mut connection = Self { client, task, watcher: None, timeout: timeouts.command, clustered };
        if clustered && !notify.is_empty() {
            // Each node tells of its own keys only, and which node that is can change.
            tracing::warn!("notify=true has no effect in a Redis Cluster; polls that saw a drain stay gaps");
        } else if !notify.is_empty() {
            builder.with_performance_config(|performance| performance.broadcast_channel_capacity = EVENTS);
            connection.watcher = Watcher::start(&builder, notify, timeouts.connect).await;
        }
        Ok(connection)
    }

    /// The removals from a list that notifications have counted so far.
    #[must_use]
    pub fn pops(&self, key: &Bytes) -> Option<crate::pops::PopCount> {
        self.watcher.as_ref()?.count(key)
    }

    /// Whether the client still looks after it: it gives up when the server closes the connection.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.task.is_finished()
    }

    /// Whether this is a Redis Cluster.
    #[must_use]
    pub fn is_clustered(&self) -> bool {
        self.clustered
    }

    /// Reads all requests, one pipeline for each node. Answers come in the order of the requests.
    pub async fn read(&self, requests: &[Request]) -> Vec<Answers> {
        let cluster = if self.clustered { self.client.cached_cluster_state() } else { None };
        let node = |read: &Read| cluster.as_ref().and_then(|cluster| cluster.get_server(slot(read)));
        let mut shares: BTreeMap<Option<&Server>, Share> = BTreeMap::new();
        for (index, request) in requests.iter().enumerate() {
            if let Some(read) = request.ask.atomic.first() {
                shares.entry(node(read)).or_default().atomic.push(index);
            }
            for (position, read) in request.ask.plain.iter().enumerate() {
                shares.entry(node(read)).or_default().plain.push((index, position + request.ask.atomic.len(), read));
            }
        }
        let missing = || Err(ReadError::Shape("a reply is missing"));
        let mut answers: Vec<Answers> = requests
            .iter()
            .map(|request| vec![missing(); request.ask.atomic.len() + request.ask.plain.len()])
            .collect();
        let reads = shares.into_values().map(|share| self.read_node(requests, share));
        for (index, position, result) in join_all(reads).await.into_iter().flatten() {
            if let Some(place) = answers.get_mut(index).and_then(|answers| answers.get_mut(position)) {
                *place = result;
            }
        }
        answers
    }

    /// Reads what one node is asked for. Within a cluster fred gives up a pipeline as a whole where one of its keys is in a slot that
    /// moves (ASK, TRYAGAIN); then each request is sent by itself, and only those of that slot stay without an answer.
    async fn read_node(&self, requests: &[Request], share: Share<'_>) -> Vec<Found> {
        let found = self.read_share(requests, &share).await;
        let given_up = |(_, _, result): &Found| result.as_ref().is_err_and(|error| *error == given_up());
        if !self.clustered || !found.iter().all(given_up) {
            return found;
        }
        let parts = share.split();
        let reads = parts.iter().map(|part| self.read_share(requests, part));
        join_all(reads).await.into_iter().flatten().collect()
    }

    async fn read_share(&self, requests: &[Request], share: &Share<'_>) -> Vec<Found> {
        let groups = self.groups(requests, &share.atomic);
        let mut batch = Batch::new(&self.client);
        for group in &groups {
            batch.add_group(requests, group).await;
        }
        for (.., read) in &share.plain {
            batch.add(read).await;
        }
        let mut results = self.send(batch).await.into_iter();
        let mut found = Vec::with_capacity(results.len());
        let (mut failed, mut refused) = (Vec::new(), Vec::new());
        for group in &groups {
            match take_group(requests, group, &mut results) {
                Ok(replies) => found.extend(replies),
                Err(error) if error.is_out_of_memory() => refused.extend(group.iter().copied()),
                Err(error) if group.len() == 1 || error.is_silence() => found.extend(all(&error, requests, group)),
                Err(_) => failed.extend(group.iter().copied()),
            }
        }
        found.extend(share.plain.iter().zip(results).map(|((index, position, _), result)| (*index, *position, result)));
        found.extend(self.read_alone(requests, &failed).await);
        found.extend(self.read_bare(requests, &refused).await);
        found
    }

    /// Reads the atomic part of these requests again without MULTI, which a Redis that is out of memory refuses. What leaves between
    /// two of these reads is seen by the one and not by the other; next to nothing comes in meanwhile.
    async fn read_bare(&self, requests: &[Request], indices: &[usize]) -> Vec<Found> {
        if indices.is_empty() {
            return Vec::new();
        }
        let mut batch = Batch::new(&self.client);
        let mut places = Vec::new();
        for index in indices {
            let reads = requests.get(*index).map_or(&[][..], |request| &request.ask.atomic);
            for (position, read) in reads.iter().enumerate() {
                batch.add(read).await;
                places.push((*index, position));
            }
        }
        let results = self.send(batch).await;
        places.into_iter().zip(results).map(|((index, position), result)| (index, position, result)).collect()
    }

    /// Reads the atomic part of these requests again, each in a MULTI/EXEC of its own.
    async fn read_alone(&self, requests: &[Request], indices: &[usize]) -> Vec<Found> {
        if indices.is_empty() {
            return Vec::new();
        }
        let mut batch = Batch::new(&self.client);
        for index in indices {
            batch.add_group(requests, &[*index]).await;
        }
        let mut results = self.send(batch).await.into_iter();
        let mut read = |index| match take_group(requests, &[index], &mut results) {
            Ok(found) => found,
            Err(error) => all(&error, requests, &[index]),
        };
        indices.iter().flat_map(|index| read(*index)).collect()
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
    async fn send(&self, batch: Batch) -> Answers {
        if let Some(error) = batch.fault {
            return vec![Err(refusal(error)); batch.commands];
        }
        let ping = CustomCommand::new_static("PING", ClusterHash::Custom(batch.slot), false);
        let ping = self.client.custom::<Value, Value>(ping, Vec::new());
        let both = async { tokio::join!(batch.pipeline.try_all::<Value>(), ping) };
        let results = match tokio::time::timeout(self.timeout, both).await {
            Ok((results, _)) => results,
            Err(_) => return vec![Err(ReadError::NoAnswer("timed out".into())); batch.commands],
        };
        match <[_; 1]>::try_from(results) {
            // One error for the whole pipeline, where it was not sent or not answered.
            Ok([Err(error)]) => vec![Err(refusal(error)); batch.commands],
            Ok([Ok(value)]) => vec![reply(value)],
            Err(results) => results.into_iter().map(|result| result.map_err(refusal).and_then(reply)).collect(),
        }
    }
}

/// A pipeline that is being filled.
struct Batch {
    pipeline: fred::clients::Pipeline<Client>,
    commands: usize,
    /// A slot of its node in a cluster.
    slot: u16,
    /// Why a command could not be put in.
    fault: Option<Error>,
}

impl Batch {
    fn new(client: &Client) -> Self {
        Self { pipeline: client.pipeline(), commands: 0, slot: 0, fault: None }
    }

    async fn add_group(&mut self, requests: &[Request], group: &[usize]) {
        let asks = || group.iter().filter_map(|index| requests.get(*index)).map(|request| &request.ask);
        let slot = asks().find_map(|ask| ask.atomic.first()).map_or(0, slot);
        self.slot = slot;
        self.add_bare("MULTI", slot).await;
        for read in asks().flat_map(|ask| &ask.atomic) {
            self.add(read).await;
        }
        self.add_bare("EXEC", slot).await;
    }

    async fn add_bare(&mut self, name: &'static str, slot: u16) {
        let command = CustomCommand::new_static(name, ClusterHash::Custom(slot), false);
        let queued = self.pipeline.custom::<Value, Value>(command, Vec::new()).await;
        self.added(queued);
    }

    async fn add(&mut self, read: &Read) {
        if self.commands == 0 {
            self.slot = slot(read);
        }
        let queued = queue(&self.pipeline, read).await;
        self.added(queued);
    }

    fn added(&mut self, queued: Result<Value, Error>) {
        self.commands += 1;
        self.fault = self.fault.take().or(queued.err());
    }
}

fn slot(read: &Read) -> u16 {
    fred::util::redis_keyslot(read.key())
}

fn atomic(requests: &[Request], index: usize) -> usize {
    requests.get(index).map_or(0, |request| request.ask.atomic.len())
}

fn all(error: &ReadError, requests: &[Request], group: &[usize]) -> Vec<Found> {
    let places = group.iter().flat_map(|index| (0..atomic(requests, *index)).map(move |position| (*index, position)));
    places.map(|(index, position)| (index, position, Err(error.clone()))).collect()
}

/// Takes the results of MULTI, the queued reads and EXEC of one group.
///
/// An error at a read says why EXEC gave up; else the reply of EXEC, which must hold one reply a read.
fn take_group(
    requests: &[Request],
    group: &[usize],
    results: &mut std::vec::IntoIter<Result<Reply, ReadError>>,
) -> Result<Vec<Found>, ReadError> {
    let total: usize = group.iter().map(|index| atomic(requests, *index)).sum();
    let queued: Vec<_> = results.by_ref().take(total + 1).collect();
    let executed = results.next().unwrap_or(Err(ReadError::Shape("no reply to EXEC")));
    if let Some(error) = queued.into_iter().find_map(Result::err) {
        return Err(error);
    }
    let replies = match executed? {
        Reply::Array(replies) if replies.len() == total => replies,
        _ => return Err(ReadError::Shape("EXEC gave other than one reply a command")),
    };
    let places = group.iter().flat_map(|index| (0..atomic(requests, *index)).map(move |position| (*index, position)));
    Ok(places.zip(replies).map(|((index, position), reply)| (index, position, Ok(reply))).collect())
}

/// Puts one read into a pipeline.
async fn queue(pipeline: &fred::clients::Pipeline<Client>, read: &Read) -> Result<Value, Error> {
    match read.clone() {
        Read::ListLength(key) => pipeline.llen(key).await,
        Read::ListRange(key, start, stop) => pipeline.lrange(key, start, stop).await,
        Read::ListPosition { key, element, rank, count, max } => {
            pipeline.lpos(key, element, Some(rank), Some(count), Some(max)).await
        }
        Read::SetSize(key) => pipeline.zcard(key).await,
        Read::SetCountTo(key, max) => pipeline.zcount(key, f64::NEG_INFINITY, max).await,
        Read::SetFirst(key) => {
            let (first, last) = (ZRange::from(0), ZRange::from(0));
            pipeline.zrange(key, first, last, None, false, None, true).await
        }
        // The next number up, inclusive, is all that is greater.
        Read::SetCountAfter(key, min) => pipeline.zcount(key, min.next_up(), f64::INFINITY).await,
        Read::SetCountBetween(key, min, max) => pipeline.zcount(key, min.next_up(), max).await,
        Read::SetFirsts(key, count) => {
            let (first, last) = (ZRange::from(0), ZRange::from(count - 1));
            pipeline.zrange(key, first, last, None, false, None, true).await
        }
        Read::SetFirstAfter(key, min) => {
            let least = ZRange { kind: ZRangeKind::Exclusive, range: ZRangeBound::Score(min) };
            let most = ZRange { kind: ZRangeKind::Inclusive, range: ZRangeBound::InfiniteScore };
            pipeline.zrange(key, least, most, Some(ZSort::ByScore), false, Some((0, 1)), true).await
        }
        Read::Get(key) => pipeline.get(key).await,
        Read::GetStart(key, max) => pipeline.getrange(key, 0, max.saturating_sub(1) as usize).await,
        Read::Exists(key) => pipeline.exists(key).await,
        Read::HashLength(key) => pipeline.hlen(key).await,
        Read::HashGet(key, field) => pipeline.hget(key, field).await,
        Read::HashGets(key, fields) => pipeline.hmget(key, fields.to_vec()).await,
        Read::HashValueLength(key, field) => pipeline.hstrlen(key, field).await,
        Read::HashValues(key) => pipeline.hvals(key).await,
        Read::MemberCount(key) => pipeline.scard(key).await,
        // fred knows these two only as streams of their own, outside of pipelines.
        Read::Members { key, cursor, count } => {
            let command = CustomCommand::new_static("SSCAN", ClusterHash::FirstKey, false);
            let count = count.to_string();
            pipeline.custom(command, vec![Value::from(key), cursor.into(), "COUNT".into(), count.into()]).await
        }
        Read::Scan { cursor, pattern, count, kind } => {
            let command = CustomCommand::new_static("SCAN", ClusterHash::Random, false);
            let count = count.to_string();
            let mut words = vec![Value::from(cursor), "MATCH".into(), pattern.into(), "COUNT".into(), count.into()];
            if !kind.is_empty() {
                words.extend(["TYPE".into(), kind.into()]);
            }
            pipeline.custom(command, words).await
        }
        Read::StreamLength(key) => pipeline.xlen(key).await,
        Read::StreamGroups(key) => pipeline.xinfo_groups(key).await,
        Read::StreamAfter(key, after, count) => {
            let start = if after.is_empty() { "-".into() } else { format!("({}", String::from_utf8_lossy(&after)) };
            pipeline.xrange(key, start, "+", Some(count)).await
        }
        Read::StreamFirstPending(key, group) => {
            let group = fred::bytes_utils::Str::try_from(group)
                .map_err(|_| Error::new(ErrorKind::InvalidArgument, "a group name that is not UTF-8"))?;
            pipeline.xpending(key, group, ("-", "+", 1)).await
        }
        Read::Type(key) => pipeline.r#type(key).await,
        Read::Time => {
            pipeline.custom(CustomCommand::new_static("TIME", ClusterHash::Random, false), Vec::<Value>::new()).await
        }
    }
}

fn reply(value: Value) -> Result<Reply, ReadError> {
    Ok(match value {
        Value::Null => Reply::Nil,
        Value::Integer(number) => Reply::Int(number),
        Value::String(text) => Reply::Bytes(text.into_inner()),
        Value::Bytes(bytes) => Reply::Bytes(bytes),
        Value::Double(number) => Reply::Bytes(number.to_string().into()),
        Value::Array(values) => Reply::Array(values.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::Queued => Reply::Nil,
        _ => return Err(ReadError::Shape("a reply of a kind that RESP2 does not have")),
    })
}

/// Sorts fred's errors: what the server said, and what is only that it said nothing.
fn refusal(error: Error) -> ReadError {
    match error.kind() {
        // What fred says of a command that it has dropped, or may not follow to another node.
        ErrorKind::Unknown if error.details() == "channel closed" => given_up(),
        ErrorKind::Routing if error.details() == "Too many redirections." => given_up(),
        ErrorKind::Auth => ReadError::Login(error.details().to_string()),
        ErrorKind::Unknown | ErrorKind::InvalidArgument | ErrorKind::InvalidCommand | ErrorKind::Cluster => {
            ReadError::Refused(error.details().to_string())
        }
        _ => ReadError::NoAnswer(of_tls(error.details()).unwrap_or(error.details()).to_string()),
    }
}

/// What is wrong between the two by TLS, in words and with the remedy: fred has only rustls' names for it.
fn of_tls(details: &str) -> Option<&'static str> {
    const SAID: [(&str, &str); 6] = [
        ("Expired", "the server's certificate has expired; renew it there"),
        ("NotValidYet", "the server's certificate is not valid yet; see to the clocks"),
        (
            "NotValidForName",
            "the server's certificate is not valid for the host name in REDIS_URL; use a name that it has",
        ),
        ("UnknownIssuer", "the server's certificate is of an unknown authority; put that into REDIS_CA_FILE"),
        (
            "CertificateRequired",
            "the server wants a certificate of its clients; set REDIS_CERT_FILE and REDIS_KEY_FILE",
        ),
        (
            "UnknownCA",
            "the server does not know the authority of the certificate in REDIS_CERT_FILE; use one that it trusts",
        ),
    ];
    let tls = details.contains("InvalidCertificate") || details.contains("AlertReceived");
    SAID.into_iter().find(|(name, _)| tls && details.contains(name)).map(|(_, said)| said)
}

/// A command was dropped: its connection has ended, or its slot is moving.
fn given_up() -> ReadError {
    ReadError::NoAnswer("the command was given up: its node is gone, or its slot is moving to another".into())
}

/// fred's configuration: the URL read anew, certificates too.
fn settings(config: &RedisConfig) -> Result<Config, String> {
    let (name, url) = match &config.url {
        UrlSource::Given(url) => ("REDIS_URL", url.0.clone()),
        UrlSource::File(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("REDIS_URL_FILE: can't read {}: {error}", path.display()))?;
            ("the URL in REDIS_URL_FILE", text.trim().to_string())
        }
    };
    // fred takes any scheme, and its own message may quote the URL, and with it the password.
    let known = url.split_once("://").is_some_and(|(scheme, _)| SCHEMES.contains(&scheme));
    let mut settings = Config::from_url(&url).ok().filter(|_| known).ok_or_else(|| {
        format!(
            "{name} is no URL of Redis; write redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// for TLS, \
             redis-cluster:// or redis-sentinel://HOST:PORT?sentinelServiceName=NAME, percent-encoding such bytes as @ : / \
             in the password"
        )
    })?;
    settings.version = RespVersion::RESP2;
    if settings.tls.is_some() {
        settings.tls = Some(tls(config)?);
    } else if config.ca_file.is_some() || config.identity.is_some() {
        return Err(format!(
            "REDIS_CA_FILE and REDIS_CERT_FILE need TLS, which {name} does not ask for; write rediss://"
        ));
    }
    Ok(settings)
}

fn tls(config: &RedisConfig) -> Result<TlsConfig, String> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls_native_certs::load_native_certs().certs {
        // One bad certificate of the system's is no reason to trust none.
        let _ = roots.add(certificate);
    }
    if let Some(path) = &config.ca_file {
        for certificate in certificates(path, "REDIS_CA_FILE")? {
            roots.add(certificate).map_err(|error| format!("REDIS_CA_FILE: {}: {error}", path.display()))?;
        }
    }
    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots);
    let client = match &config.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key_file)) => {
            let chain = certificates(certificate, "REDIS_CERT_FILE")?;
            let key = PrivateKeyDer::from_pem_file(key_file)
                .map_err(|error| format!("REDIS_KEY_FILE: {}: {error}", key_file.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("REDIS_CERT_FILE and REDIS_KEY_FILE: {error}"))?
        }
    };
    Ok(TlsConfig::from(TlsConnector::from(client)))
}

fn certificates(path: &Path, name: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let fault = |error: rustls::pki_types::pem::Error| format!("{name}: {}: {error}", path.display());
    let found: Vec<_> = CertificateDer::pem_file_iter(path).map_err(fault)?.collect::<Result<_, _>>().map_err(fault)?;
    if found.is_empty() { Err(format!("{name}: {} holds no certificate", path.display())) } else { Ok(found) }
}
