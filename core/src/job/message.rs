//! What is said on a queue outside the database. A wake-up says only *there is work*: the job in it is for the reader of
//! logs, and which chunk is run is Postgres's fair choice.

use serde::{Deserialize, Serialize};

use crate::id::JobId;

use super::JobKind;

/// The version of the messages this version writes and reads.
const VERSION: u32 = 1;

/// A message of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// A chunk of the job is runnable.
    Chunk {
        /// The job that gave cause.
        job: JobId,
        /// What the job does, as the database spells it: who does not know it leaves the message to a newer version.
        work: String,
    },
    /// A chunk of the job failed for the last time.
    Dead {
        /// The job that failed.
        job: JobId,
        /// The chunk.
        number: i32,
        /// Which of the job's runs it was, so that an old letter does not start a newer run again.
        attempt: i32,
    },
}

#[derive(Serialize, Deserialize)]
struct Envelope {
    v: u32,
    #[serde(flatten)]
    message: Message,
}

impl Message {
    /// As it is sent.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Envelope { v: VERSION, message: self.clone() })
    }

    /// Reads a body; `None` if it is not ours, or of a version or kind that only a newer one knows.
    pub fn parse(body: &str) -> Option<Self> {
        let envelope: Envelope = serde_json::from_str(body).ok()?;
        let is_known = match &envelope.message {
            Self::Chunk { work, .. } => JobKind::parse(work).is_some(),
            Self::Dead { .. } => true,
        };
        (envelope.v == VERSION && is_known).then_some(envelope.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_a_newer_version_adds_is_ignored() {
        let job = JobId::new();
        for message in [
            Message::Chunk { job, work: "GENERATE_CODES".to_owned() },
            Message::Dead { job, number: 7, attempt: 2 },
        ] {
            let body = message.to_json().unwrap();
            assert_eq!(Message::parse(&body), Some(message.clone()));
            let more = body.replacen('{', r#"{"traceparent":"00-1-2-01","#, 1);
            assert_eq!(Message::parse(&more), Some(message));
        }
        assert_eq!(
            Message::Chunk { job, work: "GENERATE_CODES".to_owned() }.to_json().unwrap(),
            format!(r#"{{"v":1,"kind":"chunk","job":"{job}","work":"GENERATE_CODES"}}"#)
        );
    }

    #[test]
    fn other_versions_kinds_and_bodies_are_not_ours() {
        let job = JobId::new();
        for body in [
            format!(r#"{{"v":2,"kind":"chunk","job":"{job}","work":"GENERATE_CODES"}}"#),
            format!(r#"{{"v":1,"kind":"parcel","job":"{job}","work":"GENERATE_CODES"}}"#),
            format!(r#"{{"v":1,"kind":"chunk","job":"{job}","work":"TELEPORT"}}"#),
            format!(r#"{{"kind":"chunk","job":"{job}","work":"GENERATE_CODES"}}"#),
            r#"{"v":1,"kind":"chunk","job":"seven"}"#.to_owned(),
            "hello".to_owned(),
            String::new(),
        ] {
            assert_eq!(Message::parse(&body), None, "{body}");
        }
    }
}
