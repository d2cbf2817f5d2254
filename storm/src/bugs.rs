//! Bugs: guards that are taken out of statements on their way to Postgres. The programs stay as they are.
//!
//! Each must be caught within the first eight seeds; a test holds every text to its statement's file.

/// A guard to take out.
#[derive(Debug)]
pub struct Bug {
    /// Of lower-case letters and underscores.
    pub name: &'static str,
    /// What the programs do without it.
    pub does: &'static str,
    /// The texts to replace.
    pub(crate) edits: &'static [Edit],
}

/// A text of a statement and what stands there instead.
#[derive(Debug)]
pub(crate) struct Edit {
    /// The statement's file in `core/src/store/sql`.
    pub(crate) file: &'static str,
    /// What the statement has once, or more often.
    pub(crate) guard: &'static str,
    pub(crate) instead: &'static str,
}

/// All bugs.
pub const BUGS: &[Bug] = &[
    Bug {
        name: "over_redeem",
        does: "a coupon is redeemed more often than its book allows",
        edits: &[
            Edit {
                file: "redeem.sql",
                guard: "and c.status in ('ASSIGNED', 'LOCKED') and c.redeem_count < b.max_redeems_per_user",
                instead: "",
            },
            Edit {
                file: "redeem.sql",
                guard: "and c.status in ('ASSIGNED', 'LOCKED') and c.redeem_count < h.most",
                instead: "",
            },
            Edit {
                file: "redeem.sql",
                guard: "h.redeem_count + 1 = h.most",
                instead: "h.redeem_count + 1 >= h.most",
            },
        ],
    },
    Bug {
        name: "two_holders",
        does: "a code that is named is taken away from its holder",
        edits: &[
            Edit {
                file: "assign_named.sql",
                guard: "where c.status = 'AVAILABLE' and b.status",
                instead: "where c.status in ('AVAILABLE', 'ASSIGNED') and b.status",
            },
            Edit {
                file: "assign_named.sql",
                guard: "and c.code = d.code and c.status = 'AVAILABLE'",
                instead: "and c.code = d.code",
            },
        ],
    },
    Bug {
        name: "stale_lock",
        does: "a redemption is not fenced by the lock that its caller names",
        edits: &[Edit {
            file: "redeem.sql",
            guard: "c.lock_id = i.lock_id and c.locked_until > now()",
            instead: "(i.lock_id is not null)",
        }],
    },
    Bug {
        name: "repeated_key",
        does: "an idempotency key is not kept with a redemption",
        edits: &[Edit {
            file: "redeem.sql",
            guard: "from answer where key is not null",
            instead: "from answer where false",
        }],
    },
    Bug {
        name: "foreign_job",
        does: "a job is shown to another business",
        edits: &[Edit {
            file: "job.sql",
            guard: "where business_id = $1 and id = $2",
            instead: "where (business_id = $1 or true) and id = $2",
        }],
    },
    Bug {
        name: "kept_lease",
        does: "a chunk of a dead worker is not taken over",
        edits: &[Edit {
            file: "claim_chunk.sql",
            guard: "or c.status = 'RUNNING' and c.lease_until <= now()",
            instead: "or false",
        }],
    },
];

/// The bug of this name.
pub fn find(name: &str) -> Option<&'static Bug> {
    BUGS.iter().find(|bug| bug.name == name)
}

impl Bug {
    /// The files of the statements that it changes.
    pub fn files(&self) -> impl Iterator<Item = &'static str> {
        self.edits.iter().map(|edit| edit.file)
    }

    /// A statement without the guard; none if it has none of its texts.
    pub(crate) fn taken_out_of(&self, statement: &str) -> Option<String> {
        let mut changed = statement.to_owned();
        for Edit { guard, instead, .. } in self.edits {
            changed = changed.replace(guard, instead);
        }
        (changed != statement).then_some(changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;

    use super::BUGS;

    #[test]
    fn each_bug_takes_out_what_its_statements_have_and_no_other_statement() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src/store/sql");
        for bug in BUGS {
            let named: HashSet<&str> = bug.files().collect();
            for entry in std::fs::read_dir(&folder).expect("the statements have a folder") {
                let path = entry.expect("a file").path();
                let name = path.file_name().and_then(|name| name.to_str()).expect("a plain name");
                let statement = std::fs::read_to_string(&path).expect("a statement");
                for edit in bug.edits.iter().filter(|edit| edit.file == name) {
                    assert!(statement.contains(edit.guard), "{name} has no {:?}", edit.guard);
                }
                let changes = bug.taken_out_of(&statement).is_some();
                assert_eq!(changes, named.contains(name), "{}: {name}", bug.name);
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
