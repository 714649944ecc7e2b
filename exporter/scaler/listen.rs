//! Connections for gRPC: plain, or TLS with certificates that are read again when their files change.

use futures_util::Stream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

/// Connections at once: KEDA has one for all of its ScaledObjects.
const CONNECTIONS: usize = 256;
/// For a handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How often the files are looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);

/// The files of the server's certificate.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those between it and its root, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// Who signs the clients' certificates, where they must have one.
    pub client_ca: Option<PathBuf>,
}

/// The server's side of TLS.
pub struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    looked: Instant,
    contents: Vec<Vec<u8>>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// One text that names the setting and the file.
    pub fn open(files: TlsFiles) -> Result<Self, String> {
        let contents = files.read()?;
        let config = files.config(&contents)?;
        Ok(Self { files, current: Mutex::new(Current { looked: Instant::now(), contents, config }) })
    }

    /// The configuration by what the files hold now; where that is no good, by what they held before.
    fn config(&self) -> Arc<ServerConfig> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= RELOAD {
            current.looked = Instant::now();
            match self.files.read() {
                Ok(contents) if contents == current.contents => {}
                Ok(contents) => match self.files.config(&contents) {
                    Ok(config) => {
                        tracing::info!("gRPC's certificates have changed");
                        (current.contents, current.config) = (contents, config);
                    }
                    Err(error) => tracing::warn!(error, "gRPC keeps its former certificates"),
                },
                Err(error) => tracing::warn!(error, "gRPC keeps its former certificates"),
            }
        }
        Arc::clone(&current.config)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let files = [
            ("GRPC_CERT_FILE", Some(&self.cert)),
            ("GRPC_KEY_FILE", Some(&self.key)),
            ("GRPC_CLIENT_CA_FILE", self.client_ca.as_ref()),
        ];
        let files = files.into_iter().filter_map(|(variable, path)| Some((variable, path?)));
        let read = |(variable, path): (_, &PathBuf)| {
            std::fs::read(path).map_err(|error| format!("{variable}: can't read {}: {error}", path.display()))
        };
        files.map(read).collect()
    }

    fn config(&self, contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
        let [cert, key, client_ca @ ..] = contents else { return Err("GRPC_CERT_FILE: nothing was read".into()) };
        let chain = certificates(cert, "GRPC_CERT_FILE")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("GRPC_KEY_FILE: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = match client_ca.first() {
            None => builder.with_no_client_auth(),
            Some(bytes) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(bytes, "GRPC_CLIENT_CA_FILE")? {
                    roots.add(certificate).map_err(|error| format!("GRPC_CLIENT_CA_FILE: {error}"))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| format!("GRPC_CLIENT_CA_FILE: {error}"))?)
            }
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| format!("GRPC_CERT_FILE and GRPC_KEY_FILE: {error}"))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8], variable: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("{variable}: {error}"))?;
    if found.is_empty() { Err(format!("{variable}: it holds no certificate")) } else { Ok(found) }
}

/// Connections as they come; handshakes go on beside one another, each within its time.
pub fn incoming(listener: TcpListener, tls: Option<Tls>) -> impl Stream<Item = io::Result<Link>> {
    let (ready, links) = mpsc::channel(1);
    tokio::spawn(async move {
        let seats = Arc::new(Semaphore::new(CONNECTIONS));
        let tls = tls.map(Arc::new);
        loop {
            // Beyond them a client waits in the queue of the listener.
            let Ok(seat) = Arc::clone(&seats).acquire_owned().await else { break };
            let stream = tokio::select! {
                () = ready.closed() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(%error, "can't accept a gRPC connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let _ = stream.set_nodelay(true);
            let (ready, tls) = (ready.clone(), tls.clone());
            tokio::spawn(async move {
                let stream = match tls {
                    None => Wire::Plain(stream),
                    Some(tls) => {
                        let accepted = TlsAcceptor::from(tls.config()).accept(stream);
                        match tokio::time::timeout(HANDSHAKE, accepted).await {
                            Ok(Ok(stream)) => Wire::Tls(Box::new(stream)),
                            Ok(Err(error)) => return tracing::debug!(%error, "a gRPC client was refused"),
                            Err(_) => return,
                        }
                    }
                };
                let _ = ready.send(Ok(Link { stream, _seat: seat })).await;
            });
        }
    });
    ReceiverStream::new(links)
}

/// A connection, and its seat.
pub struct Link {
    stream: Wire,
    _seat: tokio::sync::OwnedSemaphorePermit,
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Link {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
