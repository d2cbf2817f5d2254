//! Bugs: guards that are removed from statements on their way to Postgres. The programs are unchanged.
//!
//! Each bug must be caught within the first eight seeds.

/// A guard to remove.
#[derive(Debug)]
pub struct Bug {
    /// Lower-case letters and underscores.
    pub name: &'static str,
    /// The behavior of the programs without the guard.
    pub does: &'static str,
    /// The texts to replace.
    pub(crate) edits: &'static [Edit],
}

/// A text in a statement and its replacement.
#[derive(Debug)]
pub(crate) struct Edit {
    statement: Statement,
    guard: &'static str,
    instead: &'static str,
}

/// A file of `core/store/src/sql`.
#[derive(Debug)]
struct Statement {
    file: &'static str,
    text: &'static str,
}

macro_rules! statement {
    ($file:literal) => {
        Statement { file: $file, text: include_str!(concat!("../../core/store/src/sql/", $file)) }
    };
}

/// All bugs.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "over_redeem",
        does: "a coupon is redeemed more often than its book allows",
        edits: &[
            Edit {
                statement: statement!("redeem.sql"),
                guard: "and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED') and c.redeem_count < b.max_redeems_per_user",
                instead: "",
            },
            Edit {
                statement: statement!("redeem.sql"),
                guard: "and c.status in ('AVAILABLE', 'ASSIGNED', 'LOCKED') and c.redeem_count < r.most",
                instead: "",
            },
            Edit {
                statement: statement!("redeem.sql"),
                guard: "r.redeem_count + 1 = r.most",
                instead: "r.redeem_count + 1 >= r.most",
            },
        ],
    },
    Bug {
        name: "two_holders",
        does: "an assignment by name takes a code from its holder",
        edits: &[
            Edit {
                statement: statement!("assign_named.sql"),
                guard: "where c.status = 'AVAILABLE' and c.reserved_by is null and b.status",
                instead: "where c.status in ('AVAILABLE', 'ASSIGNED') and c.reserved_by is null and b.status",
            },
            Edit {
                statement: statement!("assign_named.sql"),
                guard: "and c.code = d.code and c.status = 'AVAILABLE'",
                instead: "and c.code = d.code",
            },
        ],
    },
    Bug {
        name: "stale_lock",
        does: "a redemption ignores the lock that its caller names",
        edits: &[Edit {
            statement: statement!("redeem.sql"),
            guard: "c.lock_id = i.lock_id and c.locked_until > now()",
            instead: "(i.lock_id is not null)",
        }],
    },
    Bug {
        name: "repeated_key",
        does: "a redemption does not store its idempotency key",
        edits: &[Edit {
            statement: statement!("redeem.sql"),
            guard: "from answer where key is not null",
            instead: "from answer where false",
        }],
    },
    Bug {
        name: "repeated_reference",
        does: "a code is redeemed again with a reference that was used",
        edits: &[
            Edit {
                statement: statement!("redeem.sql"),
                guard: "and r.reference = i.reference limit 1) is null",
                instead: "and r.reference = i.reference limit 1) is distinct from 2",
            },
            Edit {
                statement: statement!("redeem.sql"),
                guard: "on i.n = d.n where i.reference is not null",
                instead: "on i.n = d.n where false",
            },
        ],
    },
    Bug {
        name: "repeated_recipient",
        does: "a recipient gets another code for each request",
        edits: &[Edit {
            statement: statement!("assign_random.sql"),
            guard: "where i.recipient_key is not null order by",
            instead: "where false order by",
        }],
    },
    Bug {
        name: "foreign_job",
        does: "a job is visible to another business",
        edits: &[Edit {
            statement: statement!("job.sql"),
            guard: "where business_id = $1 and id = $2",
            instead: "where (business_id = $1 or true) and id = $2",
        }],
    },
    Bug {
        name: "double_rollback",
        does: "a redemption is rolled back more than once",
        edits: &[Edit {
            statement: statement!("rollback.sql"),
            guard: "and r.rolled_back_at is null",
            instead: "",
        }],
    },
    Bug {
        name: "revoke_used",
        does: "a code that was redeemed is revoked",
        edits: &[Edit {
            statement: statement!("revoke.sql"),
            guard: "and c.redeem_count = 0 and c.rollback_count = 0",
            instead: "",
        }],
    },
    Bug {
        name: "over_grant",
        does: "a distribution exceeds the limit of a user",
        edits: &[
            Edit {
                statement: statement!("grant_codes.sql"),
                guard: "least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)",
                instead: "excluded.held",
            },
            Edit {
                statement: statement!("grant_codes.sql"),
                guard: "cap = excluded.cap",
                instead: "cap = null",
            },
            Edit {
                statement: statement!("grant_codes.sql"),
                guard: "where q.held < coalesce(excluded.cap, 2147483647)",
                instead: "",
            },
        ],
    },
    Bug {
        name: "over_present",
        does: "a user presents more codes of a BEARER book than it allows",
        edits: &[
            Edit {
                statement: statement!("redeem.sql"),
                guard: "least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)",
                instead: "excluded.held",
            },
            Edit { statement: statement!("redeem.sql"), guard: "cap = excluded.cap", instead: "cap = null" },
            Edit {
                statement: statement!("redeem.sql"),
                guard: "where q.held < coalesce(excluded.cap, 2147483647)",
                instead: "",
            },
            Edit {
                statement: statement!("lock.sql"),
                guard: "least(excluded.held, coalesce(excluded.cap, 2147483647) - q.held)",
                instead: "excluded.held",
            },
            Edit { statement: statement!("lock.sql"), guard: "cap = excluded.cap", instead: "cap = null" },
            Edit {
                statement: statement!("lock.sql"),
                guard: "where q.held < coalesce(excluded.cap, 2147483647)",
                instead: "",
            },
        ],
    },
    Bug {
        name: "second_bearer",
        does: "a user redeems a code of a BEARER book that another user holds",
        edits: &[Edit {
            statement: statement!("redeem.sql"),
            guard: "when c.status = 'AVAILABLE' then b.code_kind = 'BEARER' and c.reserved_by is null",
            instead: "when b.code_kind = 'BEARER' then true",
        }],
    },
    Bug {
        name: "late_export",
        does: "an export contains events of after its plan",
        edits: &[Edit {
            statement: statement!("export_events.sql"),
            guard: "pg_visible_in_snapshot(e.tx, $8::text::pg_snapshot)",
            instead: "($8::text is not null)",
        }],
    },
    Bug {
        name: "hasty_follower",
        does: "followers pass transactions that still run",
        edits: &[Edit {
            statement: statement!("events_after.sql"),
            guard: "pg_snapshot_xmin(pg_current_snapshot())",
            instead: "pg_snapshot_xmax(pg_current_snapshot())",
        }],
    },
    Bug {
        name: "reversed_deliveries",
        does: "webhooks get the last event of a code first",
        edits: &[
            Edit {
                statement: statement!("schedule_first_pending.sql"),
                guard: "order by p.number limit 1",
                instead: "order by p.number desc limit 1",
            },
            Edit {
                statement: statement!("claim_deliveries.sql"),
                guard: "e.status = 'PENDING' and e.number < d.number",
                instead: "e.status = 'PENDING' and false",
            },
        ],
    },
    Bug {
        name: "kept_lease",
        does: "a chunk of a dead worker is not taken over",
        edits: &[Edit {
            statement: statement!("claim_chunk.sql"),
            guard: "or c.status = 'RUNNING' and c.lease_until <= now()",
            instead: "or false",
        }],
    },
];

