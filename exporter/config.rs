//! The environment, checked: every fault is found before any is reported, each names its variable and the remedy.

use crate::redis;
use crate::spec::{self, Discovery, Policy, Queue, Spec};
use crate::tls::{Tls, TlsFiles};
use crate::web::Web;
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The variables as they are, each a text or missing.
#[derive(Debug, Default, Deserialize)]
struct Raw {
    redis_url: Option<String>,
    redis_url_file: Option<String>,
    redis_ca_file: Option<String>,
    redis_cert_file: Option<String>,
    redis_key_file: Option<String>,
    queues: Option<String>,
    queues_file: Option<String>,
    listen_addr: Option<String>,
    poll_interval: Option<String>,
    rate_window: Option<String>,
    stale_after: Option<String>,
    max_queues: Option<String>,
    discovery_ttl: Option<String>,
    log_format: Option<String>,
    grpc_addr: Option<String>,
    grpc_cert_file: Option<String>,
    grpc_key_file: Option<String>,
    grpc_client_ca_file: Option<String>,
    web_config_file: Option<String>,
}

/// `QUEUES_FILE`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    queues: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    queue: String,
    objective_age: Option<String>,
    scale_up_depth: Option<u64>,
    scale_down_depth: Option<u64>,
    min_workers: Option<u64>,
    max_workers: Option<u64>,
    worker_slots: Option<u64>,
    job_seconds: Option<f64>,
    catch_up: Option<String>,
    arrival_rate: Option<bool>,
    keep_busy: Option<bool>,
}

/// A text that is never printed.
#[derive(Clone)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// Where the URL of Redis comes from.
#[derive(Clone, Debug)]
pub enum UrlSource {
    /// It is given.
    Given(Secret),
    /// It stands in a file, which is read again at each reconnect: a mounted Secret may change.
    File(PathBuf),
}

/// How Redis is reached.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// The URL.
    pub url: UrlSource,
    /// Certificates to trust beside the system's, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and its key, in PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// Bounds of every wait on Redis; each is shorter than the next, and all are shorter than the time to staleness, so that
/// a silent Redis is noticed before its last answer has gone stale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timeouts {
    /// To connect, with TLS and login.
    pub connect: Duration,
    /// For the answers to one slice of a poll.
    pub command: Duration,
    /// For a whole poll.
    pub poll: Duration,
}

