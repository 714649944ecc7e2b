//! The server's side of TLS: certificates that are read again when their files change.

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

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
    /// Who signs the clients' certificates, where they may or must have one.
    pub client_ca: Option<PathBuf>,
    /// Whether a client may come without one.
    pub optional: bool,
    /// The protocol that is agreed on (RFC 7301).
    pub protocol: &'static str,
    /// The settings that the files come from, for faults: certificate, key, client CA.
    pub settings: [&'static str; 3],
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

    /// Shakes hands with a client, in bounded time.
    ///
    /// # Errors
    /// Where that fails.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Wire> {
        let accepted = TlsAcceptor::from(self.config()).accept(stream);
        let stream = tokio::time::timeout(HANDSHAKE, accepted).await.map_err(|_| io::ErrorKind::TimedOut)??;
        Ok(Wire::Tls(Box::new(stream)))
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
                        tracing::info!(file = %self.files.cert.display(), "the certificate has changed");
                        (current.contents, current.config) = (contents, config);
                    }
                    Err(error) => tracing::warn!(error, "the former certificate stays"),
                },
                Err(error) => tracing::warn!(error, "the former certificate stays"),
            }
        }
        Arc::clone(&current.config)
    }
}

impl TlsFiles {
    fn read(&self) -> Result<Vec<Vec<u8>>, String> {
        let files = [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()];
        let files = self.settings.into_iter().zip(files).filter_map(|(setting, path)| Some((setting, path?)));
        let read = |(setting, path): (_, &PathBuf)| {
            std::fs::read(path).map_err(|error| format!("{setting}: can't read {}: {error}", path.display()))
        };
        files.map(read).collect()
    }

    fn config(&self, contents: &[Vec<u8>]) -> Result<Arc<ServerConfig>, String> {
        let [cert_file, key_file, client_ca_file] = self.settings;
        let [cert, key, client_ca @ ..] = contents else { return Err(format!("{cert_file}: nothing was read")) };
        let chain = certificates(cert, cert_file)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("{key_file}: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
        let builder = match client_ca.first() {
            None => builder.with_no_client_auth(),
            Some(bytes) => {
                let fault = |error: &dyn std::fmt::Display| format!("{client_ca_file}: {error}");
                let mut roots = RootCertStore::empty();
                for certificate in certificates(bytes, client_ca_file)? {
                    roots.add(certificate).map_err(|error| fault(&error))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.optional { verifier.allow_unauthenticated() } else { verifier };
                builder.with_client_cert_verifier(verifier.build().map_err(|error| fault(&error))?)
            }
        };
        let config = builder.with_single_cert(chain, key);
        let mut config = config.map_err(|error| format!("{cert_file} and {key_file}: {error}"))?;
        config.alpn_protocols = vec![self.protocol.as_bytes().to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8], setting: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| format!("{setting}: {error}"))?;
    if found.is_empty() { Err(format!("{setting}: it holds no certificate")) } else { Ok(found) }
}

/// A connection, with TLS or without.
pub enum Wire {
    /// Without.
    Plain(TcpStream),
    /// With.
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    /// Without it hyper copies a page before it sends it.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
