//! fred's configuration of what REDIS_URL and the certificates' files say, and what is wrong with them, in words.

use crate::config::{RedisConfig, UrlSource};
use fred::types::RespVersion;
use fred::types::config::{Config, TlsConfig, TlsConnector};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;

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

/// Reads the URL and the certificates anew.
///
/// # Errors
/// One text that names the setting and the remedy, and holds no secret.
pub fn settings(config: &RedisConfig) -> Result<Config, String> {
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

/// What is wrong between the two by TLS, in words and with the remedy: fred has only rustls' names for it.
pub fn of_tls(details: &str) -> Option<&'static str> {
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