/// Finds a bug by name.
pub fn find(name: &str) -> Option<&'static Bug> {
    BUGS.iter().find(|bug| bug.name == name)
}

impl Bug {
    /// The files of the changed statements.
    pub fn files(&self) -> impl Iterator<Item = &'static str> {
        self.edits.iter().map(|edit| edit.statement.file)
    }

    /// The statement without its guard; `None` if the bug does not change it.
    pub(crate) fn remove_guard(&self, sent: &str) -> Option<String> {
        let edits: Vec<&Edit> = self.edits.iter().filter(|edit| edit.statement.text == sent).collect();
        let without = |text: String, edit: &&Edit| text.replace(edit.guard, edit.instead);
        (!edits.is_empty()).then(|| edits.iter().fold(sent.to_owned(), without))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{BUGS, Edit};

    #[test]
    fn each_guard_is_in_its_statement() {
        for bug in BUGS {
            for edit in bug.edits {
                let Edit { statement, guard, .. } = edit;
                assert!(statement.text.contains(guard), "{}: {} has no {guard:?}", bug.name, statement.file);
            }
        }
    }

    #[test]
    fn names_are_distinct_and_plain() {
        let names: HashSet<&str> = BUGS.iter().map(|bug| bug.name).collect();
        assert_eq!(names.len(), BUGS.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
