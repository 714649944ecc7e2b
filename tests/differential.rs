//! Every layout against a model that knows each job: random histories of what the libraries' producers and workers say to a real
//! Redis, with looks of the exporter between, and its connection cut now and then. What is published must be true.
//!
//! A failure prints its seed, the history cut down to what is needed, and the difference. `DIFFERENTIAL_HISTORIES` says how many
//! histories are run, `DIFFERENTIAL_SEED` the seed of the first.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "differential/mod.rs"]
mod differential;
mod support;

use differential::history::{generate, shrink};
use differential::run::{Bed, Seen, queues, run};
use differential::world::Wire;
use queue_exporter::metrics::Stats;
use std::sync::Arc;
use std::time::Instant;
use support::Redis;

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn what_is_published_is_true_of_every_layout_whatever_its_workers_do() {
    let (histories, first) = (variable("DIFFERENTIAL_HISTORIES", 2_000), variable("DIFFERENTIAL_SEED", 1));
    let redis = Redis::start();
    let mut bed = Bed {
        url: redis.url(),
        wire: Arc::new(Wire::new(redis.connect())),
        runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        stats: Stats::new(queues(), 0).unwrap(),
        seen: Seen::default(),
    };
    println!("{histories} histories from seed {first}");
    let start = Instant::now();
    for seed in first..first + histories {
        let history = generate(seed, queues());
        if let Err(failure) = run(&mut bed, &history) {
            println!(
                "seed {seed}, {:.1} s: {}\nshrinking {} steps",
                start.elapsed().as_secs_f64(),
                failure.text,
                history.len()
            );
            let fails = |bed: &mut Bed, history: &[_]| run(bed, history).is_err_and(|other| other.kind == failure.kind);
            let short = shrink(history, |history| fails(&mut bed, history));
            let steps: Vec<String> = short.iter().map(|step| format!("  {step:?}")).collect();
            let again =
                run(&mut bed, &short).err().map_or_else(|| "it is true when run again".into(), |failure| failure.text);
            panic!("seed {seed}, cut down to {} steps:\n{}\n{again}", short.len(), steps.join("\n"));
        }
    }
    println!("{:.1} s\n{}", start.elapsed().as_secs_f64(), bed.seen);
}
