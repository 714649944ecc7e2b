//! The reports as one page that loads nothing from elsewhere: a table and two plots for each worker.

use super::outcome::Moment;
use super::report::{Report, duration, share};
use std::fmt::Write as _;

const HEAD: &str = include_str!("page.html");
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 130.0;

/// The page of these reports.
#[must_use]
pub fn page(reports: &[Report]) -> String {
    let mut page = HEAD.to_string();
    for report in reports {
        let _ = write!(
            page,
            "<h2>{}</h2><p>{} jobs of {} on average in {}; each is to be started within {}.</p>",
            escaped(&report.worker),
            report.jobs,
            duration(report.job_seconds),
            duration(report.hours * 3_600.0),
            duration(report.objective)
        );
        rows(report, &mut page);
        let moments = &report.moments;
        let plots: [(&str, &[Line]); 2] = [
            (
                "seconds that the <b class=late>oldest job</b> has waited, and the <b class=limit>objective</b>",
                &[("late", |moment, _| moment.age), ("limit", |_, limit| limit)],
            ),
            (
                "workers <b class=wanted>wanted</b> and <b class=ready>ready</b>",
                &[("wanted", |moment, _| f64::from(moment.wanted)), ("ready", |moment, _| f64::from(moment.ready))],
            ),
        ];
        for (title, lines) in plots {
            plot(title, lines, moments, report.objective, &mut page);
        }
        for assumption in &report.assumptions {
            let _ = write!(page, "<p class=note>{}</p>", escaped(assumption));
        }
    }
    page.push_str("</main></html>\n");
    page
}

fn rows(report: &Report, page: &mut String) {
    page.push_str(
        "<table><thead><tr><th><th>in time<th>half wait<th>95 of 100<th>99 of 100<th>longest<th>worker hours<th>cost<th>idle<th>reversals / h<th>killed</thead><tbody>",
    );
    let most = report.lines.iter().map(|line| line.cost).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    for line in &report.lines {
        let [half, nearly, most_wait, worst] = line.waits.map(duration);
        let class = if line.in_time >= 0.99 { "ok" } else { "bad" };
        let _ = write!(
            page,
            "<tr><th>{}<td class={class}>{}<td>{half}<td>{nearly}<td>{most_wait}<td>{worst}<td>{:.1}<td><meter value={:.4}></meter> {:.3}<td>{:.0}%<td>{:.1}<td>{}",
            escaped(&line.name),
            share(line.in_time),
            line.worker_hours,
            line.cost / most,
            line.cost,
            line.idle * 100.0,
            line.reversals_per_hour,
            line.killed
        );
    }
    if let Some(least) = report.least_cost {
        let _ = write!(
            page,
            "<tr><th>least, if all in time<td class=ok>100.0%<td><td><td><td><td><td><meter value={:.4}></meter> {least:.3}<td><td><td>",
            least / most
        );
    }
    page.push_str("</tbody></table>");
}

/// A line's class, and its value at a moment, given the objective.
type Line = (&'static str, fn(&Moment, f64) -> f64);

fn plot(title: &str, lines: &[Line], moments: &[Moment], objective: f64, page: &mut String) {
    let Some(last) = moments.last() else { return };
    let value = |line: &Line, moment: &Moment| line.1(moment, objective);
    let most = moments.iter().flat_map(|moment| lines.iter().map(move |line| value(line, moment))).fold(1.0, f64::max);
    let _ = write!(
        page,
        "<figure><figcaption>{title}, to {}; {} in all</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=none aria-hidden=true>",
        if most < 1_000.0 { format!("{most:.0}") } else { format!("{:.0} thousand", most / 1_000.0) },
        duration(last.time)
    );
    for line in lines {
        let _ = write!(page, "<polyline class={} points=\"", line.0);
        for moment in moments {
            let (x, y) =
                (moment.time / last.time.max(1.0) * WIDTH, HEIGHT - 2.0 - value(line, moment) / most * (HEIGHT - 6.0));
            let _ = write!(page, "{x:.1},{y:.1} ");
        }
        page.push_str("\"/>");
    }
    page.push_str("</svg></figure>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
