//! The kinds of jobs. Each kind has a file here with the stored form of its jobs (`Spec`) and chunks (`Chunk`), a
//! handler in the worker, and an entry in [`kinds!`].
//!
//! **Invariant.** The stored forms of earlier versions stay readable (`core/store/tests/store/versions.rs`): a new
//! field has a default.

pub mod assign_codes;
pub mod delete_book;
pub mod distribute;
pub mod export;
pub mod generate;
pub mod import;
pub mod import_members;
pub mod take_back;
pub mod void_codes;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::BookId;

/// The object of a job.
trait WorksOn {
    /// The book, if any.
    fn book(&self) -> Option<BookId>;
}

/// Generates the enums over all kinds. Parameters: the kind, its name, the name of its chunks, its module.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, chunks $chunks:literal, in $module:ident;)*) => {
        /// The kind of a job.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum JobKind {
            $($(#[$doc])* #[serde(rename = $name)] $kind,)*
        }

        impl JobKind {
            /// All kinds that this version can execute.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$kind),*];

            /// The name in the API and the database.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }

        /// The parameters of a job, common to its chunks.
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

            /// The book of the job, if any.
            pub fn book(&self) -> Option<BookId> {
                match self { $(Self::$kind(spec) => spec.book(),)* }
            }
        }

        /// The parameters of a chunk.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "chunk")]
        pub enum ChunkWork {
            $($(#[$doc])* #[serde(rename = $chunks)] $kind($module::Chunk),)*
        }

        /// A claimed chunk, with the parameters of its job.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Task {
            $($(#[$doc])* $kind($module::Spec, $module::Chunk),)*
            /// This program cannot read the job or the chunk: a newer version wrote it, or it is corrupt.
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

            /// The book of the job, if any.
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
    /// Generates codes of a pattern.
    GenerateCodes = "GENERATE_CODES", chunks "GENERATE", in generate;
    /// Imports codes from an uploaded file.
    ImportCodes = "IMPORT_CODES", chunks "IMPORT", in import;
    /// Deletes a book and its codes, none of which was ever assigned.
    DeleteBook = "DELETE_BOOK", chunks "DELETE", in delete_book;
    /// Ends codes permanently.
    VoidCodes = "VOID_CODES", chunks "VOID", in void_codes;
    /// Takes members of a user pool from an uploaded file.
    ImportMembers = "IMPORT_MEMBERS", chunks "IMPORT_MEMBERS", in import_members;
    /// Gives codes of a book to the members of a user pool.
    Distribute = "DISTRIBUTE", chunks "DISTRIBUTE", in distribute;
    /// Makes the codes free again that a distribution assigned.
    TakeBack = "TAKE_BACK", chunks "TAKE_BACK", in take_back;
    /// Assigns existing codes to the users that an uploaded file names.
    AssignCodes = "ASSIGN_CODES", chunks "ASSIGN", in assign_codes;
    /// Writes codes, assignments, redemptions or events to a file.
    Export = "EXPORT", chunks "EXPORT", in export;
}

impl JobKind {
    /// The kind of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Task {
    /// Parses a chunk of this kind. A parse error is a value, not an `Err`: the chunk is already claimed and must be
    /// finished.
    pub fn read(kind: JobKind, work: Value, chunk: Value) -> Self {
        let read =
            || Ok::<_, serde_json::Error>((serde_json::from_value(work)?, serde_json::from_value(chunk)?));
        let task = match read() {
            Ok((work, chunk)) => {
                Self::of(work, chunk).ok_or_else(|| "the kinds of the chunk and of its job differ".to_owned())
            }
            Err(fault) => Err(fault.to_string()),
        };
        task.unwrap_or_else(|reason| Self::Unreadable { kind, reason })
    }
}
