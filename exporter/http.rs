//! HTTP: `/metrics`, `/healthz`, `/readyz` and `/`.
//!
//! All of it is served from the last snapshot, so a scrape costs Redis nothing and waits for nothing. At most
//! [`Limits::connections`] are open; one more closes the one that has been quiet longest, so idle and slow clients can't
//! keep a scrape out. A request must have come whole within [`Limits::header`].

use crate::metrics::{self, Stats};
use crate::page;
use crate::poll::Pulse;
use crate::snapshot::Snapshot;
use crate::tls::Wire;
use crate::web::Web;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
    HeaderValue, VARY, WWW_AUTHENTICATE,
};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tracing::{Instrument, debug_span};

/// The content type of the text format; KEDA's metrics-api trigger wants this one whatever it accepts.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds on clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections.
    pub connections: usize,
    /// The time within which the header of a request must have come; an idle connection is closed after it too.
    pub header: Duration,
    /// The time that open requests get to finish at shutdown.
    pub drain: Duration,
}

impl Default for Limits {
    /// Far more connections than the scrapers of one exporter, 64 MB of sockets at the very most; a header time longer than
    /// the usual scrape interval of a minute, so that scrapers can keep their connection.
    fn default() -> Self {
        Self { connections: 512, header: Duration::from_secs(75), drain: Duration::from_secs(5) }
    }
}

/// What is served.
#[derive(Clone)]
pub struct Pages {
    /// The last snapshot.
    pub shown: watch::Receiver<Arc<Snapshot>>,
    /// The exporter's own series.
    pub stats: Arc<Stats>,
    /// The sign of life of the poll loop.
    pub pulse: Arc<Pulse>,
    /// TLS and basic auth, if so.
    pub web: Option<Arc<Web>>,
}

/// Open connections, each with the order of its last request.
#[derive(Default)]
struct Guests {
    next: AtomicU64,
    open: Mutex<HashMap<u64, Guest>>,
}

struct Guest {
    seen: u64,
    leave: Arc<Notify>,
}

impl Guests {
    fn count(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Guest>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one in, and shows the one out that has been quiet longest if there are too many.
    fn enter(&self, limit: usize) -> (u64, Arc<Notify>) {
        let id = self.count();
        let leave = Arc::new(Notify::new());
        let mut open = self.open();
        if open.len() >= limit
            && let Some(quietest) = open.iter().min_by_key(|(_, guest)| guest.seen).map(|(id, _)| *id)
            && let Some(guest) = open.remove(&quietest)
        {
            guest.leave.notify_one();
        }
        open.insert(id, Guest { seen: id, leave: Arc::clone(&leave) });
        (id, leave)
    }

    fn asked(&self, id: u64) {
        let now = self.count();
        if let Some(guest) = self.open().get_mut(&id) {
            guest.seen = now;
        }
    }

    fn left(&self, id: u64) {
        self.open().remove(&id);
    }
}

/// Serves until `shutdown` ends, then lets open requests finish within the drain time.
pub async fn serve(listener: TcpListener, pages: Pages, limits: Limits, shutdown: impl Future<Output = ()>) {
    let guests = Arc::new(Guests::default());
    let mut connections = JoinSet::new();
    let (closing, _) = watch::channel(false);
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (id, leave) = guests.enter(limits.connections);
                    let (pages, guests, closing) = (pages.clone(), Arc::clone(&guests), closing.subscribe());
                    connections.spawn(async move {
                        tokio::select! {
                            () = connection(stream, pages, limits, &guests, id, closing) => {}
                            () = leave.notified() => {}
                        }
                        guests.left(id);
                    });
                }
                Err(error) => {
                    // Out of descriptors, most likely: trying again at once would only burn a core.
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    closing.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!("some requests did not finish in time");
    }
}

/// Shakes hands where TLS is asked for; a client that can't is let go.
async fn secured(stream: TcpStream, pages: &Pages) -> Option<Wire> {
    match pages.web.as_ref().and_then(|web| web.tls()) {
        None => Some(Wire::Plain(stream)),
        Some(tls) => {
            let accepted = tls.accept(stream).await;
            accepted.inspect_err(|error| tracing::debug!(%error, "a client was refused")).ok()
        }
    }
}

async fn connection(
    stream: TcpStream,
    pages: Pages,
    limits: Limits,
    guests: &Guests,
    id: u64,
    mut closing: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let Some(stream) = secured(stream, &pages).await else { return };
    let service = service_fn(|request| {
        guests.asked(id);
        let pages = pages.clone();
        let span = debug_span!("request", method = %request.method(), path = request.uri().path());
        async move { Ok::<_, Infallible>(answer(&request, &pages).await) }.instrument(span)
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header).max_buf_size(16 * 1024);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // What goes wrong on a connection is the client's business: cut, slow, no HTTP.
    tokio::select! {
        _ = &mut connection => return,
        _ = closing.wait_for(|closing| *closing) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // Probes come without a password, and learn nothing that it guards.
    let guarded = !matches!(request.uri().path(), "/healthz" | "/readyz");
    if let Some(web) = pages.web.as_ref().filter(|_| guarded) {
        let header = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if !web.admits(header).await {
            let mut response = plain(StatusCode::UNAUTHORIZED, "user and password are wanted\n");
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"queue-exporter\""));
            return response;
        }
    }
    match request.uri().path() {
        "/metrics" => scrape(request, pages).await,
        "/healthz" if pages.pulse.is_alive() => plain(StatusCode::OK, "ok\n"),
        "/healthz" => plain(StatusCode::SERVICE_UNAVAILABLE, "the poll loop hangs\n"),
        "/readyz" if pages.shown.borrow().polled => plain(StatusCode::OK, "ok\n"),
        "/readyz" => plain(StatusCode::SERVICE_UNAVAILABLE, "the first poll is under way\n"),
        "/" => {
            let shown = Arc::clone(&pages.shown.borrow());
            let mut response = with_type(page::render(&shown).into(), "text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(page::POLICY));
            response
        }
        _ => plain(StatusCode::NOT_FOUND, "not found; there are /, /metrics, /healthz and /readyz\n"),
    }
}

async fn scrape(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    let shown = Arc::clone(&pages.shown.borrow());
    let text = shown.text(|snapshot| metrics::encode(snapshot, &pages.stats));
    let mut response = if accepts_gzip(request) {
        // Off the thread that polls: 10,000 queues are some 10 MB.
        let compressed = tokio::task::spawn_blocking(move || shown.gzip(|| metrics::compress(&text))).await;
        let mut response = with_type(compressed.unwrap_or_default(), TEXT);
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response
    } else {
        with_type(text, TEXT)
    };
    response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// Whether the client takes gzip: named, and not with a quality of 0 (RFC 9110, 12.5.3).
fn accepts_gzip(request: &Request<Incoming>) -> bool {
    let values = request.headers().get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| {
        let mut pieces = part.split(';').map(str::trim);
        let named = pieces.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let refused = pieces.filter_map(|piece| piece.strip_prefix("q=")).any(|quality| quality.parse() == Ok(0.0));
        named && !refused
    })
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = with_type(Bytes::from_static(text.as_bytes()), "text/plain; charset=utf-8");
    *response.status_mut() = status;
    response
}

fn with_type(body: Bytes, content_type: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
