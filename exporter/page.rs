//! `/`: one small page for people. It loads nothing from elsewhere, follows the reader's light or dark setting, and renews
//! itself every two seconds by fetching itself; without scripts it is renewed by hand.

use crate::curve::Age;
use crate::snapshot::{Row, Snapshot, Trace};
use std::fmt::Write as _;

/// The content security policy: inline style and script, and nothing from anywhere else.
pub const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                          img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Queues shown at most: a page of more is of no use to anyone, and `/metrics` has all.
const SHOWN: usize = 500;
const WIDTH: f64 = 120.0;
const HEIGHT: f64 = 24.0;

/// The page of a snapshot. Queues with a problem come first, then as configured.
#[must_use]
pub fn render(snapshot: &Snapshot) -> String {
    let mut page = String::from(HEAD);
    let waiting: u64 = snapshot.rows.iter().filter_map(|row| row.reading.as_ref()?.backlog()).sum();
    let in_flight: u64 = snapshot.rows.iter().filter_map(|row| row.reading.as_ref()?.seen.in_flight).sum();
    let ill = snapshot.rows.iter().filter(|row| row.problem.is_some()).count();
    let state = match (snapshot.polled, snapshot.redis_up) {
        (false, _) => ("wait", "the first poll is under way"),
        (true, true) => ("ok", "Redis answers"),
        (true, false) => ("bad", "Redis does not answer"),
    };
    let _ = write!(
        page,
        "<main><p class=state><span class={}>{}</span> · {} queues · {} waiting · {} in flight{}</p>",
        state.0,
        state.1,
        snapshot.rows.len(),
        grouped(waiting),
        grouped(in_flight),
        if ill == 0 { String::new() } else { format!(" · <span class=bad>{ill} with a problem</span>") }
    );
    page.push_str(
        "<table><thead><tr><th>queue<th>layout<th>waiting<th>in flight<th>delayed<th>oldest waits<th>in / s<th>done / s\
         <th>last 5 minutes</thead><tbody>",
    );
    let (troubled, well): (Vec<&Row>, Vec<&Row>) = snapshot.rows.iter().partition(|row| row.problem.is_some());
    for row in troubled.into_iter().chain(well).take(SHOWN) {
        write_row(row, &mut page);
    }
    page.push_str("</tbody></table>");
    if snapshot.rows.len() > SHOWN {
        let _ = write!(page, "<p>{} more are in <a href=metrics>/metrics</a>.</p>", snapshot.rows.len() - SHOWN);
    }
    page.push_str(FOOT);
    page
}

fn write_row(row: &Row, page: &mut String) {
    let seen = row.reading.as_ref().map(|reading| reading.seen);
    let totals = row.reading.as_ref().map(|reading| reading.totals);
    let backlog = row.reading.as_ref().and_then(|reading| reading.backlog());
    let delayed = seen.and_then(|seen| match (seen.delayed, seen.retrying) {
        (None, None) => None,
        (delayed, retrying) => Some(delayed.unwrap_or(0) + retrying.unwrap_or(0)),
    });
    page.push_str(if row.reading.is_some() { "<tr>" } else { "<tr class=off>" });
    page.push_str("<th scope=row>");
    write_escaped(&row.id.label, page);
    let _ = write!(page, "<td>{}", row.id.layout);
    for count in [backlog, seen.and_then(|seen| seen.in_flight), delayed] {
        let _ = write!(page, "<td class=n>{}", count.map_or_else(|| DASH.into(), grouped));
    }
    let _ = write!(page, "<td class=n>{}", age(seen.map_or(Age::Unknown, |seen| seen.age)));
    for rate in [totals.and_then(|totals| totals.arrival_rate), totals.and_then(|totals| totals.processing_rate)] {
        let _ = write!(page, "<td class=n>{}", rate.map_or_else(|| DASH.into(), |rate| format!("{rate:.1}")));
    }
    page.push_str("<td>");
    write_sparkline(&row.trace, page);
    if let Some(problem) = &row.problem {
        page.push_str("<tr class=problem><td colspan=9>");
        write_escaped(problem, page);
    }
}

/// What stands for a number that can't be known.
const DASH: &str = "<span class=none title=\"can't be known\">–</span>";

fn age(age: Age) -> String {
    match age {
        Age::Known { seconds, error } if error >= 0.05 => format!("{} <small>±{error:.1} s</small>", span(seconds)),
        Age::Known { seconds, .. } => span(seconds),
        Age::AtLeast(seconds) => format!("<small>at least</small> {}", span(seconds)),
        Age::Unknown => DASH.into(),
    }
}

