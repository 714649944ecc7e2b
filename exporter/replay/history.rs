//! Workloads from what Prometheus kept of the exporter's own series: how many jobs came in each minute, and by Little's law how long one takes.

use super::workload::{Job, Workload, fits};
use super::{SECOND, micros};
use fastrand::Rng;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Seconds between the samples that are asked for.
const STEP: u64 = 60;
/// Prometheus answers with at most 11,000 of a series.
const MOST: u64 = 10_000;
/// The largest answer that is read: a series of [`MOST`] takes a third of one MiB.
const LARGEST: usize = 16 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where Prometheus is, and which series are asked for.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its address, `http://` or `https://`, with what comes before `/api/v1`.
    pub url: String,
    /// More matchers for the series, such as `namespace="jobs"`.
    pub matchers: Option<String>,
    /// A header to send along, such as `Authorization: Bearer ...`.
    pub header: Option<(String, String)>,
    /// From when on until when, in seconds since 1970.
    pub span: (u64, u64),
}

/// What one queue's history says.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// How many jobs came from each minute to the next; `None` where that is not known.
    pub arrivals: Vec<Option<f64>>,
    /// The mean of what a job takes, in seconds, where it can be told.
    pub job_seconds: Option<f64>,
    /// What was made of gaps, resets and lower bounds, in words.
    pub assumptions: Vec<String>,
}

/// Asks for the history of one queue, of which several exporters may each have kept their own. `progress` is told the share that is there.
///
/// # Errors
/// Where Prometheus can't be reached, refuses, or has nothing of the queue: with the remedy.
pub async fn ask(source: &Source, queue: &str, mut progress: impl FnMut(f64)) -> Result<History, String> {
    let label = queue.replace('\\', "\\\\").replace('"', "\\\"");
    let series = |metric: &str| match &source.matchers {
        Some(more) => format!("{metric}{{queue=\"{label}\",{more}}}"),
        None => format!("{metric}{{queue=\"{label}\"}}"),
    };
    let names = [
        "redis_queue_arrivals_total",
        "redis_queue_processed_total",
        "redis_queue_in_flight",
        "redis_queue_observation_gaps_total",
    ];
    let mut found = Vec::new();
    for (place, name) in names.iter().enumerate() {
        found.push(range(source, &series(name)).await?);
        progress((place + 1) as f64 / names.len() as f64);
    }
    let [arrivals, processed, in_flight, gaps] =
        <[Vec<Samples>; 4]>::try_from(found).map_err(|_| "no answer".to_string())?;
    if !arrivals.iter().any(|series| series.iter().flatten().count() >= 2) {
        return Err(format!(
            "Prometheus at {} has no redis_queue_arrivals_total of queue {queue:?} in that time; see whether the exporter was scraped, \
             and whether the queue's label is the worker's name",
            source.url
        ));
    }
    Ok(history(&arrivals, &processed, &in_flight, &gaps))
}

/// A sample a minute; `None` where there is none.
pub type Samples = Vec<Option<f64>>;

