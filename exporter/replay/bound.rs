//! The least that any plan could cost that starts every job within the objective, even one that knows the future: a linear program.
//!
//! Time is cut into bins of length `b`. In each, `n` workers take jobs on average, `u` are added, and by its end `c` seconds of work are
//! done. Least is `sum(n b + start u)`, where
//!
//! - `min <= n <= max`, and what comes in addition is added: `n - n_before <= u`, `0 <= u` (those of the first bin are there already);
//! - no more is done than the workers can: `c - c_before <= n slots b`, and nothing is undone: `0 <= c - c_before`;
//! - what must be over by the end of a bin is done: all work of jobs that came so long before that they must have started within the
//!   objective and ended; and no more is done than has come.
//!
//! Any real schedule that starts all jobs in time gives such numbers (its averages over the bins) at no more than its cost, for
//! a worker is paid while it starts (`start`: the least time that takes), while it takes jobs, and while it leaves. So the optimum is
//! a lower bound of that cost: parts of workers and of jobs, and work done out of order, are allowed here alone. A plan that lets
//! some jobs be late, or that cuts jobs off after they were started, may cost less; and one that has more than `max` workers for a while, for those that leave
//! still work.

use super::workload::Workload;
use super::{Micros, SECOND, seconds};
use clarabel::algebra::CscMatrix;
use clarabel::solver::{DefaultSettingsBuilder, DefaultSolver, IPSolver, NonnegativeConeT, SolverStatus};

/// What the schedule is for.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Workers.
    pub min: f64,
    /// Workers.
    pub max: f64,
    /// Jobs that one runs at once.
    pub slots: f64,
    /// How long a job may wait.
    pub objective: Micros,
    /// The least that a worker takes to start.
    pub start: Micros,
}

/// The program: the least of `costs x` with `rows x <= limits`.
#[derive(Clone, Debug)]
pub struct Program {
    /// One for each variable: `n`, `u`, `c` of each bin.
    pub costs: Vec<f64>,
    /// Row, column, value.
    pub entries: Vec<(usize, usize, f64)>,
    /// One for each row.
    pub limits: Vec<f64>,
}

/// The shortest and the most bins.
const SHORTEST: Micros = 15 * SECOND;
const MOST: u64 = 2_880;

/// The program of a workload over its length and the objective.
#[must_use]
pub fn program(workload: &Workload, limits: Limits) -> Program {
    let end = workload.length + limits.objective;
    let bin = end.div_ceil(MOST).max(SHORTEST);
    let bins = usize::try_from(end.div_ceil(bin)).unwrap_or(usize::MAX);
    let (mut come, mut due) = (vec![0.0; bins], vec![0.0; bins]);
    let add = |totals: &mut Vec<f64>, at: Micros, work: f64| {
        let place = usize::try_from(at / bin).unwrap_or(usize::MAX);
        if let Some(total) = totals.get_mut(place) {
            *total += work;
        }
    };
    for job in &workload.jobs {
        add(&mut come, job.at, seconds(job.takes));
        // Over by the end of the bin in which its last moment is, or one more: whole bins only.
        add(&mut due, job.at + limits.objective + job.takes, seconds(job.takes));
    }
    let length = seconds(bin);
    let mut program = Program { costs: Vec::new(), entries: Vec::new(), limits: Vec::new() };
    let (mut all_come, mut all_due) = (0.0, 0.0);
    for (place, (come, due)) in come.iter().zip(&due).enumerate() {
        all_come += come;
        all_due += due;
        let [workers, added, done] = [3 * place, 3 * place + 1, 3 * place + 2];
        // The last bin may be cut short.
        let length = length.min(seconds(end) - length * place as f64);
        program.costs.extend([length, if place == 0 { 0.0 } else { seconds(limits.start) }, 0.0]);
        let before = |value: f64| (place > 0).then(|| (value, 3 * place - 3, 3 * place - 1));
        let mut row = |entries: &[(usize, f64)], limit: f64| {
            let row = program.limits.len();
            program.entries.extend(entries.iter().map(|(column, value)| (row, *column, *value)));
            program.limits.push(limit);
        };
        row(&[(workers, -1.0)], -limits.min);
        row(&[(workers, 1.0)], limits.max);
        row(&[(added, -1.0)], 0.0);
        let capacity = (workers, -limits.slots * length);
        match before(1.0) {
            Some((one, workers_before, done_before)) => {
                row(&[(workers, one), (workers_before, -one), (added, -1.0)], 0.0);
                row(&[(done, 1.0), (done_before, -1.0), capacity], 0.0);
                row(&[(done, -1.0), (done_before, 1.0)], 0.0);
            }
            None => {
                row(&[(workers, 1.0), (added, -1.0)], limits.min);
                row(&[(done, 1.0), capacity], 0.0);
            }
        }
        row(&[(done, 1.0)], all_come);
        // What is due by the end of the bin before is due for sure: the bin itself holds moments that are later.
        row(&[(done, -1.0)], -(all_due - due));
    }
    program
}

