//! The arguments of `queue-exporter replay` and `queue-exporter tune`.

use super::report::Terms;
use super::simulate::Around;
use super::table::Cluster;
use super::workload::{SHAPES, Shape};
use super::{Micros, SECOND, micros};
use crate::config::parse_duration;
use lexopt::Parser;
use lexopt::prelude::{Long, ValueExt};
use std::path::{Path, PathBuf};

/// What `queue-exporter replay --help` says.
pub const HELP: &str = "\
queue-exporter replay says what the chart's table of workers would have cost under a load, in money and in late jobs, beside other ways to
scale and the least that any could cost. queue-exporter tune looks for a better table.

Usage: queue-exporter replay [--values FILE] LOAD [OPTION...]
       queue-exporter tune   [--values FILE] LOAD [OPTION...]

  --values FILE       what you give helm with --values, as often; the chart's own table unless set
  --worker NAME       this worker only; may be given more than once

The load, one of:
  --shape NAME        flat, diurnal, steps, bursts, ramp, drift, batches, or mixed for one after another; made for each worker's
                      maximum and jobSeconds
      --hours N       how long it is: 6
      --seed N        another one of the same kind: 1
  --csv FILE          a line for each job or count: time,seconds or time,jobs; a column worker where there are several
  --prometheus URL    what it kept of this exporter's series; the queue's label is the worker's name
      --days N        as long ago as this: 7
      --match TEXT    more matchers for its series, such as namespace='jobs'
      --header-file F a file with a line to send along, such as Authorization: Bearer ...

What is around it:
  --start 20s..60s    from a pod's creation until it takes jobs: with its image, and a node for it
  --lag 0s            how old what KEDA reads is          --scrape 5s  how often Prometheus scrapes, with trigger: prometheus
  --kubernetes 1.35   before 1.35 an HPA leaves the last tenth alone
  --busy-cpu 1.0      the share of its CPU request that a busy worker uses; cpuUtilization is left out unless set
  --spot-losses 0.05  how often an hour a spot node is called back: 0

  --output table      or json                             --page FILE  replay: writes a page with plots
  --keep-busy         tune: busy workers are kept; else inFlight: false is tried where each job ends within the grace period
";

/// Where the jobs come from.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields: see the help
pub enum Load {
    /// Made.
    Shape { shape: Shape, hours: f64 },
    /// Read from a file.
    Csv(PathBuf),
    /// Asked of a Prometheus.
    Prometheus { url: String, days: f64, matchers: Option<String>, header: Option<(String, String)> },
}

/// All arguments.
#[derive(Clone, Debug)]
pub struct Options {
    /// What helm is given, each on top of the ones before.
    pub values: Vec<PathBuf>,
    /// These workers; all where there is none.
    pub workers: Vec<String>,
    /// Where the jobs come from.
    pub load: Load,
    /// Chooses what is left to chance.
    pub seed: u64,
    /// What it is replayed with.
    pub terms: Terms,
    /// Tune: busy workers are kept, whatever that costs.
    pub keep_busy: bool,
    /// JSON instead of a table.
    pub json: bool,
    /// Where a page goes.
    pub page: Option<PathBuf>,
}

impl Options {
    /// Reads them; `None` where help is asked for.
    ///
    /// # Errors
    /// The first fault, which names the option and the remedy.
    pub fn parse(arguments: &mut Parser) -> Result<Option<Self>, lexopt::Error> {
        let (mut shape, mut csv, mut prometheus) = (None, None, None);
        let (mut hours, mut days, mut matchers, mut header) = (None, None, None, None);
        let mut options = Self {
            values: Vec::new(),
            workers: Vec::new(),
            load: Load::Csv(PathBuf::new()),
            seed: 1,
            terms: Terms { around: Around::default(), cluster: Cluster { tolerance_is_set: true, busy_cpu: None } },
            keep_busy: false,
            json: false,
            page: None,
        };
        let Terms { around, cluster } = &mut options.terms;
        while let Some(argument) = arguments.next()? {
            match argument {
                Long("help") | lexopt::Arg::Short('h') => return Ok(None),
                Long("values") => options.values.push(arguments.value()?.into()),
                Long("worker") => options.workers.push(arguments.value()?.string()?),
                Long("shape") => shape = Some(shape_named(&arguments.value()?.string()?)?),
                Long("hours") => hours = Some(number(arguments, "--hours", 0.1, 24.0 * 366.0)?),
                Long("seed") => options.seed = number(arguments, "--seed", 0.0, 1e9)? as u64,
                Long("csv") => csv = Some(arguments.value()?.into()),
                Long("prometheus") => prometheus = Some(arguments.value()?.string()?),
                Long("days") => days = Some(number(arguments, "--days", 0.04, 366.0)?),
                Long("match") => matchers = Some(arguments.value()?.string()?),
                Long("header-file") => header = Some(header_of(&PathBuf::from(arguments.value()?))?),
                Long("start") => around.start = range(&arguments.value()?.string()?)?,
                Long("scrape") => around.scrape = time(arguments, "--scrape")?.max(SECOND / 10),
                Long("lag") => around.lag = time(arguments, "--lag")?,
                Long("kubernetes") => cluster.tolerance_is_set = is_135(&arguments.value()?.string()?)?,
                Long("busy-cpu") => cluster.busy_cpu = Some(number(arguments, "--busy-cpu", 0.01, 100.0)?),
                Long("spot-losses") => around.losses_per_hour = number(arguments, "--spot-losses", 0.0, 100.0)?,
                Long("output") => {
                    options.json = match arguments.value()?.string()?.as_str() {
                        "table" => false,
                        "json" => true,
                        other => return Err(format!("--output is {other:?}; it must be table or json").into()),
                    }
                }
                Long("keep-busy") => options.keep_busy = true,
                Long("page") => options.page = Some(arguments.value()?.into()),
                other => return Err(other.unexpected()),
            }
        }
        around.seed = options.seed;
        options.load = match (shape, csv, prometheus) {
            (Some(shape), None, None) => Load::Shape { shape, hours: hours.unwrap_or(6.0) },
            (None, Some(file), None) => Load::Csv(file),
            (None, None, Some(url)) => {
                let (days, matchers, header) = (days.unwrap_or(7.0), matchers.clone(), header.clone());
                Load::Prometheus { url: plain(url)?, days, matchers, header }
            }
            _ => return Err("no load, or more than one; give one of --shape, --csv and --prometheus".into()),
        };
        let of_shape = hours.is_some() && !matches!(options.load, Load::Shape { .. });
        let of_prometheus = (days.is_some() || matchers.is_some() || header.is_some())
            && !matches!(options.load, Load::Prometheus { .. });
        if of_shape || of_prometheus {
            return Err(
                "--hours goes with --shape, and --days, --match and --header-file with --prometheus; leave it out"
                    .into(),
            );
        }
        Ok(Some(options))
    }
}

