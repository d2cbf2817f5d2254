//! Windows of a schedule as people write them: `MON-FRI 09:00-18:00`.

use cuponera_domain::schedule::Day;
use serde_json::{Value, json};

use super::show::plain;

/// The syntax of a window, for messages.
const WINDOW: &str = "such as 'MON-FRI 09:00-18:00' or 'FRI,SAT 22:00-02:00'";

/// A window: days, each by itself or as a range, and two times. The server checks the times.
pub(super) fn parse_window(text: &str) -> Result<Value, String> {
    let (days, times) = text.split_at(text.find(|char: char| char.is_ascii_digit()).ok_or(WINDOW)?);
    let (from, to) = times.split_once('-').ok_or(WINDOW)?;
    let mut all = Vec::new();
    for part in days.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        let length = (last as usize + 7 - first as usize) % 7 + 1;
        all.extend(Day::ALL.into_iter().cycle().skip(first as usize).take(length).map(Day::as_str));
    }
    Ok(json!({"days": all, "from": from.trim(), "to": to.trim()}))
}

fn day(name: &str) -> Result<Day, String> {
    Ok(Day::parse(&name.trim().to_uppercase()).ok_or(WINDOW)?)
}

/// A schedule of the server on one line: `MON-FRI 09:00-18:00; SAT 10:00-14:00`.
pub(super) fn shown(schedule: &Value) -> Option<String> {
    let window = |window: &Value| {
        let text = |field: &str| plain(window[field].as_str().unwrap_or_default());
        let names = window["days"].as_array().into_iter().flatten().filter_map(Value::as_str).map(plain);
        format!("{} {}-{}", joined(&names.collect::<Vec<_>>()), text("from"), text("to"))
    };
    Some(schedule.as_array()?.iter().map(window).collect::<Vec<_>>().join("; "))
}

/// Days in their order, with three or more that follow each other as a range.
fn joined(names: &[String]) -> String {
    let number = |name: &String| Day::parse(name).map(|day| day as usize);
    let runs = names.chunk_by(|left, right| number(left).is_some_and(|left| Some(left + 1) == number(right)));
    let run = |run: &[String]| match run {
        [first, _, .., last] => format!("{first}-{last}"),
        short => short.join(","),
    };
    runs.map(run).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_read_as_people_write_them() {
        let cases = [
            ("MON-FRI 09:00-18:00", vec!["MON", "TUE", "WED", "THU", "FRI"], "09:00", "18:00"),
            (" fri, Sat  22:00 - 02:00 ", vec!["FRI", "SAT"], "22:00", "02:00"),
            ("SAT-MON,WED 00:00-24:00", vec!["SAT", "SUN", "MON", "WED"], "00:00", "24:00"),
            ("SUN 9-17", vec!["SUN"], "9", "17"),
        ];
        for (text, days, from, to) in cases {
            assert_eq!(parse_window(text), Ok(json!({"days": days, "from": from, "to": to})), "{text}");
        }
        for text in
            ["", "MON", "09:00-18:00", "MON 09:00", "MONDAY 09:00-18:00", "MON- 09:00-18:00", "MON,, 1-2"]
        {
            assert_eq!(parse_window(text), Err(WINDOW.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_schedule_is_shown_on_one_line() {
        let schedule = json!([
            {"days": ["MON", "TUE", "WED", "FRI"], "from": "09:00", "to": "18:00"},
            {"days": ["SAT", "SUN"], "from": "22:00", "to": "02:00"},
            {"days": Day::ALL.map(Day::as_str), "from": "00:00", "to": "24:00"},
        ]);
        let line = "MON-WED,FRI 09:00-18:00; SAT,SUN 22:00-02:00; MON-SUN 00:00-24:00";
        assert_eq!(shown(&schedule).as_deref(), Some(line));
        assert_eq!(shown(&Value::Null), None);
    }
}
