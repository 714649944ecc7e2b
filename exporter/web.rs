//! `WEB_CONFIG_FILE`: TLS and basic auth for HTTP, in the file format of Prometheus' exporter-toolkit
//! (`tls_server_config`, `basic_auth_users`; <https://prometheus.io/docs/prometheus/latest/configuration/https/>).
//!
//! The file and the certificates are read again when they change; what is no good then leaves the former in force. A password costs
//! bcrypt's time once: who was let in is known by a digest. Wrong ones wait in line, so that guessing keeps no core busy for long.

use crate::tls::{Tls, TlsFiles};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// How often the file is looked at, at most.
const RELOAD: Duration = Duration::from_secs(1);
/// Passwords that are checked at once.
const CHECKS: usize = 1;
/// Digests that are kept of those let in.
const KNOWN: usize = 100;
/// A hash that no password has, for a user that does not exist: so that it takes as long to refuse one as another.
const NOBODY: &str = "$2b$10$abcdefghijklmnopqrstuuBRGjrPHSbFJZzKBcTaZ8TIXt2WiE5nK";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    tls_server_config: Option<TlsSection>,
    #[serde(default)]
    basic_auth_users: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsSection {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    client_auth_type: Option<String>,
}

/// The file as it is in force.
pub struct Web {
    path: PathBuf,
    current: Mutex<Current>,
    checks: Semaphore,
}

struct Current {
    looked: Instant,
    text: String,
    tls: Option<Arc<Tls>>,
    users: Arc<HashMap<String, String>>,
    /// Digests of the headers of those let in.
    known: HashSet<Vec<u8>>,
}

impl Web {
    /// Reads the file.
    ///
    /// # Errors
    /// One text that names what is wrong and holds no secret.
    pub fn open(path: PathBuf) -> Result<Self, String> {
        let text = read(&path)?;
        let current = Current::of(text, &path)?;
        Ok(Self { path, current: Mutex::new(current), checks: Semaphore::new(CHECKS) })
    }

    /// TLS, where the file asks for it.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.current().tls.clone()
    }

    /// Whether a request with this `Authorization` header is let in.
    pub async fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let users = Arc::clone(&self.current().users);
        if users.is_empty() {
            return true;
        }
        let Some(header) = authorization else { return false };
        let seen = digest(&SHA256, header).as_ref().to_vec();
        if self.current().known.contains(&seen) {
            return true;
        }
        let Some((user, password)) = credentials(header) else { return false };
        let hash = users.get(&user).cloned();
        let Ok(_turn) = self.checks.acquire().await else { return false };
        let checked = tokio::task::spawn_blocking(move || {
            let matches = bcrypt::verify(password, hash.as_deref().unwrap_or(NOBODY)).unwrap_or(false);
            matches && hash.is_some()
        });
        let admitted = checked.await.unwrap_or(false);
        let mut current = self.current();
        // Unless the file has changed meanwhile.
        if admitted && Arc::ptr_eq(&users, &current.users) {
            if current.known.len() >= KNOWN {
                current.known.clear();
            }
            current.known.insert(seen);
        }
        admitted
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= RELOAD {
            current.looked = Instant::now();
            let read = read(&self.path)
                .and_then(|text| if text == current.text { Ok(None) } else { Current::of(text, &self.path).map(Some) });
            match read {
                Ok(None) => {}
                Ok(Some(new)) => {
                    tracing::info!(file = %self.path.display(), "WEB_CONFIG_FILE has changed");
                    *current = new;
                }
                Err(error) => tracing::warn!(error, "WEB_CONFIG_FILE: its former content stays in force"),
            }
        }
        current
    }
}

impl Current {
    fn of(text: String, path: &Path) -> Result<Self, String> {
        // The first line of what the parser says: the others quote the file, and with it a hash.
        let first = |error: serde_saphyr::Error| error.to_string().lines().next().unwrap_or_default().to_string();
        let file: File = serde_saphyr::from_str(&text).map_err(first)?;
        for (user, hash) in &file.basic_auth_users {
            if hash.parse::<bcrypt::HashParts>().is_err() {
                return Err(format!(
                    "basic_auth_users: the hash of {user:?} is no bcrypt hash; make one with htpasswd -nBC 10 \"\""
                ));
            }
        }
        let tls = file.tls_server_config.map(|section| section.open(path)).transpose()?.map(Arc::new);
        Ok(Self { looked: Instant::now(), text, tls, users: Arc::new(file.basic_auth_users), known: HashSet::new() })
    }
}

