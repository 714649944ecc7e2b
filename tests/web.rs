//! `WEB_CONFIG_FILE`: TLS and basic auth on real connections, and new files without a restart. And no secret in any output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use support::authority::Authority;
use support::{Exporter, Redis, free_port, get, wait_for};

fn login(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

fn users(pairs: &[(&str, &str)]) -> String {
    // the lowest cost that there is: what is tested is not bcrypt
    let line = |(user, password): &(&str, &str)| format!("  {user}: {}\n", bcrypt::hash(password, 4).unwrap());
    format!("basic_auth_users:\n{}", pairs.iter().map(line).collect::<String>())
}

/// Starts the exporter; its `/readyz` is asked without a password, as probes do.
fn start(redis: &Redis, config: &Path, log: &Path) -> Exporter {
    let url = redis.url();
    let config = config.to_str().unwrap();
    Exporter::start_logged(&[("REDIS_URL", &url), ("QUEUES", "list:a"), ("WEB_CONFIG_FILE", config)], log)
}

#[test]
fn a_password_is_wanted_but_by_probes_and_may_change() {
    let redis = Redis::start();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("web.yaml");
    std::fs::write(&config, users(&[("alice", "wonder:land"), ("bob", "b")])).unwrap();
    let log = folder.path().join("log");
    let exporter = start(&redis, &config, &log);
    let status = |path: &str, headers: &str| get(exporter.address, path, headers).unwrap().status;
    for path in ["/metrics", "/"] {
        assert_eq!(status(path, ""), 401);
        for (user, password) in [("alice", ""), ("alice", "wonder"), ("bob", "wonder:land"), ("carol", "b"), ("", "")] {
            assert_eq!(status(path, &login(user, password)), 401, "{user}:{password}");
        }
        for _ in 0..2 {
            assert_eq!(status(path, &login("alice", "wonder:land")), 200);
            assert_eq!(status(path, &login("bob", "b")), 200);
        }
        assert_eq!(status(path, "Authorization: Basic !\r\n"), 401);
    }
    let refused = get(exporter.address, "/metrics", "").unwrap();
    assert!(refused.head.contains("www-authenticate: basic realm"), "{}", refused.head);
    assert_eq!((status("/healthz", ""), status("/readyz", "")), (200, 200));
    // A file that is none leaves the former in force; a new password puts the old one out.
    std::fs::write(&config, "basic_auth_users: {alice: plain}").unwrap();
    wait_for("the file is looked at", || {
        assert_eq!(status("/metrics", &login("alice", "wonder:land")), 200);
        std::fs::read_to_string(&log).ok()?.contains("its former content stays in force").then_some(())
    });
    assert_eq!(status("/metrics", &login("alice", "wonder:land")), 200);
    std::fs::write(&config, users(&[("alice", "new")])).unwrap();
    wait_for("the new password", || (status("/metrics", &login("alice", "new")) == 200).then_some(()));
    assert_eq!(
        (status("/metrics", &login("alice", "wonder:land")), status("/metrics", &login("bob", "b"))),
        (401, 401)
    );
}

/// The status of a request over TLS, or `None` where no connection came about.
fn over_tls(port: u16, roots: &Authority, identity: Option<(&Authority, &str)>) -> Option<u16> {
    let read = |path: std::path::PathBuf| CertificateDer::from_pem_file(path).unwrap();
    let mut store = rustls::RootCertStore::empty();
    store.add(read(roots.path("ca.crt"))).unwrap();
    let builder = rustls::ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some((authority, name)) => {
            let key = PrivateKeyDer::from_pem_file(authority.path(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![read(authority.path(&format!("{name}.crt")))], key).unwrap()
        }
    };
    let connection =
        rustls::ClientConnection::new(Arc::new(config), ServerName::try_from("localhost").unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(("127.0.0.1", port)).ok()?);
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    std::str::from_utf8(answer.get(9..12)?).ok()?.parse().ok()
}

#[test]
fn tls_with_certificates_of_clients_and_new_ones_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    old.sign("server", "localhost");
    old.sign("client", "prometheus");
    new.sign("server", "localhost");
    new.sign("client", "stranger");
    let redis = Redis::start();
    let config = old.path("web.yaml");
    std::fs::write(
        &config,
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n  client_ca_file: ca.crt\n  \
         client_auth_type: RequireAndVerifyClientCert\n",
    )
    .unwrap();
    let port = free_port();
    let (url, address) = (redis.url(), format!("127.0.0.1:{port}"));
    let mut exporter = std::process::Command::new(env!("CARGO_BIN_EXE_queue-exporter"))
        .env_clear()
        .envs([("REDIS_URL", url.as_str()), ("QUEUES", "list:a"), ("LISTEN_ADDR", &address), ("RUST_LOG", "warn")])
        .env("WEB_CONFIG_FILE", &config)
        .spawn()
        .unwrap();
    wait_for("an answer over TLS", || (over_tls(port, &old, Some((&old, "client"))) == Some(200)).then_some(()));
    assert_eq!(over_tls(port, &old, None), None, "a client without a certificate");
    assert_eq!(over_tls(port, &old, Some((&new, "client"))), None, "a client of another authority");
    assert_eq!(over_tls(port, &new, Some((&old, "client"))), None, "a client that does not trust this one");
    assert!(get(([127, 0, 0, 1], port).into(), "/metrics", "").is_none(), "a client without TLS");
    std::fs::copy(new.path("server.crt"), old.path("server.crt")).unwrap();
    std::fs::copy(new.path("server.key"), old.path("server.key")).unwrap();
    wait_for("the new certificate", || (over_tls(port, &new, Some((&old, "client"))) == Some(200)).then_some(()));
    exporter.kill().unwrap();
    exporter.wait().unwrap();
}

