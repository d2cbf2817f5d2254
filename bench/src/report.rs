//! The results: medians, spreads and verdicts, as a table and as JSON, compared with the committed figures
//! of docs/bench.md.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::Result;
use crate::row::{Round, Row};

/// The document with the table of floors, marks and last figures.
pub(crate) const COMMITTED: &str = include_str!("../../docs/bench.md");

/// A row of the table in docs/bench.md.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Committed {
    /// Floor and aim in the document.
    limits: (f64, f64),
    /// The last figure and its spread; `None` before the first measurement.
    pub(crate) last: Option<(f64, f64)>,
    /// The row is marked "not yet": it may be below its floor.
    pub(crate) is_not_yet: bool,
}

/// The rows of the table by name.
pub(crate) fn committed(document: &str) -> Result<HashMap<String, Committed>> {
    let section = document.split("\n## ").find(|section| section.starts_with("Floors and figures"));
    let section = section.ok_or("docs/bench.md has no section Floors and figures")?;
    let mut rows = HashMap::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _unit, floor, aim, last, spread, mark] = cells[..] else {
            return Err(format!("docs/bench.md: a row does not have 7 cells: {line}").into());
        };
        let last = if last.is_empty() { None } else { Some((last.parse()?, spread.parse()?)) };
        let row = Committed { limits: (floor.parse()?, aim.parse()?), last, is_not_yet: mark == "not yet" };
        rows.insert(name.trim_matches('`').to_owned(), row);
    }
    Ok(rows)
}

/// Finds a row of the program in the document. Fails if its floor or aim differs.
pub(crate) fn committed_of<'a>(rows: &'a HashMap<String, Committed>, row: &Row) -> Result<&'a Committed> {
    let found = rows.get(row.name).ok_or_else(|| format!("docs/bench.md has no row {}", row.name))?;
    if found.limits == (row.floor, row.aim) {
        return Ok(found);
    }
    Err(format!("docs/bench.md and the program have different floors or aims for {}", row.name).into())
}

/// A measured row.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) ours_is: &'static str,
    pub(crate) yardstick_is: &'static str,
    pub(crate) is_bound: bool,
    pub(crate) floor: f64,
    pub(crate) aim: f64,
    pub(crate) last: Option<(f64, f64)>,
    pub(crate) is_not_yet: bool,
    pub(crate) rounds: Vec<Round>,
    /// The ratio of each round; for bounds, our figure.
    pub(crate) values: Vec<f64>,
}

impl Figure {
    pub(crate) fn of(row: &Row, committed: &Committed, rounds: Vec<Round>) -> Self {
        let value = |round: &Round| {
            round.yardstick.map_or(round.ours, |yardstick| row.unit.ratio(round.ours, yardstick))
        };
        Self {
            name: row.name,
            unit: row.unit.name(),
            ours_is: row.ours,
            yardstick_is: row.yardstick,
            is_bound: row.is_bound(),
            floor: row.floor,
            aim: row.aim,
            last: committed.last,
            is_not_yet: committed.is_not_yet,
            values: rounds.iter().map(value).collect(),
            rounds,
        }
    }

    pub(crate) fn ours(&self) -> f64 {
        median(self.rounds.iter().map(|round| round.ours))
    }

    pub(crate) fn yardstick(&self) -> Option<f64> {
        (!self.is_bound).then(|| median(self.rounds.iter().filter_map(|round| round.yardstick)))
    }

    /// The value to compare with the floor: the median ratio; for bounds, our median figure.
    pub(crate) fn value(&self) -> f64 {
        median(self.values.iter().copied())
    }