/// A time in the two units that say most.
fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3_600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3_600..86_400 => format!("{} h {:02} min", whole / 3_600, whole % 3_600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3_600),
    }
}

/// A number with a thin space at every thousand.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

fn write_escaped(text: &str, page: &mut String) {
    for character in text.chars() {
        match character {
            '&' => page.push_str("&amp;"),
            '<' => page.push_str("&lt;"),
            '>' => page.push_str("&gt;"),
            other => page.push(other),
        }
    }
}

/// The backlog as a line from 0 to its highest point; where nothing could be read the line is broken.
fn write_sparkline(trace: &Trace, page: &mut String) {
    let points: Vec<Option<u32>> = trace.points().collect();
    let highest = f64::from(points.iter().copied().flatten().max().unwrap_or(0).max(1));
    let step = WIDTH / (Trace::POINTS - 1) as f64;
    let offset = Trace::POINTS - points.len();
    let mut path = String::new();
    let mut broken = true;
    for (index, point) in points.iter().enumerate() {
        match point {
            Some(value) => {
                let (x, y) =
                    ((index + offset) as f64 * step, HEIGHT - 1.0 - f64::from(*value) / highest * (HEIGHT - 2.0));
                let _ = write!(path, "{}{x:.1} {y:.1}", if broken { 'M' } else { 'L' });
                broken = false;
            }
            None => broken = true,
        }
    }
    let _ = write!(
        page,
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"waiting, at most {highest}\"><title>at most \
         {highest}</title><path d=\"{path}\"/></svg>"
    );
}

const HEAD: &str = r#"<!doctype html>
<html lang=en>
<meta charset=utf-8>
<meta name=viewport content="width=device-width, initial-scale=1">
<meta name=color-scheme content="light dark">
<title>queue-exporter</title>
<link rel=icon href="data:,">
<style>
:root { --ink: #1b1f24; --soft: #59636e; --line: #d8dee4; --paper: #fff; --bad: #b42318; --ok: #1a7f37; --mark: #0b63c5 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --soft: #9198a1; --line: #30363d; --paper: #0d1117; --bad: #ff8078; --ok: #4fca68; --mark: #62b0ff }
}
body { margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink); background: var(--paper);
  font: 15px/1.45 system-ui, sans-serif }
h1 { font-size: 1.25rem; margin: 0 }
.state { color: var(--soft); margin: .25rem 0 1rem }
.ok { color: var(--ok) } .bad { color: var(--bad); font-weight: 600 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .6rem; border-top: 1px solid var(--line); white-space: nowrap }
thead th { border: 0; color: var(--soft); font-weight: 500; font-size: .85rem; position: sticky; top: 0; background: var(--paper) }
tbody th { font-weight: 600; white-space: normal; overflow-wrap: anywhere }
thead th:nth-child(n+3):nth-child(-n+8), .n { text-align: right; font-variant-numeric: tabular-nums }
small, .none { color: var(--soft) }
.off th, .off td { color: var(--soft) }
.problem td { border: 0; padding-top: 0; color: var(--bad); white-space: normal }
svg { width: 120px; height: 24px; display: block }
path { fill: none; stroke: var(--mark); stroke-width: 1.5; vector-effect: non-scaling-stroke }
a { color: var(--mark) }
#lost { color: var(--bad); font-weight: 600 }
</style>
<h1>queue-exporter</h1>
<p id=lost hidden>The exporter does not answer; what stands here is old.</p>
"#;

const FOOT: &str = r#"<p><small>A – stands for what can't be known. <a href=metrics>/metrics</a></small></p></main>
<script>
setInterval(async () => {
  if (document.hidden) return;
  const lost = document.getElementById("lost");
  try {
    const page = await (await fetch(location.pathname, { signal: AbortSignal.timeout(5000) })).text();
    const fresh = new DOMParser().parseFromString(page, "text/html").querySelector("main");
    document.querySelector("main").replaceWith(fresh);
    lost.hidden = true;
  } catch { lost.hidden = false; }
}, 2000);
</script>
</html>
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_two_units() {
        let told: Vec<String> = [0.0, 59.94, 61.0, 3_661.0, 90_000.0].into_iter().map(span).collect();
        assert_eq!(told, ["0.0 s", "59.9 s", "1 min 01 s", "1 h 01 min", "1 d 1 h"]);
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }

    #[test]
    fn names_and_errors_can_hold_no_markup() {
        let mut page = String::new();
        write_escaped("<script>&", &mut page);
        assert_eq!(page, "&lt;script&gt;&amp;");
    }
}