impl Timeouts {
    /// A fifth, two fifths and four fifths of the time to staleness; the first two no longer than 2 s and 4 s, for a
    /// Redis that takes longer is not alive in any useful sense.
    #[must_use]
    pub fn within(stale_after: Duration) -> Self {
        Self {
            connect: (stale_after / 5).min(Duration::from_secs(2)),
            command: (stale_after * 2 / 5).min(Duration::from_secs(4)),
            poll: stale_after * 4 / 5,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration, checked.
pub struct Config {
    /// How Redis is reached.
    pub redis: RedisConfig,
    /// The queues to watch, `MAX_QUEUES` at most.
    pub queues: Vec<Queue>,
    /// How many more were configured.
    pub queues_dropped: usize,
    /// Patterns of queues to be found.
    pub discoveries: Vec<Discovery>,
    /// How long a queue is known after its key was last seen.
    pub discovery_ttl: Duration,
    /// The most queues that are watched.
    pub max_queues: usize,
    /// Where HTTP is served.
    pub listen: SocketAddr,
    /// The time from poll to poll.
    pub poll_interval: Duration,
    /// The time over which rates are taken.
    pub rate_window: Duration,
    /// Without an answer for so long, the last good reading dies.
    pub stale_after: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// TLS and basic auth for HTTP, if so.
    pub web: Option<Web>,
    /// Where KEDA's external scaler is served, if it is.
    pub grpc: Option<GrpcConfig>,
}

/// How gRPC is served.
pub struct GrpcConfig {
    /// Where.
    pub listen: SocketAddr,
    /// With TLS, if so.
    pub tls: Option<Tls>,
}

/// All that is wrong with a configuration.
#[derive(Debug, PartialEq)]
pub struct Faults(pub Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.join("\n"))
    }
}

impl Config {
    /// Reads the variables of a process.
    ///
    /// # Errors
    /// All faults at once.
    pub fn from_env(variables: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let mut pairs = Vec::new();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                // An empty variable counts as missing: templates often leave one behind.
                Ok(value) if !value.is_empty() => pairs.push((name, value)),
                Ok(_) => {}
                Err(_) if is_ours(&name) => faults.push(format!("{name} is not UTF-8; percent-encode such bytes")),
                Err(_) => {}
            }
        }
        let raw = envy::from_iter::<_, Raw>(pairs).unwrap_or_default();
        Self::check(raw, faults)
    }

    fn check(raw: Raw, mut faults: Vec<String>) -> Result<Self, Faults> {
        let poll_interval = duration(&raw.poll_interval, "POLL_INTERVAL", Duration::from_secs(1), &mut faults);
        if poll_interval < Duration::from_millis(100) {
            faults.push("POLL_INTERVAL is under 100ms; a poll may take that long".into());
        }
        let rate_window = duration(&raw.rate_window, "RATE_WINDOW", Duration::from_secs(60), &mut faults);
        if rate_window < poll_interval * 2 {
            faults.push("RATE_WINDOW is under two POLL_INTERVALs; a rate needs that many".into());
        }
        let stale_default = (poll_interval * 3).max(Duration::from_secs(5));
        let stale_after = duration(&raw.stale_after, "STALE_AFTER", stale_default, &mut faults);
        if stale_after <= poll_interval {
            faults.push("STALE_AFTER is not over POLL_INTERVAL; every reading would die before the next".into());
        }
        let listen = raw.listen_addr.as_deref().unwrap_or("0.0.0.0:9797");
        let listen = listen.parse().unwrap_or_else(|_| {
            faults.push(format!("LISTEN_ADDR is {listen:?}; it must be an address and a port, such as 0.0.0.0:9797"));
            SocketAddr::from(([0, 0, 0, 0], 9797))
        });
        let max_queues = raw.max_queues.as_deref().unwrap_or("10000");
        let max_queues = max_queues.parse().ok().filter(|max| *max > 0).unwrap_or_else(|| {
            faults.push(format!("MAX_QUEUES is {max_queues:?}; it must be a whole number of 1 or more"));
            1
        });
        let log_format = match raw.log_format.as_deref() {
            None | Some("text") => LogFormat::Text,
            Some("json") => LogFormat::Json,
            Some(other) => {
                faults.push(format!("LOG_FORMAT is {other:?}; it must be text or json"));
                LogFormat::Text
            }
        };
        let grpc = grpc_config(&raw, &mut faults);
        let web = raw.web_config_file.as_ref().and_then(|path| {
            Web::open(path.into()).map_err(|fault| faults.push(format!("WEB_CONFIG_FILE: {fault}"))).ok()
        });
        let redis = redis_config(&raw, Timeouts::within(stale_after), &mut faults);
        let discovery_ttl = duration(&raw.discovery_ttl, "DISCOVERY_TTL", Duration::from_secs(3_600), &mut faults);
        let (mut queues, discoveries) = queues(&raw, &mut faults);
        let queues_dropped = queues.len().saturating_sub(max_queues);
        queues.truncate(max_queues);
        match redis {
            Some(redis) if faults.is_empty() => Ok(Self {
                redis,
                queues,
                queues_dropped,
                discoveries,
                discovery_ttl,
                max_queues,
                listen,
                poll_interval,
                rate_window,
                stale_after,
                log_format,
                web,
                grpc,
            }),
            _ => Err(Faults(faults)),
        }
    }
}

