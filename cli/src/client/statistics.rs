//! `cuponera stats`: the statistics of a book, or of all books, with a chart.

use std::fmt::Write;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::exchange::Request;
use super::fault::ClientError;
use super::print::print;
use super::show::{count, pairs, plain, plain_json, time};
use super::{Client, RunCommand, books};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera stats
  cuponera stats --book 'Summer 2027' --interval hour --from 2027-07-01T00:00:00Z --to 2027-07-02T00:00:00Z
  cuponera stats --interval week --time-zone Europe/Madrid
  cuponera stats --watch
  cuponera stats --json | jq '.series[] | [.at, .redeemed]'

With --watch the numbers are shown again when they change, until Ctrl-C; under --json as one object per line. The totals, rates and the chart cover the window. The other numbers show the current state."
);

/// Width of the longest bar of a chart, in characters.
const BAR_CHARS: u64 = 30;
/// Interval of the requests of `--watch`. The server's numbers are at most one second behind.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Options of `stats`.
#[derive(Debug, Args)]
pub(crate) struct Statistics {
    /// The book's id, or its exact name; all books if absent
    #[arg(long, short)]
    book: Option<String>,
    /// The intervals of the chart
    #[arg(long, value_enum, default_value = "day", ignore_case = true)]
    interval: Interval,
    /// Begin of the window, as in RFC 3339; 30 intervals before its end if absent
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End of the window; now if absent
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The time zone of days, weeks and months, such as Europe/Madrid
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// What the chart shows
    #[arg(long, value_enum, default_value = "redeemed", ignore_case = true)]
    chart: Event,
    /// Show the numbers again whenever they change
    #[arg(long, short)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Interval {
    Hour,
    Day,
    Week,
    Month,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Event {
    Assigned,
    Locked,
    Redeemed,
    Revoked,
    RolledBack,
}

impl RunCommand for Statistics {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let book = match &self.book {
            Some(book) => Some(books::find(client, book).await?),
            None => None,
        };
        let path = match &book {
            Some(book) => vec!["coupon-books", book.as_str(), "stats"],
            None => vec!["stats"],
        };
        let ask = || {
            Request::get(&path)
                .with("interval", Some(format!("{:?}", self.interval).to_lowercase()))
                .with("from", self.from.clone())
                .with("to", self.to.clone())
                .with("timeZone", Some(self.time_zone.clone()))
        };
        let mut answer = client.ask(ask()).await?;
        if !self.watch {
            return client.show(&answer, |statistics| page(statistics, self.chart));
        }
        let mut shown = Value::Null;
        loop {
            let numbers = without_times(&answer.value);
            if numbers != shown {
                shown = numbers;
                if client.json {
                    print(&plain_json(&answer.text))?;
                } else {
                    print(&format!("{}{}", clear_screen(), page(&answer.value, self.chart)))?;
                }
            }
            tokio::time::sleep(WATCH_INTERVAL).await;
            answer = client.ask(ask()).await?;
        }
    }
}

/// The statistics without the times that change with each answer.
fn without_times(statistics: &Value) -> Value {
    let mut numbers = statistics.clone();
    for name in ["asOf", "topHoldersAsOf"] {
        numbers[name] = Value::Null;
    }
    numbers
}

/// Moves a terminal's cursor to the top of an empty screen; nothing in a file or a pipe.
fn clear_screen() -> &'static str {
    if std::io::stdout().is_terminal() { "\x1b[2J\x1b[H" } else { "" }
}

impl Event {
    /// Its field, and the title of its chart.
    fn field(self) -> (&'static str, &'static str) {
        match self {
            Self::Assigned => ("assigned", "Codes assigned"),
            Self::Locked => ("locked", "Locks"),
            Self::Redeemed => ("redeemed", "Redemptions"),
            Self::Revoked => ("revoked", "Codes revoked"),
            Self::RolledBack => ("rolledBack", "Redemptions rolled back"),
        }
    }
}

