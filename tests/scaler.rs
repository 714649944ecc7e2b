//! KEDA's external scaler: its answers, its pushes, its faults, on a real Redis and over real connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::io::Read;
use std::time::Duration;
use support::authority::Authority;
use support::grpc::Scaler;
use support::{Exporter, Redis, free_port};
use tokio::time::timeout;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

/// Nothing that must come takes so long.
const LONG: Duration = Duration::from_secs(20);

struct Setting {
    redis: Redis,
    exporter: Exporter,
    scaler: Scaler,
}

fn start(queues: &str, variables: &[(&str, &str)]) -> Setting {
    start_on(Redis::start(), queues, variables)
}

fn start_on(redis: Redis, queues: &str, variables: &[(&str, &str)]) -> Setting {
    let port = free_port();
    let (url, address) = (redis.url(), format!("127.0.0.1:{port}"));
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), queues).unwrap();
    let path = file.path().to_str().unwrap();
    let common = [("REDIS_URL", url.as_str()), ("QUEUES_FILE", path), ("GRPC_ADDR", &address)];
    let exporter = Exporter::start_with(&[&common, variables].concat());
    let scaler = {
        // A channel wants to be made within a runtime.
        let _runtime = runtime().enter();
        Scaler::new(port)
    };
    Setting { redis, exporter, scaler }
}

fn runtime() -> &'static tokio::runtime::Runtime {
    static RUNTIME: std::sync::OnceLock<tokio::runtime::Runtime> = std::sync::OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async { timeout(LONG, future).await.expect("an answer in time") })
}

const QUEUES: &str = "queues:
  - queue: list:a?in_flight=a:busy
    scale_up_depth: 20
    scale_down_depth: 5
    objective_age: 30s
    job_seconds: 2
    worker_slots: 4
    min_workers: 0
    max_workers: 10
  - queue: list:b
";

/// One poll at the start, and the next when the test is long over.
const RARELY: [(&str, &str); 3] = [("POLL_INTERVAL", "10m"), ("RATE_WINDOW", "30m"), ("STALE_AFTER", "30m")];

#[test]
fn a_client_that_says_nothing_gives_its_seat_back() {
    let address = format!("127.0.0.1:{}", free_port());
    let _setting = start(QUEUES, &[("GRPC_ADDR", &address)]);
    let mut silent = std::net::TcpStream::connect(&address).unwrap();
    silent.set_read_timeout(Some(LONG)).unwrap();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0, "it is hung up on");
}

#[test]
fn values_and_targets_of_each_metric() {
    let setting = start(QUEUES, &[("STALE_AFTER", "5s")]);
    for job in 0..50 {
        setting.redis.run(&["LPUSH", "a", &job.to_string()]);
    }
    setting.redis.say("RPOPLPUSH a a:busy");
    setting.exporter.wait("49 jobs", |metrics| {
        metrics.of("backlog", "a") == Some(49.0)
            && metrics.of("arrival_rate", "a").is_some()
            && metrics.of("in_flight", "a") == Some(1.0)
    });
    let scaler = &setting.scaler;
    run(async {
        assert_eq!(scaler.target("queue=a,metric=backlog").await.unwrap(), ("backlog".to_string(), 20.0));
        assert_eq!(scaler.target("queue=a,metric=age").await.unwrap(), ("age".to_string(), 30.0));
        assert_eq!(scaler.target("queue=a,metric=rate").await.unwrap(), ("rate".to_string(), 2.0));
        assert_eq!(scaler.target("queue=a").await.unwrap(), ("desired_workers".to_string(), 1.0));
        assert_eq!(scaler.value("queue=a,metric=backlog").await.unwrap(), 49.0);
        assert_eq!(scaler.value("queue=a,metric=in_flight").await.unwrap(), 1.0);
        assert!(scaler.value("queue=a,metric=age").await.unwrap() > 0.0);
        assert_eq!(scaler.value("queue=a,metric=backlog,floor=3").await.unwrap(), 0.0);
        assert!(scaler.is_active("queue=a").await.unwrap());
        assert!(!scaler.is_active("queue=b").await.unwrap());
        assert_eq!(scaler.value("queue=b,metric=backlog,target=5").await.unwrap(), 0.0);
    });
    let wanted = setting.exporter.wait("workers", |metrics| metrics.of("desired_workers", "a").is_some());
    assert!(wanted.of("desired_workers", "a") >= Some(3.0), "49 jobs at 20 each");
    assert_eq!(wanted.of("desired_workers", "b"), None, "it has no policy");
}