/// Whether a variable is one of this program's, by its name.
fn is_ours(name: &str) -> bool {
    const EXACT: [&str; 10] = [
        "QUEUES",
        "QUEUES_FILE",
        "LISTEN_ADDR",
        "POLL_INTERVAL",
        "RATE_WINDOW",
        "STALE_AFTER",
        "MAX_QUEUES",
        "DISCOVERY_TTL",
        "LOG_FORMAT",
        "WEB_CONFIG_FILE",
    ];
    EXACT.contains(&name) || name.starts_with("REDIS_") || name.starts_with("GRPC_")
}

fn grpc_config(raw: &Raw, faults: &mut Vec<String>) -> Option<GrpcConfig> {
    let files = match (&raw.grpc_cert_file, &raw.grpc_key_file, &raw.grpc_client_ca_file) {
        (Some(cert), Some(key), client_ca) => Some(TlsFiles {
            cert: cert.into(),
            key: key.into(),
            client_ca: client_ca.as_ref().map(PathBuf::from),
            optional: false,
            protocol: "h2",
            settings: ["GRPC_CERT_FILE", "GRPC_KEY_FILE", "GRPC_CLIENT_CA_FILE"],
        }),
        (None, None, None) => None,
        (None, None, Some(_)) => {
            faults.push("GRPC_CLIENT_CA_FILE needs GRPC_CERT_FILE and GRPC_KEY_FILE; set all three".into());
            None
        }
        _ => {
            faults.push("GRPC_CERT_FILE and GRPC_KEY_FILE go together; set both or neither".into());
            None
        }
    };
    let Some(address) = &raw.grpc_addr else {
        if files.is_some() {
            faults.push("GRPC_CERT_FILE is set, but not GRPC_ADDR; set it, such as 0.0.0.0:9798".into());
        }
        return None;
    };
    let tls = files.and_then(|files| Tls::open(files).map_err(|fault| faults.push(fault)).ok());
    match address.parse() {
        Ok(listen) => Some(GrpcConfig { listen, tls }),
        Err(_) => {
            faults.push(format!("GRPC_ADDR is {address:?}; it must be an address and a port, such as 0.0.0.0:9798"));
            None
        }
    }
}

fn duration(text: &Option<String>, name: &str, default: Duration, faults: &mut Vec<String>) -> Duration {
    let Some(text) = text else { return default };
    parse_duration(text).unwrap_or_else(|| {
        faults.push(format!("{name} is {text:?}; it must be a duration with a unit, such as 500ms, 10s or 5m"));
        default
    })
}

/// A duration with a unit, over 0 and of a year at most.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let duration = Duration::try_from(text.parse::<SignedDuration>().ok()?).ok()?;
    // A year is long enough for anything here, and short enough for the arithmetic with it.
    (!duration.is_zero() && duration <= Duration::from_secs(365 * 86_400)).then_some(duration)
}

fn redis_config(raw: &Raw, timeouts: Timeouts, faults: &mut Vec<String>) -> Option<RedisConfig> {
    let url = match (&raw.redis_url, &raw.redis_url_file) {
        (Some(_), Some(_)) => {
            faults.push("REDIS_URL and REDIS_URL_FILE are both set; keep one".into());
            return None;
        }
        (None, Some(file)) => UrlSource::File(file.into()),
        (url, None) => UrlSource::Given(Secret(url.clone().unwrap_or_else(|| "redis://127.0.0.1:6379".into()))),
    };
    let identity = match (&raw.redis_cert_file, &raw.redis_key_file) {
        (Some(cert), Some(key)) => Some((cert.into(), key.into())),
        (None, None) => None,
        _ => {
            faults.push("REDIS_CERT_FILE and REDIS_KEY_FILE go together; set both or neither".into());
            None
        }
    };
    let redis = RedisConfig { url, ca_file: raw.redis_ca_file.as_ref().map(PathBuf::from), identity, timeouts };
    if let Err(fault) = redis::check(&redis) {
        faults.push(fault);
    }
    Some(redis)
}

