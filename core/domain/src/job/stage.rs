//! The progress of a job as an ordered value, so that the later of two readings can be determined from their contents.

use std::fmt;

use chrono::{DateTime, Utc};

use super::{Job, JobStatus};

/// The stage of a job only grows: attempt by attempt, through running, failed and queued, with a growing number of
/// rows. The times of readings do not have this property: a reading may use an old snapshot and read the clock late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    attempts: u32,
    phase: u8,
    processed: u64,
    beat: u64,
}

impl Job {
    /// The stage of this reading.
    pub fn stage(&self) -> Stage {
        Stage {
            attempts: self.attempts.unsigned_abs(),
            phase: phase(self.status),
            processed: self.processed().unsigned_abs(),
            beat: self.heartbeat_at.map_or(0, microseconds),
        }
    }

    /// Whether the job can no longer change. A failed job is not final, because it can be retried.
    pub fn is_final(&self) -> bool {
        matches!(self.status, JobStatus::Succeeded | JobStatus::Cancelled)
    }
}

/// The order of statuses within an attempt. A job that is queued after a failure still has the number of its last
/// attempt; a job that has never run has 0.
fn phase(status: JobStatus) -> u8 {
    match status {
        JobStatus::Running => 0,
        JobStatus::Failed => 1,
        JobStatus::Queued => 2,
        JobStatus::Succeeded | JobStatus::Cancelled => 3,
    }
}

fn microseconds(at: DateTime<Utc>) -> u64 {
    u64::try_from(at.timestamp_micros()).unwrap_or(0)
}

impl fmt::Display for Stage {
    /// Text that sorts in the order of the stages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { attempts, phase, processed, beat } = self;
        write!(f, "{attempts:010}.{phase}.{processed:020}.{beat:020}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_life_is_a_rising_line_of_stages_as_values_and_as_text() {
        let stage =
            |attempts, status, processed| Stage { attempts, phase: phase(status), processed, beat: 7 };
        let life = [
            stage(0, JobStatus::Queued, 0),
            stage(1, JobStatus::Running, 0),
            stage(1, JobStatus::Running, 9),
            stage(1, JobStatus::Running, 10),
            stage(1, JobStatus::Failed, 10),
            stage(1, JobStatus::Queued, 10),
            stage(2, JobStatus::Running, 10),
            stage(2, JobStatus::Failed, 11),
            stage(2, JobStatus::Queued, 11),
            stage(10, JobStatus::Running, 11),
            stage(10, JobStatus::Succeeded, 1_000),
        ];
        assert!(life.is_sorted_by(|a, b| a < b), "{life:?}");
        assert!(life.map(|stage| stage.to_string()).is_sorted_by(|a, b| a < b));
    }
}