/// What the program comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// At least so many worker-seconds.
    Least(f64),
    /// No schedule within the limits starts all jobs in time.
    Impossible,
    /// The solver gave up.
    Unknown,
}

/// The least, over several workloads; `Impossible` where it is for any of them.
#[must_use]
pub fn bounds(workloads: &[Workload], limits: Limits) -> Bound {
    workloads.iter().map(|workload| bound(workload, limits)).fold(Bound::Least(0.0), |all, next| match (all, next) {
        (Bound::Least(all), Bound::Least(next)) => Bound::Least(all + next),
        (Bound::Impossible, _) | (_, Bound::Impossible) => Bound::Impossible,
        _ => Bound::Unknown,
    })
}

/// Of one workload.
#[must_use]
pub fn bound(workload: &Workload, limits: Limits) -> Bound {
    solve(workload, limits).unwrap_or(Bound::Unknown)
}

fn solve(workload: &Workload, limits: Limits) -> Option<Bound> {
    let program = program(workload, limits);
    let (rows, columns, values) = split(&program.entries);
    let (height, width) = (program.limits.len(), program.costs.len());
    let matrix = CscMatrix::new_from_triplets(height, width, rows, columns, values);
    let settings = DefaultSettingsBuilder::default().verbose(false).max_iter(200).build().ok()?;
    let nothing = CscMatrix::zeros((width, width));
    let cones = [NonnegativeConeT(height)];
    let mut solver = DefaultSolver::new(&nothing, &program.costs, &matrix, &program.limits, &cones, settings).ok()?;
    solver.solve();
    match solver.solution.status {
        // The dual value is the one that bounds from below.
        SolverStatus::Solved => Some(Bound::Least(solver.solution.obj_val_dual.min(solver.solution.obj_val))),
        SolverStatus::PrimalInfeasible => Some(Bound::Impossible),
        _ => None,
    }
}

fn split(entries: &[(usize, usize, f64)]) -> (Vec<usize>, Vec<usize>, Vec<f64>) {
    let rows = entries.iter().map(|(row, ..)| *row).collect();
    let columns = entries.iter().map(|(_, column, _)| *column).collect();
    (rows, columns, entries.iter().map(|(.., value)| *value).collect())
}

#[cfg(test)]
mod tests {
    use super::super::workload::{Job, SHAPES, Scale};
    use super::*;

    const LIMITS: Limits = Limits { min: 1.0, max: 10.0, slots: 1.0, objective: 120 * SECOND, start: 20 * SECOND };

    fn at_once(jobs: u64, takes: u64) -> Workload {
        let jobs = (0..jobs).map(|_| Job { at: 600 * SECOND, takes: takes * SECOND }).collect();
        Workload { jobs, length: 1_800 * SECOND }
    }

    fn least(workload: &Workload) -> f64 {
        match bound(workload, LIMITS) {
            Bound::Least(least) => least,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_end_of_a_bin_that_is_cut_short_is_not_paid() {
        let nothing = Workload { jobs: Vec::new(), length: 100 * SECOND };
        assert!((least(&nothing) - 220.0).abs() < 0.01, "{}", least(&nothing));
    }

    #[test]
    fn nothing_to_do_costs_the_fewest_workers() {
        let found = least(&at_once(0, 1));
        assert!((found - 1_920.0).abs() < 0.01, "{found}");
    }

    #[test]
    fn a_burst_costs_the_workers_that_it_needs_and_their_starts() {
        // 600 s of work, over by 130 s after it came, in bins of 15 s: within 9 bins more than 4 are needed.
        let found = least(&at_once(60, 10));
        let needed: f64 = 600.0 / 135.0;
        let least = 1_920.0 + (needed - 1.0) * (20.0 + 135.0);
        assert!((found - least).abs() < 0.05 * (needed - 1.0) * 155.0, "{found}, not {least}");
    }

    #[test]
    fn what_no_plan_can_do_has_no_bound() {
        assert_eq!(bound(&at_once(600, 10), LIMITS), Bound::Impossible);
    }

    #[test]
    fn no_fixed_number_that_is_in_time_costs_less() {
        for shape in SHAPES {
            let scale = Scale { job_seconds: 2.0, slots: 10.0, objective: 120.0, seconds: 3_600.0 };
            let workload = shape.workload(scale, 5);
            let found = least(&workload);
            assert!(found <= 10.0 * 3_720.0 + 9.0 * 20.0 && found >= workload.work() * 0.9, "{shape:?}: {found}");
        }
    }
}
