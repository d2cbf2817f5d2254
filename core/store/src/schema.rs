//! Compares the schema of a database with the migration steps of this program.
//!
//! **Invariant.** A program runs on its own schema and on newer ones, so that a fleet can be updated program by program
//! and rolled back, and refuses an older one. Steps only go forward, and a newer step removes nothing that this program
//! uses.

use sqlx::migrate::{MigrateError, Migration, Migrator};
use sqlx::{Connection, FromRow, PgConnection, query, query_as, query_scalar};
use tracing::warn;

use crate::error::{Error, Result};

use super::Store;

/// The migration steps of this program.
static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// If a newer program migrates the schema between the check and a step, the step fails, and both are repeated.
const ATTEMPTS: u32 = 3;

/// The state of a schema, compared with the steps of this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchemaState {
    /// No step has been applied.
    Absent {
        /// The newest step that this program knows.
        known: i64,
    },
    /// Steps are missing.
    Older {
        /// The newest applied step.
        found: i64,
        /// The first missing step.
        missing: i64,
        /// The newest step that this program knows.
        known: i64,
    },
    /// All steps that this program knows have been applied, and no others.
    Current {
        /// The newest step.
        known: i64,
    },
    /// All steps that this program knows have been applied, and steps of a newer program.
    Newer {
        /// The newest applied step.
        found: i64,
        /// The newest step that this program knows.
        known: i64,
    },
    /// A step was started and not completed.
    Broken {
        /// That step.
        step: i64,
    },
    /// An applied step has the number of a known step but different content, or a known step is missing below an
    /// unknown one. Another line of versions made this schema.
    Foreign {
        /// That step.
        step: i64,
    },
    /// The user of the connection may not read `_sqlx_migrations`.
    Closed,
}

/// A row of `_sqlx_migrations`, the table of applied steps.
#[derive(FromRow)]
struct Step {
    version: i64,
    checksum: Vec<u8>,
    success: bool,
}

impl SchemaState {
    /// Reads the state of the database's schema.
    pub(super) async fn read(connection: &mut PgConnection) -> sqlx::Result<Self> {
        // Null if the table does not exist.
        let may_read = query_scalar!("select has_table_privilege(to_regclass('_sqlx_migrations'), 'select')");
        match may_read.fetch_one(&mut *connection).await? {
            None => return Ok(Self::of(&[], &MIGRATIONS.migrations)),
            Some(false) => return Ok(Self::Closed),
            Some(true) => {}
        }
        // Not checked at build time: sqlx creates the table when the first migration runs.
        let steps = query_as("select version, checksum, success from _sqlx_migrations order by version");
        Ok(Self::of(&steps.fetch_all(connection).await?, &MIGRATIONS.migrations))
    }

    fn of(taken: &[Step], known: &[Migration]) -> Self {
        if let Some(broken) = taken.iter().find(|step| !step.success) {
            return Self::Broken { step: broken.version };
        }
        let taken_as = |version| taken.iter().find(|step| step.version == version);
        let is_changed =
            |step: &&Migration| taken_as(step.version).is_some_and(|taken| *taken.checksum != *step.checksum);
        if let Some(changed) = known.iter().find(is_changed) {
            return Self::Foreign { step: changed.version };
        }
        let missing = known.iter().map(|step| step.version).find(|version| taken_as(*version).is_none());
        let unknown = taken.iter().any(|step| known.iter().all(|known| known.version != step.version));
        let newest = known.iter().map(|step| step.version).max().unwrap_or(0);
        let found = taken.iter().map(|step| step.version).max();
        match (found, missing, unknown) {
            (None, _, _) => Self::Absent { known: newest },
            (Some(_), Some(step), true) => Self::Foreign { step },
            (Some(found), Some(missing), false) => Self::Older { found, missing, known: newest },
            (Some(found), None, true) => Self::Newer { found, known: newest },
            (Some(_), None, false) => Self::Current { known: newest },
        }
    }

