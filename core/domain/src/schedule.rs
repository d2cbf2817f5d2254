//! Schedules of books: the windows of the week in which codes can be locked and redeemed. Postgres has the time zones, so the store decides
//! whether a schedule is open.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::rejection::FieldError;

/// The maximum number of windows of a schedule: four for each day of the week.
pub const MAX_WINDOWS: usize = 28;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[expect(missing_docs, reason = "the names of the days")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

impl Day {
    /// All days, in their order.
    pub const ALL: [Self; 7] = [Self::Mon, Self::Tue, Self::Wed, Self::Thu, Self::Fri, Self::Sat, Self::Sun];

    /// The name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mon => "MON",
            Self::Tue => "TUE",
            Self::Wed => "WED",
            Self::Thu => "THU",
            Self::Fri => "FRI",
            Self::Sat => "SAT",
            Self::Sun => "SUN",
        }
    }

    /// The day of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|day| day.as_str() == name)
    }
}

/// A time that a clock shows, to the minute: `00:00` to `23:59`, and `24:00` for the end of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClockTime {
    minute: u16,
}

impl ClockTime {
    /// The end of a day.
    pub const MIDNIGHT: Self = Self { minute: 24 * 60 };

    /// Reads `HH:MM`.
    pub fn parse(text: &str) -> Option<Self> {
        let (hour, minute) = text.split_once(':')?;
        let number = |digits: &str| {
            (digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .then(|| digits.parse::<u16>().ok())
                .flatten()
        };
        let (hour, minute) = (number(hour)?, number(minute)?);
        let time = Self { minute: hour * 60 + minute };
        (minute < 60 && time <= Self::MIDNIGHT).then_some(time)
    }
}

impl fmt::Display for ClockTime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:02}:{:02}", self.minute / 60, self.minute % 60)
    }
}

impl TryFrom<String> for ClockTime {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or_else(|| format!("{text:?} is no time of a clock"))
    }
}

impl From<ClockTime> for String {
    fn from(time: ClockTime) -> Self {
        time.to_string()
    }
}

/// A window of the week, on the clocks of the book's time zone. It ends before the minute `to`. If `to` is before `from`, it ends on the next day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleWindow {
    /// The days on which it begins, in the order of the week.
    pub days: Vec<Day>,
    /// Its begin.
    pub from: ClockTime,
    /// Its end.
    pub to: ClockTime,
}

impl ScheduleWindow {
    /// The faults of its fields.
    pub fn faults(&self) -> Vec<FieldError> {
        let mut faults: Vec<_> = days_fault(&self.days).into_iter().collect();
        if self.from == ClockTime::MIDNIGHT {
            faults.push(FieldError::new("from", "must be a time from 00:00 to 23:59"));
        }
        if self.from == self.to {
            faults.push(FieldError::new("to", "must differ from `from`: a whole day is 00:00 to 24:00"));
        }
        faults
    }
}

/// The fault of the days of a window.
pub fn days_fault(days: &[Day]) -> Option<FieldError> {
    let is_valid = !days.is_empty() && days.iter().collect::<BTreeSet<_>>().len() == days.len();
    (!is_valid).then(|| FieldError::new("days", "must have 1 to 7 days, each once"))
}

/// The faults of a schedule: of its number of windows, and of each window.
pub fn faults(schedule: &[ScheduleWindow]) -> Vec<FieldError> {
    if !(1..=MAX_WINDOWS).contains(&schedule.len()) {
        return vec![FieldError::new("schedule", "must have 1 to 28 windows, or be null: open at all times")];
    }
    let numbered = |(number, window): (usize, &ScheduleWindow)| {
        let faults = window.faults().into_iter();
        faults.map(move |fault| FieldError::new(format!("schedule.{number}.{}", fault.field), fault.message))
    };
    schedule.iter().enumerate().flat_map(numbered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Day], from: &str, to: &str) -> ScheduleWindow {
        let time = |text| ClockTime::parse(text).unwrap();
        ScheduleWindow { days: days.to_vec(), from: time(from), to: time(to) }
    }

    #[test]
    fn times_of_a_clock_have_two_digits_each_and_end_at_midnight() {
        for text in ["00:00", "09:05", "23:59", "24:00"] {
            assert_eq!(ClockTime::parse(text).unwrap().to_string(), text);
        }
        for text in
            ["", "9:00", "09:5", "09:60", "24:01", "25:00", "0900", "+9:00", "09:00:00", " 9:00", "٠٩:٠٠"]
        {
            assert_eq!(ClockTime::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_window_is_stored_as_the_api_writes_it() {
        let night = window(&[Day::Fri, Day::Sat], "22:00", "02:00");
        let stored = serde_json::json!({"days": ["FRI", "SAT"], "from": "22:00", "to": "02:00"});
        assert_eq!(serde_json::to_value(&night).unwrap(), stored);
        assert_eq!(serde_json::from_value::<ScheduleWindow>(stored).unwrap(), night);
        assert!(serde_json::from_str::<ClockTime>("\"24:01\"").is_err());
    }

    #[test]
    fn each_fault_names_its_window_and_field() {
        let fields = |schedule: &[ScheduleWindow]| -> Vec<String> {
            faults(schedule).into_iter().map(|fault| fault.field).collect()
        };
        let good = window(&Day::ALL, "00:00", "24:00");
        assert_eq!(fields(&vec![good.clone(); MAX_WINDOWS]), [""; 0]);
        assert_eq!(fields(&[]), ["schedule"]);
        assert_eq!(fields(&vec![good.clone(); MAX_WINDOWS + 1]), ["schedule"]);
        let bad =
            [good, window(&[Day::Mon, Day::Tue, Day::Mon], "09:00", "09:00"), window(&[], "24:00", "08:00")];
        assert_eq!(fields(&bad), ["schedule.1.days", "schedule.1.to", "schedule.2.days", "schedule.2.from"]);
    }
}
