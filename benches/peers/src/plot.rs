//! A drawing of one workload: a bar for each system, its spread as a line across, one panel for each condition.

use std::fmt::Write as _;

use crate::results::{Results, Series};
use crate::text::{rate, time};
use crate::work::{is_limit, is_ours};

const WIDTH: f64 = 760.0;
const BARS_AT: f64 = 150.0;
const BARS_WIDTH: f64 = 390.0;
const ROW: f64 = 22.0;

pub fn draw(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 46.0;
    for (condition, systems) in results.conditions() {
        y = panel(&mut body, y, condition, systems) + 14.0;
    }
    let mut svg = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(
        svg,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="10" y="20" font-size="14" font-weight="bold">{}</text>
<text x="10" y="36" fill="#666666">{} a second; the thin line is the spread of all runs; at the right p50 and p99.9</text>
{body}</svg>"##,
        escape(results.workload.what),
        results.workload.unit,
    );
    svg
}

fn panel(body: &mut String, top: f64, condition: &str, systems: &[(String, Series)]) -> f64 {
    let label = if condition == "free" { "free processors" } else { "all processors busy" };
    let _ = writeln!(body, r##"<text x="10" y="{}" fill="#666666">{label}</text>"##, top + 14.0);
    let mut y = top + 20.0;
    let most = systems.iter().filter_map(|(_, series)| Some(series.of("per_second")?.max)).fold(1e-9, f64::max);
    for (system, series) in systems {
        let color = match system {
            name if is_ours(name) => "#1f77b4",
            name if is_limit(name) => "#bbbbbb",
            _ => "#ff9f4a",
        };
        let middle = y + ROW / 2.0;
        let _ = writeln!(
            body,
            r#"<text x="{}" y="{}" text-anchor="end">{}</text>"#,
            BARS_AT - 8.0,
            middle + 4.0,
            escape(system)
        );
        match series.of("per_second") {
            Some(it) => {
                let scaled = |value: f64| BARS_WIDTH * value / most;
                let _ = writeln!(
                    body,
                    r##"<rect x="{BARS_AT}" y="{:.1}" width="{:.1}" height="{}" fill="{color}"/><line x1="{:.1}" x2="{:.1}" y1="{middle:.1}" y2="{middle:.1}" stroke="#222222"/>"##,
                    y + 3.0,
                    scaled(it.median).max(0.5),
                    ROW - 6.0,
                    BARS_AT + scaled(it.min),
                    BARS_AT + scaled(it.max),
                );
                let latency = |field| series.of(field).map_or(String::new(), |it| time(it.median));
                let _ = writeln!(
                    body,
                    r##"<text x="{:.1}" y="{}">{}</text><text x="{}" y="{}" text-anchor="end" fill="#666666">{} / {}</text>"##,
                    BARS_AT + scaled(it.max) + 6.0,
                    middle + 4.0,
                    rate(it.median),
                    WIDTH - 10.0,
                    middle + 4.0,
                    latency("p50_ns"),
                    latency("p999_ns"),
                );
            }
            None => {
                let why = series.failed().unwrap_or("not measured");
                let _ = writeln!(
                    body,
                    r##"<text x="{BARS_AT}" y="{}" fill="#aa0000">{}</text>"##,
                    middle + 4.0,
                    escape(why)
                );
            }
        }
        y += ROW;
    }
    y
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
