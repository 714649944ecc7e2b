//! The short form of `make churn`: in forty seconds a thousand queues are gone through once more, and Redis dies three times.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use support::churn::Churn;

#[test]
fn queues_that_come_and_go_leave_nothing_behind() {
    let churn = Churn {
        seconds: 40,
        queues: 1_000,
        turnover: 25,
        scrapers: 5,
        redis_lives: 11,
        sample: 1,
        variables: &[("POLL_INTERVAL", "250ms"), ("DISCOVERY_TTL", "1s")],
    };
    let churned = churn.run(|_| ());
    let (before, after) = churned.growth(|sample| sample.resident);
    println!("resident memory: {before:.1} MB, then {after:.1} MB");
    assert!(after < before * 1.2, "memory went from {before:.1} MB to {after:.1} MB");
    let (before, after) = churned.growth(|sample| sample.descriptors as f64);
    // Five that scrape, and one that takes the sample.
    assert!(after <= before + 6.0, "descriptors went from {before} to {after}");
    // All that are there are shown as they are, and none that is not.
    churned.exporter.wait("the queues that are there are shown", |metrics| {
        let lengths = metrics.0.lines().filter(|line| line.starts_with("redis_queue_length{")).count();
        lengths == churned.names.len() && churned.names.iter().all(|name| metrics.of("length", name) == Some(2.0))
    });
}
