//! The rows of a chunk that adds members to a pool.
//!
//! **Invariant.** The members of a chunk, its rejections, the pool's count and the chunk's settling commit together.

use std::collections::HashSet;

use serde_json::json;
use sqlx::PgConnection;

use crate::Store;
use crate::error::Result;
use crate::job::claim::{Claim, ClaimState, begin};
use crate::job::finish::{Finished, finish_if_held};
use crate::pool;
use cuponera_domain::id::PoolId;

use super::chunk::discard;
use super::part::{ImportPart, ImportRow, RowRejection};
use super::rejection::{self, RejectedRow};
use super::space::as_i64;

impl Store {
    /// Adds the users of a part, which are the codes of its rows, and settles the chunk. Those that are members already are
    /// rejected.
    pub async fn finish_imported_members(
        &self,
        claim: &Claim,
        pool: PoolId,
        part: &ImportPart,
    ) -> Result<ClaimState> {
        let mut connection = self.pool.acquire().await?;
        let finished = self.finish_members(&mut connection, claim, pool, part).await;
        if finished.is_err() {
            discard(connection);
        }
        finished
    }

    async fn finish_members(
        &self,
        connection: &mut PgConnection,
        claim: &Claim,
        id: PoolId,
        part: &ImportPart,
    ) -> Result<ClaimState> {
        let mut transaction = begin(connection, claim).await?;
        pool::hold(&mut transaction, claim.business, id).await?;
        let users: Vec<String> = part.rows.iter().map(|row| row.code.clone()).collect();
        let added = pool::add(&mut transaction, id, &users).await?;
        let added: HashSet<&str> = added.iter().map(String::as_str).collect();
        let others = part.rows.iter().filter(|row| !added.contains(row.code.as_str()));
        let members: Vec<RejectedRow> = others.map(already_member).collect();
        rejection::write(&mut transaction, self.storage_quota, claim, [&part.rejections, &members]).await?;
        let finished = finished(part, added.len(), members.len());
        let status = finish_if_held(&mut transaction, claim, &finished).await?;
        self.commit_if_held(transaction, claim, status).await
    }
}

fn already_member(row: &ImportRow) -> RejectedRow {
    RejectedRow {
        line: row.line,
        code: row.code.clone(),
        reason: "already_member".into(),
        detail: "the user is a member of the pool already".into(),
        row: row.text.clone(),
    }
}

fn finished(part: &ImportPart, added: usize, members: usize) -> Finished {
    let count = |rows: usize| as_i64(rows as u64);
    let is_repeated = |rejection: &&RejectedRow| rejection.reason == RowRejection::DuplicateInFile.reason();
    let repeated = part.rejections.iter().filter(is_repeated).count();
    Finished {
        succeeded: count(added),
        failed: count(part.rejections.len() + members),
        result: json!({
            "addedCount": added, "alreadyMembersCount": members, "duplicatesCount": repeated,
            "invalidRowsCount": part.rejections.len() - repeated,
        }),
        ..Finished::default()
    }
}