impl TlsSection {
    fn open(self, path: &Path) -> Result<Tls, String> {
        // As the toolkit has it: relative to the file that names them.
        let beside = |file: PathBuf| path.parent().map_or_else(|| file.clone(), |folder| folder.join(&file));
        let optional = match self.client_auth_type.as_deref() {
            None | Some("" | "NoClientCert") if self.client_ca_file.is_none() => false,
            Some("RequireAndVerifyClientCert") if self.client_ca_file.is_some() => false,
            Some("VerifyClientCertIfGiven") if self.client_ca_file.is_some() => true,
            Some("RequireAndVerifyClientCert" | "VerifyClientCertIfGiven") => {
                return Err("client_auth_type needs client_ca_file; give it".into());
            }
            None | Some("" | "NoClientCert") => {
                return Err("client_ca_file needs client_auth_type: RequireAndVerifyClientCert".into());
            }
            Some(other) => {
                return Err(format!(
                    "client_auth_type is {other:?}; it must be NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert"
                ));
            }
        };
        Tls::open(TlsFiles {
            cert: beside(self.cert_file),
            key: beside(self.key_file),
            client_ca: self.client_ca_file.map(beside),
            optional,
            protocol: "http/1.1",
            settings: ["cert_file", "key_file", "client_ca_file"],
        })
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("can't read {}: {error}", path.display()))
}

/// User and password of basic authentication (RFC 7617).
fn credentials(header: &[u8]) -> Option<(String, Vec<u8>)> {
    let (scheme, encoded) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at(colon);
    Some((std::str::from_utf8(user).ok()?.to_string(), password.get(1..)?.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> Result<Web, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yaml");
        std::fs::write(&path, text).unwrap();
        Web::open(path)
    }

    #[test]
    fn the_hash_of_nobody_is_one() {
        assert!(!bcrypt::verify("", NOBODY).unwrap());
    }

    #[test]
    fn credentials_are_those_of_rfc_7617() {
        assert_eq!(
            credentials(b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some(("Aladdin".into(), b"open sesame".to_vec()))
        );
        assert_eq!(credentials(b"basic YTpiOmM="), Some(("a".into(), b"b:c".to_vec())));
        for bad in [&b"Basic"[..], b"Basic !", b"Bearer YTpi", b"Basic YQ==", b"\xff \xff"] {
            assert_eq!(credentials(bad), None);
        }
    }

    #[test]
    fn bad_files_are_told_without_their_secrets() {
        let cases = [
            ("basic_auth_users: {a: secret}", "is no bcrypt hash"),
            ("basic_auth_users: {a: [secret]}", ""),
            ("basic_auth_users: {a: secret", ""),
            ("basic_auth_users: secret", ""),
            ("secret", ""),
            ("- secret: a", ""),
            ("basic_auth_users: {a: !!int secret}", ""),
            ("basic_auth_users: {a: &secret b, c: *secret2}", ""),
            ("basic_auth: {a: b}", "basic_auth"),
            ("tls_server_config: {cert_file: a}", "key_file"),
            ("tls_server_config: {cert_file: a, key_file: b}", "cert_file: can't read"),
            ("tls_server_config: {cert_file: a, key_file: b, cipher_suites: []}", "cipher_suites"),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}",
                "client_ca_file needs client_auth_type",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequestClientCert}",
                "it must be NoClientCert",
            ),
            (
                "tls_server_config: {cert_file: a, key_file: b, client_auth_type: VerifyClientCertIfGiven}",
                "needs client_ca_file",
            ),
        ];
        for (text, part) in cases {
            let fault = open(text).err().unwrap();
            assert!(fault.contains(part) && !fault.contains("secret"), "{text}: {fault}");
        }
    }
}
