//! `make churn`: an exporter that finds about 10,000 queues by a pattern, for SOAK_SECONDS (3600): each second 25 go and 25 others come, so
//! that an hour sees 100,000 names; five clients scrape it each second; Redis is killed every five minutes and comes back empty, to be filled
//! again. Every minute a line: resident memory, descriptors, polls, queues shown, and the slowest scrape. It exits with 1 where memory grows by more
//! than a tenth of itself from the second sixth of the time to the last, where descriptors do, or where a twentieth of the polls is missed. `tests/churn.rs`
//! is its short form.

#[path = "../support/mod.rs"]
mod support;

use support::churn::Churn;

fn main() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3_600);
    let churn = Churn {
        seconds,
        queues: 9_800,
        turnover: 25,
        scrapers: 5,
        redis_lives: 300,
        sample: 60,
        variables: &[("POLL_INTERVAL", "1s"), ("RATE_WINDOW", "60s"), ("STALE_AFTER", "5s"), ("DISCOVERY_TTL", "30s")],
    };
    println!("resident MB  descriptors  polls  queues  slowest scrape ms");
    let churned = churn.run(|sample| {
        println!(
            "{:>11.1}  {:>11}  {:>5}  {:>6}  {:>17.1}",
            sample.resident, sample.descriptors, sample.polls, sample.queues, sample.slowest_ms
        );
    });
    let cpu = churned.exporter.metrics().value("process_cpu_seconds_total").unwrap_or(0.0);
    let polls: f64 = churned.samples.iter().map(|sample| sample.polls).sum();
    println!("CPU: {:.1} % of a core; polls: {polls} in {seconds} s", cpu / seconds as f64 * 100.0);
    let (memory, files) =
        (churned.growth(|sample| sample.resident), churned.growth(|sample| sample.descriptors as f64));
    println!("resident memory, median of the second sixth and of the last: {:.1} MB, {:.1} MB", memory.0, memory.1);
    let grows = memory.1 > memory.0 * 1.1 || files.1 > files.0 * 1.1;
    std::process::exit(i32::from(grows || polls < seconds as f64 * 0.95));
}
