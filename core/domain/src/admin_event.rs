//! The words of admin events, which triggers of the database write.

/// The kinds of changed objects.
pub const SUBJECTS: [&str; 8] =
    ["BOOK", "API_KEY", "USER", "MEMBERSHIP", "LOGIN", "POOL", "JOB", "DEAD_LETTER"];

/// The kinds of changes. `CREATE`, `UPDATE` and `DELETE` are those of most objects.
pub const ACTIONS: [&str; 17] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    // Keys and accounts.
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