/// What the series of one or more exporters say together. Each sees the same queue: of each minute the largest count is taken.
#[must_use]
pub fn history(arrivals: &[Samples], processed: &[Samples], in_flight: &[Samples], gaps: &[Samples]) -> History {
    let mut assumptions = Vec::new();
    let (came, resets, missing) = growth(arrivals);
    if resets > 0 {
        assumptions.push(format!(
            "a counter of arrivals began anew {resets} times; what it then held is taken to have come in that minute"
        ));
    }
    if missing > 0 {
        assumptions.push(format!(
            "{missing} of {} minutes are missing; what came in them is spread over them evenly",
            came.len()
        ));
    }
    let (bounds, ..) = growth(gaps);
    let low = bounds.iter().flatten().filter(|count| **count > 0.0).count();
    if low > 0 {
        assumptions.push(format!(
            "in {low} of {} minutes the exporter could only count a part of what came (observation_gaps_total); the load was higher than replayed",
            came.len()
        ));
    }
    // Jobs in flight on average over the rate at which they are done (Little's law), over minutes in which both are known.
    let (done, ..) = growth(processed);
    let busy = |minute: usize| in_flight.iter().filter_map(|series| *series.get(minute)?).reduce(f64::max);
    let pairs = done.iter().enumerate().filter_map(|(minute, done)| Some(((*done)?, busy(minute + 1)?)));
    let (done, busy) = pairs.fold((0.0, 0.0), |(all, sum), (done, busy)| (all + done, sum + busy * STEP as f64));
    let job_seconds = (done >= 100.0 && busy > 0.0).then(|| busy / done);
    // Before the first sample and after the last there was nobody who counted.
    let known = |count: &Option<f64>| count.is_some();
    let (first, last) = (came.iter().position(known), came.iter().rposition(known));
    let watched = first.zip(last).and_then(|(first, last)| came.get(first..=last)).unwrap_or_default().to_vec();
    if watched.len() < came.len() {
        assumptions.push(format!(
            "the series cover {:.1} of the {:.1} days that were asked for; only these are replayed",
            watched.len() as f64 / 1_440.0,
            came.len() as f64 / 1_440.0
        ));
    }
    History { arrivals: watched, job_seconds, assumptions }
}

/// From each minute to the next, how often one fell, and how many minutes are missing in all of them.
fn growth(all: &[Samples]) -> (Samples, usize, usize) {
    let length = all.iter().map(Vec::len).max().unwrap_or(0);
    let mut grown: Samples = vec![None; length.saturating_sub(1)];
    let (mut resets, mut seen) = (0, vec![false; length]);
    for samples in all {
        let mut last: Option<(usize, f64)> = None;
        for (place, sample) in samples.iter().enumerate() {
            let Some(value) = *sample else { continue };
            if let Some(seen) = seen.get_mut(place) {
                *seen = true;
            }
            if let Some((before, was)) = last {
                // After a reset all that it holds is new: as rate() in Prometheus has it.
                let growth = if value < was { value } else { value - was };
                resets += usize::from(value < was);
                let each = growth / (place - before) as f64;
                for grown in grown.iter_mut().take(place).skip(before) {
                    *grown = Some(grown.map_or(each, |other: f64| other.max(each)));
                }
            }
            last = Some((place, value));
        }
    }
    let (first, last) = (seen.iter().position(|seen| *seen), seen.iter().rposition(|seen| *seen));
    let between = first.zip(last).and_then(|(first, last)| seen.get(first..=last)).unwrap_or_default();
    (grown, resets, between.iter().filter(|seen| !**seen).count())
}

impl History {
    /// Jobs at random moments of their minutes; how long each takes is exponential about `job_seconds`.
    ///
    /// # Errors
    /// Where there are more than can be replayed.
    pub fn workload(&self, job_seconds: f64, seed: u64) -> Result<Workload, String> {
        let mut rng = Rng::with_seed(seed);
        fits(self.arrivals.iter().flatten().sum(), self.arrivals.len() as f64 * STEP as f64)?;
        let mut jobs = Vec::new();
        // Parts of a job are carried over.
        let mut due = 0.0;
        for (minute, count) in self.arrivals.iter().enumerate() {
            due += count.unwrap_or(0.0);
            while due >= 1.0 {
                due -= 1.0;
                let at = (minute as f64 + rng.f64()) * STEP as f64;
                let takes = -(1.0 - rng.f64()).ln() * job_seconds;
                jobs.push(Job { at: micros(at), takes: micros(takes).max(1) });
            }
        }
        jobs.sort_by_key(|job| job.at);
        Ok(Workload { jobs, length: self.arrivals.len() as u64 * STEP * SECOND })
    }
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    error: String,
    data: Option<Data>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: serde_json::Value,
    values: Vec<(f64, String)>,
}

