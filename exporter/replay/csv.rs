//! Workloads from a CSV file with a header: `time`, and `seconds` (what the job takes), or `jobs` (how many came in the time up to the next line), or
//! both; `worker` where the file holds those of several. A time is a number of seconds, or RFC 3339.

use super::workload::{Job, Workload, fits};
use super::{Micros, micros};
use fastrand::Rng;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::io::Read;

/// The largest number of a line: a year in seconds, and more jobs than are replayed.
const LARGEST: f64 = 31_536_000.0;

/// One line.
struct Line {
    time: f64,
    seconds: Option<f64>,
    jobs: Option<u64>,
}

/// Reads the workloads of those workers in it that are wanted; one without a `worker` column is under `""`. Where a line does not say how long
/// a job takes, `takes` does, given the worker's name.
///
/// # Errors
/// The first fault with its line, and the remedy.
pub fn read(
    text: impl Read,
    wanted: impl Fn(&str) -> bool,
    takes: impl Fn(&str, &mut Rng) -> Option<f64>,
    seed: u64,
) -> Result<BTreeMap<String, Workload>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text);
    let head = reader.headers().map_err(|error| error.to_string())?.clone();
    let column = |name: &str| head.iter().position(|head| head.eq_ignore_ascii_case(name));
    let Some(time) = column("time") else {
        return Err("the first line has no column `time`; it must name the columns, such as time,seconds".into());
    };
    let (worker, seconds, jobs) = (column("worker"), column("seconds"), column("jobs"));
    let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    for (place, record) in reader.records().enumerate() {
        let about = |fault: &str| format!("line {}: {fault}", place + 2);
        let record = record.map_err(|error| about(&error.to_string()))?;
        let field =
            |column: Option<usize>| column.and_then(|column| record.get(column)).filter(|text| !text.is_empty());
        let number = |column: Option<usize>, name: &str| match field(column).map(|text| (text, text.parse::<f64>())) {
            None => Ok(None),
            Some((_, Ok(number))) if (0.0..=LARGEST).contains(&number) => Ok(Some(number)),
            Some((text, _)) => Err(about(&format!("{name} is {text:?}; it must be a number from 0 to {LARGEST}"))),
        };
        let text = field(Some(time)).ok_or_else(|| about("no time"))?;
        let at = parse_time(text).ok_or_else(|| about(&format!("time is {text:?}; it must be seconds or RFC 3339")))?;
        let line = Line {
            time: at,
            seconds: number(seconds, "seconds")?,
            jobs: number(jobs, "jobs")?.map(|jobs| jobs.round() as u64),
        };
        lines.entry(field(worker).unwrap_or_default().into()).or_default().push(line);
    }
    let first = lines.values().flatten().map(|line| line.time).fold(f64::INFINITY, f64::min);
    let mut workloads = BTreeMap::new();
    for (name, mut lines) in lines.into_iter().filter(|(name, _)| wanted(name)) {
        lines.sort_by(|a, b| a.time.total_cmp(&b.time));
        let last = lines.last().map_or(first, |line| line.time);
        fits(lines.iter().map(|line| line.jobs.unwrap_or(1) as f64).sum(), last - first)?;
        let workload = workload(&lines, first, |rng| takes(&name, rng), seed).ok_or_else(|| {
            format!("how long a job takes is not known for worker {name:?}; add a column `seconds`, or jobSeconds to its row")
        })?;
        workloads.insert(name, workload);
    }
    if workloads.is_empty() {
        Err("no line of the workers; there must be one for each job, or for each count".into())
    } else {
        Ok(workloads)
    }
}

fn parse_time(text: &str) -> Option<f64> {
    let seconds = || text.parse::<f64>().ok().filter(|time| time.is_finite());
    seconds().or_else(|| Some(text.parse::<Timestamp>().ok()?.as_microsecond() as f64 / 1e6))
}

fn workload(lines: &[Line], first: f64, takes: impl Fn(&mut Rng) -> Option<f64>, seed: u64) -> Option<Workload> {
    let mut rng = Rng::with_seed(seed);
    // The last count spans as much as the one before it.
    let last = match lines {
        [.., before, last] => last.time - before.time,
        _ => 60.0,
    };
    let ends = lines.iter().skip(1).map(|line| line.time).chain(lines.last().map(|line| line.time + last));
    let mut jobs = Vec::new();
    let mut length: Micros = 0;
    for (line, end) in lines.iter().zip(ends) {
        for _ in 0..line.jobs.unwrap_or(1) {
            // Where there is a count, it is not known when in its time they came.
            let within = if line.jobs.is_some() { rng.f64() * (end - line.time) } else { 0.0 };
            let takes = line.seconds.or_else(|| takes(&mut rng))?;
            jobs.push(Job { at: micros(line.time - first + within), takes: micros(takes).max(1) });
        }
        length = length.max(micros(if line.jobs.is_some() { end - first } else { line.time - first + 1.0 }));
    }
    jobs.sort_by_key(|job| job.at);
    Some(Workload { jobs, length })
}

#[cfg(test)]
mod tests {
    use super::super::SECOND;
    use super::*;

    fn read_text(text: &str) -> Result<BTreeMap<String, Workload>, String> {
        read(text.as_bytes(), |_| true, |name, _| (name != "unknown").then_some(2.0), 1)
    }

    #[test]
    fn jobs_by_line_and_by_count() {
        let found =
            read_text("time,worker,seconds,jobs\n2026-01-01T00:00:00Z,a,1.5,\n2026-01-01T00:01:00Z,b,,3\n").unwrap();
        assert_eq!(found["a"].jobs, [Job { at: 0, takes: 1_500_000 }]);
        let b = &found["b"];
        assert_eq!((b.jobs.len(), b.length), (3, 120 * SECOND));
        assert!(b.jobs.iter().all(|job| (60 * SECOND..120 * SECOND).contains(&job.at) && job.takes == 2 * SECOND));
    }

    #[test]
    fn lines_in_any_order_and_seconds_from_any_start() {
        let found = read_text("Time, Seconds\n1010, 1\n1000, 2\n").unwrap();
        let expected = [Job { at: 0, takes: 2 * SECOND }, Job { at: 10 * SECOND, takes: SECOND }];
        assert_eq!(found[""].jobs, expected);
    }

    #[test]
    fn faults_name_their_line_and_the_remedy() {
        for (text, fault) in [
            ("when\n1\n", "the first line has no column `time`"),
            ("time,seconds\nsoon,1\n", "line 2: time is \"soon\"; it must be seconds or RFC 3339"),
            ("time,seconds\n1,1\n2,-3\n", "line 3: seconds is \"-3\"; it must be a number from 0 to"),
            ("time,seconds\n", "no line of the workers"),
            ("time,worker\n1,unknown\n", "how long a job takes is not known for worker \"unknown\""),
        ] {
            let found = read_text(text).unwrap_err();
            assert!(found.starts_with(fault), "{found}");
        }
    }
}
