//! The messages of a queue outside the database. A wake-up says only that there is work: its job id is for logs, and
//! Postgres selects the chunk to run.

use serde::{Deserialize, Serialize};

use crate::id::JobId;

use super::JobKind;

/// The message version that this program writes and reads.
const VERSION: u32 = 1;

/// A message of this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// A chunk of the job is runnable.
    Chunk {
        /// The job that caused the message.
        job: JobId,
        /// The kind of the job, as in the database. A program that does not know it leaves the message to a newer
        /// version.
        work: String,
    },
    /// A chunk of the job has failed and will not be tried again.
    Dead {
        /// The job that failed.
        job: JobId,
        /// The chunk.
        number: i32,
        /// The run (`job.attempts`) that failed, so that an old dead letter does not retry a later run.
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
    /// The body of the message.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(&Envelope { v: VERSION, message: self.clone() })
    }

    /// Parses a body; `None` if it is not a message of this program, or has an unknown version or kind.
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
    use uuid::Uuid;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_a_newer_version_adds_is_ignored() {
        let job = JobId(Uuid::from_u128(7));
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
        let job = JobId(Uuid::from_u128(7));
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