#[test]
fn what_cant_be_answered_is_an_error_that_says_why() {
    let setting = start(QUEUES, &[]);
    setting.redis.say("SET b text");
    setting.exporter.wait("b can't be read", |metrics| metrics.of("up", "b") == Some(0.0));
    let scaler = &setting.scaler;
    let check = |status: Status, code, part: &str| {
        assert!(status.code() == code && status.message().contains(part), "{status}");
    };
    run(async {
        check(scaler.is_active("queue=b").await.unwrap_err(), Code::Unavailable, "can't be read");
        check(scaler.value("queue=b,metric=backlog").await.unwrap_err(), Code::Unavailable, "can't be read");
        check(scaler.is_active("queue=c").await.unwrap_err(), Code::NotFound, "name it in QUEUES");
        check(scaler.is_active("metric=age").await.unwrap_err(), Code::InvalidArgument, "no queue");
        check(scaler.target("queue=b,metric=age").await.unwrap_err(), Code::FailedPrecondition, "no objective_age");
        check(scaler.value("queue=b,metric=depth").await.unwrap_err(), Code::InvalidArgument, "must be one of");
        check(scaler.stream("metric=depth").await.unwrap_err(), Code::InvalidArgument, "no queue");
        check(
            scaler.value(&format!("queue={}", "x".repeat(100_000))).await.unwrap_err(),
            Code::OutOfRange,
            "too large",
        );
    });
    drop(setting.redis);
    setting.exporter.wait("a is stale", |metrics| metrics.of("up", "a") == Some(0.0));
    run(async {
        let status = setting.scaler.is_active("queue=a").await.unwrap_err();
        check(status, Code::Unavailable, "can't be read");
    });
}

#[test]
fn the_first_job_is_pushed_between_two_polls() {
    let setting = start(QUEUES, &RARELY);
    run(async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(setting.scaler.stream("queue=a").await.unwrap());
        }
        let mut quiet = setting.scaler.stream("queue=b").await.unwrap();
        setting.redis.say("LPUSH a job");
        for stream in &mut streams {
            assert!(stream.message().await.unwrap().unwrap().result);
        }
        assert!(timeout(Duration::from_millis(300), quiet.message()).await.is_err(), "b has no job");
        assert!(setting.scaler.is_active("queue=a").await.unwrap());
    });
}

#[test]
fn first_jobs_of_libraries_and_streams_are_pushed_too() {
    let queues = "queues: [{queue: 'celery:mail?name=celery'}, {queue: 'sidekiq:mail?name=sidekiq'}, {queue: 'rq:mail?name=rq'}, \
                  {queue: 'stream:events?group=g&name=stream'}, {queue: 'zset:later?name=zset'}]";
    let redis = Redis::start();
    redis.say("XGROUP CREATE events g $ MKSTREAM");
    let setting = start_on(redis, queues, &RARELY);
    run(async {
        for (name, job) in [
            ("celery", "LPUSH mail {}"),
            ("sidekiq", "LPUSH queue:mail {}"),
            ("rq", "RPUSH rq:queue:mail id"),
            ("stream", "XADD events * field value"),
            ("zset", "ZADD later 1700000000 job"),
        ] {
            let mut stream = setting.scaler.stream(&format!("queue={name}")).await.unwrap();
            setting.redis.say(job);
            let pushed = timeout(Duration::from_secs(5), stream.message()).await;
            assert!(pushed.unwrap_or_else(|_| panic!("{name} was not pushed")).unwrap().unwrap().result, "{name}");
        }
    });
}

