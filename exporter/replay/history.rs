//! Workloads from what Prometheus kept of the exporter's own series: how many jobs came in each minute, and by Little's law how long one takes.

use super::workload::{Job, Workload};
use super::{SECOND, micros};
use fastrand::Rng;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
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

/// Asks for the history of one queue. `progress` is told the share that is there.
///
/// # Errors
/// Where Prometheus can't be reached, refuses, or has nothing of the queue: with the remedy.
pub async fn ask(source: &Source, queue: &str, mut progress: impl FnMut(f64)) -> Result<History, String> {
    let label = queue.replace('\\', "\\\\").replace('"', "\\\"");
    let series = |metric: &str| format!("max({metric}{{queue=\"{label}\"}})");
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
        <[Vec<Option<f64>>; 4]>::try_from(found).map_err(|_| "no answer".to_string())?;
    if arrivals.iter().flatten().count() < 2 {
        return Err(format!(
            "Prometheus at {} has no redis_queue_arrivals_total of queue {queue:?} in that time; see whether the exporter was scraped, \
             and whether the queue's label is the worker's name",
            source.url
        ));
    }
    Ok(history(&arrivals, &processed, &in_flight, &gaps))
}

/// What series with a sample a minute say together.
#[must_use]
pub fn history(
    arrivals: &[Option<f64>],
    processed: &[Option<f64>],
    in_flight: &[Option<f64>],
    gaps: &[Option<f64>],
) -> History {
    let mut assumptions = Vec::new();
    let (came, resets, missing) = growth(arrivals);
    if resets > 0 {
        assumptions.push(format!(
            "the counter of arrivals began anew {resets} times; what it then held is taken to have come in that minute"
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
    let pairs = done.iter().zip(in_flight.iter().skip(1)).filter_map(|(done, busy)| Some((((*done)?), (*busy)?)));
    let (done, busy) = pairs.fold((0.0, 0.0), |(all, sum), (done, busy)| (all + done, sum + busy * STEP as f64));
    let job_seconds = (done >= 100.0 && busy > 0.0).then(|| busy / done);
    History { arrivals: came, job_seconds, assumptions }
}

/// From each sample to the next, how often it fell, and how many samples are missing.
fn growth(samples: &[Option<f64>]) -> (Vec<Option<f64>>, usize, usize) {
    let mut grown = vec![None; samples.len().saturating_sub(1)];
    let (mut last, mut resets, mut missing): (Option<(usize, f64)>, _, _) = (None, 0, 0);
    for (place, sample) in samples.iter().enumerate() {
        let Some(value) = *sample else { continue };
        if let Some((before, was)) = last {
            // After a reset all that it holds is new: as rate() in Prometheus has it.
            let growth = if value < was { value } else { value - was };
            resets += usize::from(value < was);
            missing += place - before - 1;
            for grown in grown.iter_mut().take(place).skip(before) {
                *grown = Some(growth / (place - before) as f64);
            }
        }
        last = Some((place, value));
    }
    (grown, resets, missing)
}

impl History {
    /// Jobs at random moments of their minutes; how long each takes is exponential about `job_seconds`.
    #[must_use]
    pub fn workload(&self, job_seconds: f64, seed: u64) -> Workload {
        let mut rng = Rng::with_seed(seed);
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
        Workload { jobs, length: self.arrivals.len() as u64 * STEP * SECOND }
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
    values: Vec<(f64, String)>,
}

/// One series over the span, a sample for each step.
async fn range(source: &Source, query: &str) -> Result<Vec<Option<f64>>, String> {
    let (start, end) = source.span;
    let mut samples = vec![None; usize::try_from((end - start) / STEP + 1).unwrap_or(0)];
    let mut from = start;
    while from <= end {
        let to = end.min(from + (MOST - 1) * STEP);
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let path = format!("/api/v1/query_range?query={query}&start={from}&end={to}&step={STEP}");
        let body = get(source, &path).await.map_err(|fault| format!("Prometheus at {}: {fault}", source.url))?;
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|_| format!("what answers at {} is no Prometheus", source.url))?;
        let Some(data) = answer.data else { return Err(format!("Prometheus at {}: {}", source.url, answer.error)) };
        for (time, value) in data.result.into_iter().flat_map(|series| series.values) {
            let place = ((time - start as f64) / STEP as f64).round() as usize;
            if let Some(sample) = samples.get_mut(place) {
                *sample = value.parse().ok().filter(|value: &f64| value.is_finite());
            }
        }
        from = to + STEP;
    }
    Ok(samples)
}

async fn get(source: &Source, path: &str) -> Result<Bytes, String> {
    let answer = async {
        let url: hyper::Uri =
            source.url.parse().map_err(|_| "the URL is none; write http://HOST:PORT or https://HOST".to_string())?;
        let host = url.host().ok_or("the URL has no host; write http://HOST:PORT or https://HOST")?.to_string();
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

    #[test]
    fn counters_with_gaps_and_resets() {
        let arrivals = [Some(100.0), Some(160.0), None, Some(280.0), Some(30.0), Some(90.0)];
        let processed = [Some(0.0), Some(60.0), Some(120.0), Some(180.0), Some(240.0), Some(300.0)];
        let history = history(
            &arrivals,
            &processed,
            &[Some(4.0); 6],
            &[Some(0.0), Some(0.0), Some(2.0), Some(2.0), Some(2.0), Some(2.0)],
        );
        assert_eq!(history.arrivals, [60.0, 60.0, 60.0, 30.0, 60.0].map(Some));
        assert_eq!(history.job_seconds, Some(4.0));
        assert_eq!(history.assumptions.len(), 3, "{:?}", history.assumptions);
        let workload = history.workload(4.0, 1);
        assert_eq!((workload.jobs.len(), workload.length), (270, 300 * SECOND));
    }

    #[test]
    fn too_few_jobs_say_nothing_of_how_long_one_takes() {
        let history = history(&[Some(0.0), Some(3.0)], &[Some(0.0), Some(3.0)], &[Some(1.0); 2], &[None, None]);
        assert_eq!(history.job_seconds, None);
    }
}