    /// The difference between the best and the worst round.
    pub(crate) fn spread(&self) -> f64 {
        let most = self.values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most - self.values.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Whether the figure reaches its floor. If the sizes are comparable, it must also be no worse than the
    /// committed figure by more than the spread.
    pub(crate) fn is_ok(&self, is_comparable: bool) -> bool {
        let reaches = |limit: f64| if self.is_bound { self.value() <= limit } else { self.value() >= limit };
        let no_worse = self
            .last
            .is_none_or(|(last, spread)| reaches(if self.is_bound { last + spread } else { last - spread }));
        reaches(self.floor) && (no_worse || !is_comparable)
    }

    pub(crate) fn json(&self, is_comparable: bool) -> Value {
        json!({
            "name": self.name,
            "ours": rounded(self.ours()),
            "yardstick": self.yardstick().map(rounded),
            "ratio": (!self.is_bound).then(|| rounded(self.value())),
            "spread": rounded(self.spread()),
            "floor": self.floor,
            "aim": self.aim,
            "unit": self.unit,
            "rounds": self.rounds.len(),
            "ok": self.is_ok(is_comparable),
        })
    }

    /// The row's line of the table.
    pub(crate) fn line(&self, is_comparable: bool) -> String {
        let ours = format!("{:.2} {}", self.ours(), self.unit);
        let yardstick = self.yardstick().map_or_else(String::new, |it| format!("{it:.2} {}", self.unit));
        let ratio = if self.is_bound { String::new() } else { format!("{:.2}", self.value()) };
        let verdict = match (self.is_ok(is_comparable), self.is_not_yet) {
            (true, _) => "ok",
            (false, true) => "not yet",
            (false, false) => "FAILED",
        };
        format!(
            "{:<15}{ours:>16}{yardstick:>16}{ratio:>8}{:>8.2}{:>8}{:>8}  {verdict}",
            self.name,
            self.spread(),
            self.floor,
            self.aim
        )
    }
}

pub(crate) const HEAD: &str =
    "row                        ours       yardstick   ratio  spread   floor     aim  verdict";

/// The median of some figures.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    match figures.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => figures[odd / 2],
        even => f64::midpoint(figures[even / 2 - 1], figures[even / 2]),
    }
}

fn rounded(figure: f64) -> f64 {
    (figure * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn figure(values: &[f64], is_bound: bool, last: Option<(f64, f64)>) -> Figure {
        let round = |value: &f64| Round { ours: *value, yardstick: (!is_bound).then_some(1.0) };
        let rounds: Vec<Round> = values.iter().map(round).collect();
        Figure {
            name: "some",
            unit: "/s",
            ours_is: "",
            yardstick_is: "",
            is_bound,
            floor: 0.8,
            aim: 1.2,
            last,
            is_not_yet: false,
            rounds,
            values: values.to_vec(),
        }
    }

    #[test]
    fn the_document_has_each_row_with_the_floor_and_aim_of_the_program() {
        let committed = committed(COMMITTED).unwrap();
        for row in ROWS {
            committed_of(&committed, row).unwrap();
        }
        assert_eq!(committed.len(), ROWS.len(), "docs/bench.md has a row that the program does not measure");
    }

    /// Floor and aim of each row by the project's performance targets: on two cores, including load
    /// generator and Postgres.
    const TARGETS: &[(&str, f64, f64)] = &[
        ("lock", 0.8, 1.2),
        ("redeem", 0.8, 1.2),
        ("assign_random", 0.8, 1.2),
        ("p99", 60.0, 20.0),
        ("poll", 0.5, 0.8),
        ("generate", 0.7, 1.0),
        ("import", 0.6, 0.8),
        ("import_holders", 0.5, 0.8),
        ("distribute", 0.5, 0.8),
        ("export", 0.2, 0.5),
        ("assign_flat", 0.8, 0.95),
        ("lists_flat", 0.67, 0.9),
        ("memory_worker", 256.0, 128.0),
        ("memory_upload", 128.0, 64.0),
        ("start", 5.0, 2.0),
    ];

    #[test]
    fn no_row_asks_for_less_than_its_target() {
        let committed = committed(COMMITTED).unwrap();
        for (name, floor, aim) in TARGETS {
            assert_eq!(committed[*name].limits, (*floor, *aim), "docs/bench.md, {name}");
        }
    }

    #[test]
    fn a_ratio_below_its_floor_fails_and_so_does_one_that_fell_by_more_than_its_spread() {
        assert!(figure(&[0.9, 0.85, 1.0], false, None).is_ok(true));
        assert!(!figure(&[0.7, 0.7, 1.0], false, None).is_ok(true));
        assert!(figure(&[0.95], false, Some((1.0, 0.1))).is_ok(true));
        assert!(!figure(&[0.85], false, Some((1.0, 0.1))).is_ok(true));
        assert!(
            figure(&[0.85], false, Some((1.0, 0.1))).is_ok(false),
            "figures of other sizes are not compared"
        );
    }

    #[test]
    fn a_bound_fails_above_its_floor() {
        assert!(figure(&[0.7], true, None).is_ok(true));
        assert!(!figure(&[0.9], true, None).is_ok(true));
        assert!(!figure(&[0.7], true, Some((0.5, 0.1))).is_ok(true));
    }

    #[test]
    fn the_spread_is_between_the_best_and_the_worst_round() {
        let figure = figure(&[1.0, 3.0, 2.0, 2.5], false, None);
        assert_eq!((figure.value(), figure.spread()), (2.25, 2.0));
    }
}