fn shape_named(name: &str) -> Result<Shape, String> {
    let all = || SHAPES.into_iter().chain([Shape::Mixed]);
    let names = all().map(Shape::name).collect::<Vec<_>>().join(", ");
    all().find(|shape| shape.name() == name).ok_or(format!("--shape is {name:?}; it must be one of {names}"))
}

fn number(arguments: &mut Parser, name: &str, least: f64, most: f64) -> Result<f64, lexopt::Error> {
    let text = arguments.value()?.string()?;
    let number = text.parse().ok().filter(|number: &f64| (least..=most).contains(number));
    number.ok_or_else(|| format!("{name} is {text:?}; it must be a number from {least} to {most}").into())
}

fn time(arguments: &mut Parser, name: &str) -> Result<Micros, lexopt::Error> {
    let text = arguments.value()?.string()?;
    duration(&text).ok_or_else(|| format!("{name} is {text:?}; it must be a duration with a unit, such as 5s").into())
}

fn duration(text: &str) -> Option<Micros> {
    if text == "0s" { Some(0) } else { parse_duration(text).map(|time| micros(time.as_secs_f64())) }
}

fn range(text: &str) -> Result<(Micros, Micros), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let both = duration(least).zip(duration(most)).filter(|(least, most)| least <= most);
    both.ok_or(format!("--start is {text:?}; it must be a duration or two, such as 20s..60s"))
}

fn is_135(text: &str) -> Result<bool, String> {
    let mut parts = text.trim_start_matches('v').split('.').map(str::parse::<u64>);
    match (parts.next(), parts.next()) {
        (Some(Ok(1)), Some(Ok(minor))) => Ok(minor >= 35),
        _ => Err(format!("--kubernetes is {text:?}; it must be a version, such as 1.35")),
    }
}

/// Without a name and password, which would be in every message.
fn plain(url: String) -> Result<String, String> {
    let authority = url.split("//").nth(1).and_then(|rest| rest.split('/').next()).unwrap_or_default();
    if authority.contains('@') {
        return Err(
            "--prometheus holds a name or password; give them with --header-file, as Authorization: Basic ...".into()
        );
    }
    Ok(url)
}

fn header_of(path: &Path) -> Result<(String, String), String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("--header-file: can't read {}: {error}", path.display()))?;
    let both = text.trim().split_once(':').map(|(name, value)| (name.trim().to_string(), value.trim().to_string()));
    // Not repeated: it may hold a secret.
    both.ok_or("--header-file holds no colon; write NAME: VALUE".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Options, String> {
        let mut parser = Parser::from_args(text.split_whitespace());
        Options::parse(&mut parser).map(|options| options.unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn all_options() {
        let options = parse(
            "--values v.yaml --worker a --worker b --shape bursts --hours 12 --seed 3 --start 10s..2m --scrape 15s --lag 30s \
             --kubernetes 1.34.2 --busy-cpu 0.8 --output json --page p.html",
        )
        .unwrap();
        assert_eq!(options.load, Load::Shape { shape: Shape::Bursts, hours: 12.0 });
        assert_eq!((options.terms.around.start, options.terms.around.lag), ((10_000_000, 120_000_000), 30_000_000));
        assert_eq!((options.terms.cluster.tolerance_is_set, options.terms.around.seed, options.json), (false, 3, true));
    }

    #[test]
    fn faults_name_the_option_and_the_remedy() {
        for (text, fault) in [
            ("", "no load, or more than one; give one of --shape, --csv and --prometheus"),
            ("--shape flat --csv x", "no load, or more than one"),
            ("--shape round", "--shape is \"round\"; it must be one of flat"),
            ("--shape flat --hours many", "--hours is \"many\"; it must be a number"),
            ("--shape flat --start 60s..20s", "--start is \"60s..20s\"; it must be a duration or two"),
            ("--shape flat --kubernetes new", "--kubernetes is \"new\"; it must be a version"),
            ("--prometheus http://x --header-file /nowhere", "--header-file: can't read /nowhere"),
            ("--prometheus http://me:secret@x", "--prometheus holds a name or password; give them with --header-file"),
            ("--csv x --hours 3", "--hours goes with --shape"),
        ] {
            let found = parse(text).unwrap_err();
            assert!(found.starts_with(fault), "{found}");
        }
    }
}
