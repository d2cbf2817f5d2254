//! The kinds of jobs. Each has a file here, with what its jobs (`Spec`) and its chunks (`Chunk`) say in the database; a file in the
//! worker's handlers, with what its chunks do; and an entry in [`kinds!`].
//!
//! **Invariant.** What earlier versions wrote is read (`core/store/tests/store/versions.rs`): a field that is added has a default.

pub mod delete_book;
pub mod distribute;
pub mod generate;
pub mod import;
pub mod import_members;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::BookId;

/// What a job works on.
trait WorksOn {
    /// The book, if there is one.
    fn book(&self) -> Option<BookId>;
}

/// Makes the types that have one variant for each kind, from its name, the name of its chunks, and its module.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, chunks $chunks:literal, in $module:ident;)*) => {
        /// What a job does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum JobKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl JobKind {
            /// All kinds this version works.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// As the API and the database spell it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }

        /// What all chunks of a job share.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum Work {
            $($(#[$doc])* #[serde(rename = $name)] $kind($module::Spec),)*
        }

        impl Work {
            /// The kind of job.
            pub fn kind(&self) -> JobKind {
                match self { $(Self::$kind(_) => JobKind::$kind,)* }
            }

            /// The book it works on, if it works on one.
            pub fn book(&self) -> Option<BookId> {
                match self { $(Self::$kind(spec) => spec.book(),)* }
            }
        }

        /// What one chunk does.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "chunk")]
        pub enum ChunkWork {
            $($(#[$doc])* #[serde(rename = $chunks)] $kind($module::Chunk),)*
        }

        /// A chunk that was claimed, with what all chunks of its job share.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Task {
            $($(#[$doc])* $kind($module::Spec, $module::Chunk),)*
            /// This program cannot read the job or the chunk: a newer one wrote it, or it is damaged.
            Unreadable {
                /// The kind of the job.
                kind: JobKind,
                /// Why it cannot be read.
                reason: String,
            },
        }

        impl Task {
            /// The kind of job.
            pub fn kind(&self) -> JobKind {
                match self { $(Self::$kind(..) => JobKind::$kind,)* Self::Unreadable { kind, .. } => *kind }
            }

            /// The book it works on, if it works on one.
            pub fn book(&self) -> Option<BookId> {
                match self { $(Self::$kind(spec, _) => spec.book(),)* Self::Unreadable { .. } => None }
            }

            fn of(work: Work, chunk: ChunkWork) -> Option<Self> {
                match (work, chunk) {
                    $((Work::$kind(spec), ChunkWork::$kind(chunk)) => Some(Self::$kind(spec, chunk)),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// Makes codes from a pattern.
    GenerateCodes = "GENERATE_CODES", chunks "GENERATE", in generate;
    /// Takes codes from an uploaded file.
    ImportCodes = "IMPORT_CODES", chunks "IMPORT", in import;
    /// Deletes a book and its codes, none of which was ever assigned.
    DeleteBook = "DELETE_BOOK", chunks "DELETE", in delete_book;
    /// Takes members of a user pool from an uploaded file.
    ImportMembers = "IMPORT_MEMBERS", chunks "IMPORT_MEMBERS", in import_members;
    /// Gives codes of a book to the members of a user pool.
    Distribute = "DISTRIBUTE", chunks "DISTRIBUTE", in distribute;
}

impl JobKind {
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Task {
    /// What a chunk of this kind is to do. What cannot be read is no error: the chunk is held by now, and has to be settled.
    pub fn read(kind: JobKind, work: Value, chunk: Value) -> Self {
        let read =
            || Ok::<_, serde_json::Error>((serde_json::from_value(work)?, serde_json::from_value(chunk)?));
        let task = match read() {
            Ok((work, chunk)) => {
                Self::of(work, chunk).ok_or_else(|| "a chunk of another kind than its job".to_owned())
            }
            Err(fault) => Err(fault.to_string()),
        };
        task.unwrap_or_else(|reason| Self::Unreadable { kind, reason })
    }
}
