//! The program: arguments, logs, configuration, signals, exit codes.

use queue_exporter::Listeners;
use queue_exporter::check::{Output, check};
use queue_exporter::config::{Config, LogFormat};
use queue_exporter::replay::command::{self, Fault};
use queue_exporter::replay::options::{self, Options};
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::process::ExitCode;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// glibc's allocator gives memory back after each poll and faults it in again at the next, musl's is slow: a quarter of the
/// time of a poll. One arena will do for one busy thread (`.cargo/config.toml`), at 2 MB.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Exit codes as sysexits(3) has them: bad usage or configuration, service unavailable; 1 for what the system refused.
const USAGE: u8 = 64;
const UNAVAILABLE: u8 = 69;
const FAILURE: u8 = 1;

const HELP: &str = "\
queue-exporter publishes length, processing rate and oldest-job age of job queues in Redis.

Usage: queue-exporter [serve]                        poll the queues, serve /metrics and a page at /
       queue-exporter check [--output table|json]    read every queue once, say what is wrong, and exit
       queue-exporter replay|tune [--help]            what the chart's table of workers costs under a load; a better one
       queue-exporter --version | --help

Environment:
  QUEUES         the queues, such as list:ocr,stream:parse?group=workers,zset:label
  QUEUES_FILE    the same as YAML with a scaling policy for each queue; one of the two is required
  REDIS_URL      redis://127.0.0.1:6379 unless set; rediss, redis-cluster and redis-sentinel too
  REDIS_URL_FILE a file that holds it, read again at each reconnect
  REDIS_CA_FILE, REDIS_CERT_FILE, REDIS_KEY_FILE    certificates, in PEM
  LISTEN_ADDR    0.0.0.0:9797        POLL_INTERVAL  1s
  RATE_WINDOW    60s                 STALE_AFTER    3 polls, at least 5s
  MAX_QUEUES     10000               LOG_FORMAT     text, or json
  DISCOVERY_TTL  1h                  RUST_LOG       info
  WEB_CONFIG_FILE    TLS and basic auth for HTTP, in the file format of Prometheus' exporters
  GRPC_ADDR      where KEDA's external scaler is served, such as 0.0.0.0:9798; nowhere unless set
  GRPC_CERT_FILE, GRPC_KEY_FILE, GRPC_CLIENT_CA_FILE    its TLS, in PEM; the last if clients must have a certificate

Exit codes: 0 done, 1 the system refused something, or an objective can't be kept (tune), 64 bad usage or configuration,
            69 a queue can't be read (check), or Prometheus can't be asked (replay, tune).
";

enum Command {
    Serve,
    Check(Output),
    Replay(Options),
    Tune(Options),
    Print(String),
}

fn main() -> ExitCode {
    let command = match parse(lexopt::Parser::from_env()) {
        Ok(Command::Print(text)) => {
            say(&text);
            return ExitCode::SUCCESS;
        }
        Ok(Command::Replay(options)) => return replay(&options, false),
        Ok(Command::Tune(options)) => return replay(&options, true),
        Ok(command) => command,
        Err(error) => return complain(&format!("{error}; see queue-exporter --help"), USAGE),
    };
    let config = match Config::from_env(std::env::vars_os()) {
        Ok(config) => config,
        Err(faults) => return complain(&faults.to_string(), USAGE),
    };
    start_log(config.log_format);
    // One thread is enough: a poll of 1,000 queues takes 5 ms of it, and a scrape copies bytes that are there already.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(command, config)),
        Err(error) => complain(&format!("can't start: {error}"), FAILURE),
    }
}

fn parse(mut arguments: lexopt::Parser) -> Result<Command, lexopt::Error> {
    use lexopt::prelude::{Long, Short, Value, ValueExt};
    let mut command = None;
    while let Some(argument) = arguments.next()? {
        match argument {
            Value(word) if command.is_none() && (word == "replay" || word == "tune") => {
                let tunes = word == "tune";
                let options = Options::parse(&mut arguments)?;
                let Some(options) = options else { return Ok(Command::Print(options::HELP.into())) };
                return Ok(if tunes { Command::Tune(options) } else { Command::Replay(options) });
            }
            Short('h') | Long("help") => return Ok(Command::Print(HELP.into())),
            Short('V') | Long("version") => {
                return Ok(Command::Print(format!("queue-exporter {}\n", env!("CARGO_PKG_VERSION"))));
            }
            Value(word) if command.is_none() && word == "serve" => command = Some(Command::Serve),
            Value(word) if command.is_none() && word == "check" => command = Some(Command::Check(Output::default())),
            Long("output") if matches!(command, Some(Command::Check(_))) => {
                let output = match arguments.value()?.string()?.as_str() {
                    "table" => Output::Table,
                    "json" => Output::Json,
                    other => return Err(format!("--output is {other:?}; it must be table or json").into()),
                };
                command = Some(Command::Check(output));
            }
            other => return Err(other.unexpected()),
        }
    }
    Ok(command.unwrap_or(Command::Serve))
}

/// Replays, or tunes, and prints what came of it.
fn replay(options: &Options, tunes: bool) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("can't start: {error}"), FAILURE),
    };
    let outcome = runtime.block_on(async {
        if tunes { command::tune(options).await } else { command::replay(options).await.map(|text| (text, true)) }
    });
    match outcome {
        Ok((text, kept)) => {
            say(&text);
            if kept { ExitCode::SUCCESS } else { ExitCode::from(FAILURE) }
        }
        Err(Fault::Given(fault)) => complain(&fault, USAGE),
        Err(Fault::Unavailable(fault)) => complain(&fault, UNAVAILABLE),
        Err(Fault::Refused(fault)) => complain(&fault, FAILURE),
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,fred=off"));
    // Spans are of level debug: with it the log tells how long each poll, exchange with Redis and request took.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_span_events(FmtSpan::CLOSE);
    let log = log.with_writer(std::io::stderr);
    let log = log.with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}

async fn run(command: Command, config: Config) -> ExitCode {
    if let Command::Check(output) = command {
        let (text, all_read) = check(config, output).await;
        say(&text);
        return if all_read { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) };
    }
    let (mut terminate, mut interrupt) = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => return complain(&format!("can't watch signals: {error}"), FAILURE),
    };
    let bound = async {
        let http = bind(config.listen, "LISTEN_ADDR").await?;
        let grpc = match &config.grpc {
            Some(grpc) => Some(bind(grpc.listen, "GRPC_ADDR").await?),
            None => None,
        };
        Ok::<_, String>(Listeners { http, grpc })
    };
    let listeners = match bound.await {
        Ok(listeners) => listeners,
        Err(fault) => return complain(&fault, FAILURE),
    };
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
            _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
        }
    };
    match queue_exporter::run(config, listeners, shutdown).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error.to_string(), FAILURE),
    }
}

async fn bind(address: SocketAddr, variable: &str) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("{variable}: can't listen on {address}: {error}"))
}

/// To a reader who may have gone, as `head` does.
fn say(text: &str) {
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn complain(text: &str, code: u8) -> ExitCode {
    for line in text.lines() {
        eprintln!("queue-exporter: {line}");
    }
    ExitCode::from(code)
}
