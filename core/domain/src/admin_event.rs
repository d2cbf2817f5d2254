//! The words of admin events, which triggers of the database write.

/// The kinds of changed objects.
pub const SUBJECTS: [&str; 9] =
    ["BOOK", "API_KEY", "USER", "MEMBERSHIP", "LOGIN", "POOL", "JOB", "DEAD_LETTER", "WEBHOOK"];

/// The kinds of changes. `CREATE`, `UPDATE` and `DELETE` are those of most objects.
pub const ACTIONS: [&str; 18] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    // Books whose `expiresAt` has passed.
    "EXPIRE",
    // Keys, accounts and webhooks.
    "REVOKE",
    "CHANGE_SECRET",
    "CHANGE_PASSWORD",
    // Logins.
    "START",
    "END",
    // Users of pools.
    "ADD_USERS",
    "CHANGE_USERS",
    "REMOVE_USERS",
    // Jobs.
    "SUBMIT",
    "CANCEL",
    "SUCCEED",
    "FAIL",
    "RETRY",
    "DISCARD",
];