fn queues(raw: &Raw, faults: &mut Vec<String>) -> (Vec<Queue>, Vec<Discovery>) {
    let parsed: Vec<Result<Spec, Vec<String>>> = match (&raw.queues, &raw.queues_file) {
        (Some(_), Some(_)) => {
            faults.push("QUEUES and QUEUES_FILE are both set; keep one".into());
            return (Vec::new(), Vec::new());
        }
        (None, None) => {
            faults.push(
                "neither QUEUES nor QUEUES_FILE is set; name the queues to watch, such as QUEUES=list:emails".into(),
            );
            return (Vec::new(), Vec::new());
        }
        (Some(text), None) => spec::list(text).collect(),
        (None, Some(path)) => match read_rows(path) {
            Ok(rows) => rows.into_iter().map(row).collect(),
            Err(fault) => vec![Err(vec![fault])],
        },
    };
    let variable = if raw.queues.is_some() { "QUEUES" } else { "QUEUES_FILE" };
    let mut queues = Vec::new();
    let mut discoveries = Vec::new();
    let mut labels = HashSet::new();
    let mut wrong = 0;
    for result in parsed {
        match result {
            Ok(Spec::Discovery(discovery)) => discoveries.push(discovery),
            Ok(Spec::Queue(queue)) => {
                if !labels.insert(queue.label.clone()) {
                    wrong += 1;
                    faults.push(format!("{variable}: two queues are named {:?}; give one another name=", queue.label));
                }
                queues.push(queue);
            }
            Err(found) => {
                wrong += 1;
                faults.extend(found.into_iter().map(|fault| format!("{variable}: {fault}")));
            }
        }
    }
    if queues.is_empty() && discoveries.is_empty() && wrong == 0 {
        faults.push(format!("{variable} names no queue"));
    }
    (queues, discoveries)
}

fn read_rows(path: &str) -> Result<Vec<Row>, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("can't read {path}: {error}"))?;
    let file: File = serde_saphyr::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    Ok(file.queues)
}

fn row(row: Row) -> Result<Spec, Vec<String>> {
    let mut faults = Vec::new();
    let mut age = |text: &Option<String>, name: &str| {
        let text = text.as_deref()?;
        let age = parse_duration(text);
        if age.is_none() {
            faults.push(format!("{name} is {text:?}; it must be a duration with a unit, such as 30s or 5m"));
        }
        age
    };
    let (objective_age, catch_up) = (age(&row.objective_age, "objective_age"), age(&row.catch_up, "catch_up"));
    let job_seconds = row.job_seconds.and_then(|seconds| {
        let time = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero());
        if time.is_none() {
            faults.push(format!("job_seconds is {seconds}; it must be a number over 0"));
        }
        time
    });
    if row.worker_slots == Some(0) {
        faults.push("worker_slots is 0; a worker runs one job at least".into());
    }
    let policy = Policy {
        objective_age,
        scale_up_depth: row.scale_up_depth,
        scale_down_depth: row.scale_down_depth,
        min_workers: row.min_workers,
        max_workers: row.max_workers,
        worker_slots: row.worker_slots,
        job_seconds,
        catch_up,
        arrival_rate: row.arrival_rate,
        keep_busy: row.keep_busy,
    };
    if policy.scale_up_depth.zip(policy.scale_down_depth).is_some_and(|(up, down)| down >= up) {
        faults.push("scale_down_depth is not under scale_up_depth; workers would come and go at once".into());
    }
    if policy.min_workers.zip(policy.max_workers).is_some_and(|(min, max)| min > max) {
        faults.push("min_workers is over max_workers".into());
    }
    let mut faults: Vec<String> = faults.into_iter().map(|fault| format!("queue {:?}: {fault}", row.queue)).collect();
    match spec::parse(&row.queue, policy) {
        Ok(spec) if faults.is_empty() => Ok(spec),
        Ok(_) => Err(faults),
        Err(found) => {
            faults.extend(found);
            Err(faults)
        }
    }
}