#[test]
fn no_secret_is_in_any_output() {
    let redis = Redis::start();
    redis.say("CONFIG SET requirepass hunter2");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("web.yaml");
    std::fs::write(&config, users(&[("alice", "hunter3")])).unwrap();
    // The right password, a wrong one, and one that is not as a URL has it.
    for (password, works) in [("hunter2", true), ("hunter4", false), ("hunter5%zz", false)] {
        let url = format!("redis://:{password}@127.0.0.1:{}", redis.port);
        let log = folder.path().join(format!("{}.log", works));
        let out = std::fs::File::create(&log).unwrap();
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        let mut exporter = std::process::Command::new(env!("CARGO_BIN_EXE_queue-exporter"))
            .env_clear()
            .envs([("REDIS_URL", url.as_str()), ("QUEUES", "list:a"), ("LISTEN_ADDR", &address), ("RUST_LOG", "trace")])
            .env("WEB_CONFIG_FILE", &config)
            .env("POLL_INTERVAL", "100ms")
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let login = login("alice", "hunter3");
        let shown = wait_for("a page, or an end", || {
            if exporter.try_wait().unwrap().is_some() {
                return Some(String::new());
            }
            let read = |path: &str| Some(get(([127, 0, 0, 1], port).into(), path, &login)?.text());
            let (metrics, page) = (read("/metrics")?, read("/")?);
            let polled = metrics.contains("redis_queue_up{queue=\"a\",layout=\"list\"} 1") == works
                && !metrics.contains("queue_exporter_poll_duration_seconds_count 0\n");
            polled.then_some(metrics + &page)
        });
        exporter.kill().ok();
        exporter.wait().unwrap();
        let told = shown + &std::fs::read_to_string(&log).unwrap();
        assert!(!told.is_empty());
        for secret in ["hunter", "$2b$", login.trim_end().rsplit(' ').next().unwrap()] {
            assert!(!told.contains(secret), "{secret} in: {told}");
        }
    }
}