/// All series of a query over the span, a sample for each step.
async fn range(source: &Source, query: &str) -> Result<Vec<Samples>, String> {
    let (start, end) = source.span;
    let length = usize::try_from((end - start) / STEP + 1).unwrap_or(0);
    let mut all: BTreeMap<String, Samples> = BTreeMap::new();
    let mut from = start;
    while from <= end {
        let to = end.min(from + (MOST - 1) * STEP);
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={STEP}");
        let body = get(source, &path).await.map_err(|fault| format!("Prometheus at {}: {fault}", source.url))?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| format!("what answers at {} is no Prometheus", source.url))?;
        let Some(data) = answer.data else { return Err(format!("Prometheus at {}: {}", source.url, answer.error)) };
        for series in data.result {
            let samples = all.entry(series.metric.to_string()).or_insert_with(|| vec![None; length]);
            for (time, value) in series.values {
                let place = ((time - start as f64) / STEP as f64).round() as usize;
                if let Some(sample) = samples.get_mut(place) {
                    *sample = value.parse().ok().filter(|value: &f64| value.is_finite() && *value >= 0.0);
                }
            }
        }
        from = to + STEP;
    }
    Ok(all.into_values().collect())
}

async fn get(source: &Source, path: &str) -> Result<Bytes, String> {
    let answer = async {
        let url: hyper::Uri =
            source.url.parse().map_err(|_| "the URL is none; write http://HOST:PORT or https://HOST".to_string())?;
        let host = url.host().ok_or("the URL has no host; write http://HOST:PORT or https://HOST")?;
        // As a URL has an IPv6 address.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let stream =
            TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("can't connect: {error}"))?;
        let target = format!("{}{path}", url.path().trim_end_matches('/'));
        let mut request = Request::get(target).header("host", format!("{host}:{port}"));
        if let Some((name, value)) = &source.header {
            request = request.header(name, value);
        }
        let request =
            request.body(Empty::<Bytes>::new()).map_err(|_| "the header is none; write NAME: VALUE".to_string())?;
        if !secure {
            return send(TokioIo::new(stream), request).await;
        }
        let name = rustls::pki_types::ServerName::try_from(host).map_err(|error| error.to_string())?;
        let stream = connector()?.connect(name, stream).await.map_err(|error| error.to_string())?;
        send(TokioIo::new(stream), request).await
    };
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| format!("no answer in {} s", PATIENCE.as_secs()))?
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> Result<Bytes, String>
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    // Prometheus says what is wrong in a body of its own.
    if status.is_success() || body.starts_with(b"{") { Ok(body) } else { Err(format!("it answers {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some<const N: usize>(values: [f64; N]) -> Vec<Samples> {
        vec![values.map(Some).to_vec()]
    }

    #[test]
    fn counters_with_gaps_and_resets() {
        let arrivals = vec![vec![None, Some(100.0), Some(160.0), None, Some(280.0), Some(30.0), Some(90.0), None]];
        let processed = some([0.0, 0.0, 60.0, 120.0, 180.0, 240.0, 300.0, 300.0]);
        let gaps = some([0.0, 0.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        let history = history(&arrivals, &processed, &some([4.0; 8]), &gaps);
        assert_eq!(history.arrivals, [60.0, 60.0, 60.0, 30.0, 60.0].map(Some));
        // 28 job-minutes of 60 s over 300 jobs
        assert_eq!(history.job_seconds, Some(28.0 * 60.0 / 300.0));
        assert_eq!(history.assumptions.len(), 4, "{:?}", history.assumptions);
        let workload = history.workload(4.0, 1).unwrap();
        assert_eq!((workload.jobs.len(), workload.length), (270, 300 * SECOND));
    }

    #[test]
    fn two_exporters_see_the_same_jobs_whichever_restarts() {
        let one = vec![Some(1_000.0), Some(1_060.0), Some(0.0), Some(60.0)];
        let other = vec![Some(500.0), Some(560.0), Some(620.0), Some(680.0)];
        let history = history(&[one, other], &[], &[], &[]);
        assert_eq!(history.arrivals, [60.0, 60.0, 60.0].map(Some));
    }

    #[test]
    fn too_few_jobs_say_nothing_of_how_long_one_takes() {
        let history = history(&some([0.0, 3.0]), &some([0.0, 3.0]), &some([1.0, 1.0]), &[]);
        assert_eq!(history.job_seconds, None);
    }
}