#[test]
fn a_queue_that_has_work_already_is_pushed_at_once() {
    let setting = start(QUEUES, &RARELY);
    setting.redis.say("LPUSH b job");
    run(async {
        let mut stream = setting.scaler.stream("queue=b").await.unwrap();
        assert!(stream.message().await.unwrap().unwrap().result);
        let mut second = setting.scaler.stream("queue=b").await.unwrap();
        assert!(second.message().await.unwrap().unwrap().result);
    });
}

#[test]
fn streams_end_with_the_exporter_and_it_ends_at_once() {
    let setting = start(QUEUES, &[]);
    run(async {
        let mut stream = setting.scaler.stream("queue=a").await.unwrap();
        assert_eq!(setting.exporter.stop("TERM"), Some(0));
        assert!(matches!(stream.message().await, Ok(None) | Err(_)));
    });
}

#[test]
fn health_and_reflection_are_served() {
    let setting = start(QUEUES, &[]);
    run(async {
        let path = "/grpc.health.v1.Health/Check";
        let service = "externalscaler.ExternalScaler".to_string();
        let question = tonic_health::pb::HealthCheckRequest { service };
        let answer: tonic_health::pb::HealthCheckResponse = setting.scaler.unary(path, question).await.unwrap();
        assert_eq!(answer.status(), tonic_health::pb::health_check_response::ServingStatus::Serving);
        use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
        use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
        let question = tonic_reflection::pb::v1::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(
            setting.scaler.channel.clone(),
        );
        let mut answers = client.server_reflection_info(tokio_stream::once(question)).await.unwrap().into_inner();
        match answers.message().await.unwrap().unwrap().message_response.unwrap() {
            MessageResponse::ListServicesResponse(list) => {
                assert!(list.service.iter().any(|service| service.name == "externalscaler.ExternalScaler"));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn tls_wants_the_right_certificate_and_takes_new_ones_without_a_restart() {
    let (old, new) = (Authority::new(), Authority::new());
    old.sign("server", "localhost");
    old.sign("client", "keda");
    new.sign("server", "localhost");
    let redis = Redis::start();
    let port = free_port();
    let (url, address) = (redis.url(), format!("127.0.0.1:{port}"));
    let [cert, key, ca] = ["server.crt", "server.key", "ca.crt"].map(|name| old.text(name));
    let variables = [
        ("REDIS_URL", url.as_str()),
        ("QUEUES", "list:a"),
        ("GRPC_ADDR", &address),
        ("GRPC_CERT_FILE", &cert),
        ("GRPC_KEY_FILE", &key),
        ("GRPC_CLIENT_CA_FILE", &ca),
    ];
    let log = old.path("log");
    let _exporter = Exporter::start_logged(&variables, &log);
    let read = |path: std::path::PathBuf| std::fs::read(path).unwrap();
    let client = |roots: &Authority, identified: bool| {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(roots.path("ca.crt"))));
        if identified {
            tls = tls.identity(Identity::from_pem(read(old.path("client.crt")), read(old.path("client.key"))));
        }
        let endpoint = Endpoint::try_from(format!("https://localhost:{port}")).unwrap().tls_config(tls).unwrap();
        Scaler { channel: endpoint.connect_lazy() }
    };
    run(async {
        assert!(!client(&old, true).is_active("queue=a").await.unwrap());
        assert!(client(&old, false).is_active("queue=a").await.is_err(), "a client without a certificate");
        assert!(client(&new, true).is_active("queue=a").await.is_err(), "a client that does not trust this one");
        std::fs::copy(new.path("server.crt"), old.path("server.crt")).unwrap();
        std::fs::copy(new.path("server.key"), old.path("server.key")).unwrap();
        while client(&new, true).is_active("queue=a").await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A certificate that is none: the last good one stays.
        std::fs::write(old.path("server.crt"), "no certificate").unwrap();
        while !std::fs::read_to_string(&log).unwrap().contains("the former certificate stays") {
            assert!(client(&new, true).is_active("queue=a").await.is_ok());
        }
        assert!(client(&new, true).is_active("queue=a").await.is_ok());
    });
}