    /// Fails if this program cannot run on the schema; logs a warning for a newer one.
    fn check(self) -> Result<()> {
        match self {
            Self::Current { .. } => Ok(()),
            Self::Newer { found, known } => {
                warn!(found, known, "the schema is newer than this program; it runs on it");
                Ok(())
            }
            Self::Absent { .. } => Err(Error::internal("the database has no schema: run `cuponera migrate`")),
            Self::Older { missing, .. } => Err(Error::internal(format!(
                "the database schema is older than this program: step {missing} is missing; run `cuponera migrate`"
            ))),
            Self::Broken { step } => Err(Error::internal(format!(
                "step {step} of the database schema was not finished: \
                 check what it has changed, then delete its row from _sqlx_migrations and run `cuponera migrate`"
            ))),
            Self::Foreign { step } => Err(Error::internal(format!(
                "the database schema was created by another line of versions, which differs from step {step} on: \
                 use the program that created it"
            ))),
            Self::Closed => Err(Error::internal(
                "the database schema belongs to another user: connect as that user or transfer its tables to this one",
            )),
        }
    }
}

impl Store {
    /// Migrates the schema to this version; a newer schema is not changed. Several processes may call this at once.
    pub async fn migrate(&self) -> Result<()> {
        for _ in 1..ATTEMPTS {
            match self.migrate_once().await? {
                Ok(()) => return Ok(()),
                Err(MigrateError::VersionMissing(_)) => {}
                Err(error) => return Err(Error::internal(error)),
            }
        }
        self.migrate_once().await?.map_err(Error::internal)
    }

    /// Uses a separate connection: a failed run holds the lock of migrations until its connection closes.
    async fn migrate_once(&self) -> Result<Result<(), MigrateError>> {
        let mut connection = self.pool.acquire().await?.detach();
        // A step may build an index on a large table.
        query!("set statement_timeout = 0").execute(&mut connection).await?;
        let state = SchemaState::read(&mut connection).await?;
        let done = match state {
            SchemaState::Absent { .. } | SchemaState::Older { .. } => MIGRATIONS.run(&mut connection).await,
            other => {
                other.check()?;
                Ok(())
            }
        };
        connection.close().await?;
        Ok(done)
    }

    /// Fails if the schema is older than this program's; a newer schema is accepted.
    pub async fn check_schema(&self) -> Result<()> {
        let mut connection = self.pool.acquire().await?;
        SchemaState::read(&mut connection).await?.check()
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use sqlx::migrate::MigrationType;

    use super::*;

    fn known(versions: &[i64]) -> Vec<Migration> {
        let step = |version: &i64| Migration {
            version: *version,
            description: Cow::Borrowed(""),
            migration_type: MigrationType::Simple,
            sql: sqlx::SqlStr::from_static(""),
            checksum: Cow::Owned(vec![u8::try_from(*version).unwrap()]),
            no_tx: false,
        };
        versions.iter().map(step).collect()
    }

    fn state(taken: &[i64]) -> SchemaState {
        let step = |version: &i64| Step {
            version: *version,
            checksum: vec![u8::try_from(*version).unwrap()],
            success: true,
        };
        SchemaState::of(&taken.iter().map(step).collect::<Vec<_>>(), &known(&[1, 2, 4]))
    }

    #[test]
    fn a_schema_is_older_if_any_known_step_is_missing_and_newer_if_there_are_only_more() {
        assert_eq!(state(&[]), SchemaState::Absent { known: 4 });
        assert_eq!(state(&[1]), SchemaState::Older { found: 1, missing: 2, known: 4 });
        assert_eq!(state(&[1, 4]), SchemaState::Older { found: 4, missing: 2, known: 4 });
        assert_eq!(state(&[1, 2, 4]), SchemaState::Current { known: 4 });
        assert_eq!(state(&[1, 2, 4, 5, 9]), SchemaState::Newer { found: 9, known: 4 });
        assert_eq!(state(&[1, 2, 3, 4]), SchemaState::Newer { found: 4, known: 4 });
    }

    #[test]
    fn a_step_missing_below_an_unknown_one_or_changed_is_of_another_line() {
        assert_eq!(state(&[1, 4, 5]), SchemaState::Foreign { step: 2 });
        let changed = [Step { version: 1, checksum: vec![7], success: true }];
        assert_eq!(SchemaState::of(&changed, &known(&[1])), SchemaState::Foreign { step: 1 });
    }

    #[test]
    fn a_step_that_was_not_finished_counts_before_everything_else() {
        let broken = [Step { version: 9, checksum: vec![7], success: false }];
        assert_eq!(SchemaState::of(&broken, &known(&[1])), SchemaState::Broken { step: 9 });
    }
}
