//! What else a scrape and a poll may have to bear: gzip, many scrapers at once, a database full of jobs. And what a scrape costs at
//! least: a server that only sends the same bytes.

use super::bed::{
    Bed, Outcome, POLL_SECONDS, POLLS, Process, Times, free_address, paced, repeat, sample, scrape, scrape_with,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

/// Scrapers at once.
pub const CROWD: usize = 50;
/// Keys of jobs beside the queues, as most libraries keep them.
pub const JOBS: usize = 200_000;
const JOBS_A_WRITE: usize = 10_000;

/// Of one exporter that is running.
pub struct Strain {
    /// The page in bytes, and as gzip.
    pub plain: f64,
    pub packed: f64,
    /// Scrapes by gzip.
    pub gzip: Times,
    /// The page from a server that only sends it.
    pub copy: Times,
    /// Until all of [`CROWD`] scrapers are served that come at the same moment, in ms.
    pub crowd: Times,
    /// With [`JOBS`] keys beside the queues: a poll in ms, its CPU with a scrape's, and that of Redis.
    pub poll_ms: f64,
    pub cpu_ms: f64,
    pub redis_ms: f64,
}

/// Measures it; the keys are gone again afterwards.
pub fn measure(bed: &mut Bed, process: &Process, address: SocketAddr, seconds: u32) -> Outcome<Strain> {
    let mut body = Vec::new();
    scrape(address, &mut body)?;
    let page = body.clone();
    let copy = copy(&page, seconds)?;
    let gzip = Times::of(&repeat(seconds, || scrape_with(address, "Accept-Encoding: gzip\r\n", &mut body))?);
    let packed = body.len() as f64;
    let crowd = Times::of(&repeat(1, || crowd(address))?);
    jobs(bed, "SET")?;
    let ((cpu_ms, poll_ms), redis) = bed.observe(|| {
        scrape(address, &mut body)?;
        let (cpu, polls, spent) = (process.cpu_ms()?, sample(&body, POLLS)?, sample(&body, POLL_SECONDS)?);
        paced(seconds, || scrape(address, &mut body))?;
        let polls = sample(&body, POLLS)? - polls;
        Ok(((process.cpu_ms()? - cpu) / polls, (sample(&body, POLL_SECONDS)? - spent) * 1e3 / polls))
    })?;
    jobs(bed, "DEL")?;
    let redis_ms = redis.cpu_ms / f64::from(seconds);
    Ok(Strain { plain: page.len() as f64, packed, gzip, copy, crowd, poll_ms, cpu_ms, redis_ms })
}

/// Scrapes of a server that has the answer ready and knows nothing else.
fn copy(answer: &[u8], seconds: u32) -> Outcome<Times> {
    let address = free_address()?;
    let listener = TcpListener::bind(address)?;
    thread::scope(|scope| {
        let server = scope.spawn(|| -> std::io::Result<()> {
            loop {
                let (mut client, _) = listener.accept()?;
                let mut request = [0; 1024];
                // Connected to and left: it is over.
                if client.read(&mut request)? == 0 {
                    return Ok(());
                }
                client.write_all(answer)?;
            }
        });
        let mut body = Vec::new();
        let times = repeat(seconds, || scrape(address, &mut body));
        drop(std::net::TcpStream::connect(address)?);
        server.join().map_err(|_| "the server died")??;
        Ok(Times::of(&times?))
    })
}

/// How long it takes until the last one is served.
fn crowd(address: SocketAddr) -> Outcome<Duration> {
    let ready = Barrier::new(CROWD + 1);
    thread::scope(|scope| {
        let scrapers: Vec<_> = (0..CROWD)
            .map(|_| {
                scope.spawn(|| {
                    let mut body = Vec::new();
                    ready.wait();
                    scrape(address, &mut body).map_err(|error| error.to_string())
                })
            })
            .collect();
        ready.wait();
        let begin = Instant::now();
        for scraper in scrapers {
            scraper.join().map_err(|_| "a scraper died")??;
        }
        Ok(begin.elapsed())
    })
}

/// Writes the keys, or deletes them.
fn jobs(bed: &mut Bed, command: &str) -> Outcome<()> {
    for first in (0..JOBS).step_by(JOBS_A_WRITE) {
        let mut pipe = redis::pipe();
        for job in first..first + JOBS_A_WRITE {
            let one = pipe.cmd(command).arg(format!("job:{job}"));
            if command == "SET" {
                one.arg("a payload of a few dozen bytes, as of a short job");
            }
            pipe.ignore();
        }
        pipe.exec(&mut bed.admin)?;
    }
    Ok(())
}