fn page(statistics: &Value, chart: Event) -> String {
    let number = |pointer: &str| statistics.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    let amount = |pointer: &str| count(number(pointer).unsigned_abs());
    let rate =
        |pointer: &str| statistics.pointer(pointer).and_then(Value::as_f64).map_or("-".to_owned(), percent);
    let seconds =
        |pointer: &str| statistics.pointer(pointer).and_then(Value::as_f64).map_or("-".to_owned(), duration);
    let when = |pointer: &str| time(statistics.pointer(pointer).and_then(Value::as_str).unwrap_or_default());
    let mut text = pairs(&[
        ("Codes", amount("/funnel/generated")),
        ("  ever assigned", amount("/funnel/assigned")),
        ("  ever locked", amount("/funnel/locked")),
        ("  redeemed", amount("/funnel/redeemed")),
        ("  available now", amount("/counts/available")),
        ("  void now", amount("/counts/void")),
        ("From", when("/from")),
        ("To", when("/to")),
        ("  assigned", amount("/totals/assigned")),
        ("  locked", amount("/totals/locked")),
        ("  redeemed", amount("/totals/redeemed")),
        ("  rolled back", amount("/totals/rolledBack")),
        ("  revoked", amount("/totals/revoked")),
        ("  voided", amount("/totals/voided")),
        ("Assigned of all codes", rate("/rates/assignedOfGenerated")),
        ("Redeemed of assigned", rate("/rates/redeemedOfAssigned")),
        ("Redeemed of locked", rate("/rates/lockToRedeem")),
        ("Time to redeem, median", seconds("/timeToRedeem/medianSeconds")),
        ("  90 %", seconds("/timeToRedeem/p90Seconds")),
    ]);
    text.push_str(&amounts(statistics));
    let (field, title) = chart.field();
    let _ = write!(text, "\n\n{title}\n{}", bars(statistics, field));
    let holders = statistics["topHolders"].as_array().map_or(&[][..], Vec::as_slice);
    if !holders.is_empty() {
        text.push_str("\n\nUsers with the most codes\n");
        let line = |holder: &Value| {
            (
                plain(holder["userId"].as_str().unwrap_or_default()),
                count(holder["held"].as_u64().unwrap_or_default()),
            )
        };
        let lines: Vec<_> = holders.iter().map(line).collect();
        let lines: Vec<_> = lines.iter().map(|(user, held)| (user.as_str(), held.clone())).collect();
        text.push_str(&pairs(&lines));
    }
    text
}

/// The sums of the redemptions that have amounts, by currency. Nothing if none has.
fn amounts(statistics: &Value) -> String {
    let currencies = statistics["amounts"].as_array().map_or(&[][..], Vec::as_slice);
    let sums = |sums: &Value| {
        let [amount, discount, total] =
            ["amount", "discount", "total"].map(|name| plain(sums[name].as_str().unwrap_or_default()));
        let redemptions = count(sums["redemptions"].as_u64().unwrap_or_default());
        format!("{redemptions} for {amount}, discount {discount}, total {total}")
    };
    let lines = currencies.iter().flat_map(|currency| {
        let code = plain(currency["currency"].as_str().unwrap_or_default());
        [
            (format!("  redeemed, {code}"), sums(&currency["redeemed"])),
            (format!("  rolled back, {code}"), sums(&currency["rolledBack"])),
        ]
    });
    let lines: Vec<(String, String)> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = lines.iter().map(|(title, sums)| (title.as_str(), sums.clone())).collect();
    format!("\n\nAmounts\n{}", pairs(&lines))
}

/// A line for each interval: when it begins, a bar, and the number.
fn bars(statistics: &Value, field: &str) -> String {
    let series = statistics["series"].as_array().map_or(&[][..], Vec::as_slice);
    let number = |item: &Value| item[field].as_u64().unwrap_or_default();
    let most = series.iter().map(number).max().unwrap_or_default().max(1);
    let line = |item: &Value| {
        let eighths = (number(item) * BAR_CHARS * 8).div_ceil(most);
        let (full, rest) = (eighths / 8, eighths % 8);
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][usize::try_from(rest).unwrap_or_default()];
        let bar = "█".repeat(usize::try_from(full).unwrap_or_default()) + rest;
        let at = time(item["at"].as_str().unwrap_or_default());
        format!("{at}  {bar}{}{}", if bar.is_empty() { "" } else { " " }, count(number(item)))
    };
    series.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn percent(rate: f64) -> String {
    format!("{:.1} %", rate * 100.0)
}

/// Seconds in the two largest units.
fn duration(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rounded, positive number")]
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_bar_is_the_largest_number_and_no_number_has_no_bar() {
        let item = |redeemed: u64| json!({"at": "2027-07-01T00:00:00Z", "redeemed": redeemed});
        let chart = bars(&json!({"series": [item(0), item(1), item(80)]}), "redeemed");
        let lines: Vec<_> = chart.lines().collect();
        assert!(lines[0].ends_with("  0"), "{chart}");
        assert!(lines[1].ends_with("▍ 1"), "{chart}");
        assert!(lines[2].ends_with(&format!("{} 80", "█".repeat(30))), "{chart}");
        assert_eq!(bars(&json!({"series": []}), "redeemed"), "");
    }

    #[test]
    fn the_sums_of_each_currency_have_two_lines() {
        let none = json!({"redemptions": 0, "amount": "0.00", "discount": "0.00", "total": "0.00"});
        let some = json!({"redemptions": 40, "amount": "1996.00", "discount": "199.60", "total": "1796.40"});
        let shown = amounts(&json!({"amounts": [{"currency": "EUR", "redeemed": some, "rolledBack": none}]}));
        assert!(shown.contains("40 for 1996.00, discount 199.60, total 1796.40"), "{shown}");
        assert!(shown.contains("rolled back, EUR"), "{shown}");
        assert_eq!(amounts(&json!({"amounts": []})), "");
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        let shown = [1.0, 61.0, 7_260.0, 90_000.0].map(duration);
        assert_eq!(shown, ["1 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]);
    }
}
