//! A self-contained HTML page with a chart for each row.

use std::fmt::Write;

use crate::report::Figure;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1b}\
section{border-top:1px solid #ddd;padding:1rem 0}h2{margin:0;font-size:1.1rem}.ok{color:#17743a}.bad{color:#b3261e}\
pre{background:#f5f5f5;padding:.7rem;overflow:auto;font-size:12px}svg{display:block;margin:.6rem 0}";
const WIDTH: f64 = 640.0;

/// Returns the page of a run.
pub(crate) fn page(figures: &[Figure], is_comparable: bool, about: &str) -> String {
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Cuponera bench</title><style>{STYLE}</style>\
         <h1>Cuponera bench</h1><p>{}</p>",
        escape(about)
    );
    for figure in figures {
        section(&mut page, figure, is_comparable);
    }
    page
}

fn section(page: &mut String, figure: &Figure, is_comparable: bool) {
    let (class, verdict) = match (figure.is_ok(is_comparable), figure.is_not_yet) {
        (true, _) => ("ok", "ok"),
        (false, true) => ("bad", "not yet"),
        (false, false) => ("bad", "failed"),
    };
    let kind = if figure.is_bound { figure.unit } else { "ratio to the yardstick" };
    let (name, value, spread) = (figure.name, figure.value(), figure.spread());
    let _ = write!(
        page,
        "<section><h2>{name} <span class={class}>{verdict}</span></h2><p>{}: <b>{value:.2}</b> {kind}, spread {spread:.2}, \
         floor {}, aim {}</p>{}",
        escape(figure.ours_is),
        figure.floor,
        figure.aim,
        chart(figure)
    );
    if let Some(yardstick) = figure.yardstick() {
        let (ours, unit) = (figure.ours(), figure.unit);
        let _ = write!(
            page,
            "<p>Ours {ours:.2} {unit}, the yardstick {yardstick:.2} {unit}:</p><pre>{}</pre>",
            escape(figure.yardstick_is)
        );
    }
    page.push_str("</section>");
}

/// A bar for each round, and lines at floor and aim.
fn chart(figure: &Figure) -> String {
    let most = figure.values.iter().copied().fold(figure.floor.max(figure.aim), f64::max) * 1.1;
    let x = |value: f64| value / most * WIDTH;
    let height = 22.0 * f64::from(u32::try_from(figure.values.len()).unwrap_or(u32::MAX)) + 18.0;
    let mut svg =
        format!("<svg width=\"{WIDTH}\" height=\"{height}\" role=\"img\" aria-label=\"{}\">", figure.name);
    for (place, value) in (0_u32..).zip(&figure.values) {
        let y = 22.0 * f64::from(place) + 16.0;
        let _ = write!(
            svg,
            "<rect x=\"0\" y=\"{y}\" width=\"{:.1}\" height=\"18\" fill=\"#5b8def\"/><text x=\"4\" y=\"{}\" font-size=\"12\" \
             fill=\"#fff\">{value:.2}</text>",
            x(*value),
            y + 13.0
        );
    }
    for (name, value, color) in [("floor", figure.floor, "#b3261e"), ("aim", figure.aim, "#17743a")] {
        let at = x(value);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"14\" y2=\"{height}\" stroke=\"{color}\" stroke-width=\"2\"/>\
             <text x=\"{at:.1}\" y=\"11\" font-size=\"11\" text-anchor=\"middle\" fill=\"{color}\">{name}</text>"
        );
    }
    svg.push_str("</svg>");
    svg
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
