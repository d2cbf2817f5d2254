//! The words of admin events. Triggers of the database write them, except for `ERASE`, `ARCHIVE` and `ABANDON`.

use crate::coupon::state;

/// The kinds of changed objects.
pub const SUBJECTS: [&str; 11] = [
    "BOOK",
    // A code that was created alone, and changes of the limits or the suspension of any code: the id of the subject is the code.
    "COUPON",
    "API_KEY",
    "USER",
    "MEMBERSHIP",
    "LOGIN",
    "POOL",
    "JOB",
    "DEAD_LETTER",
    "WEBHOOK",
    "EVENTS",
];

/// The kinds of changes. `CREATE`, `UPDATE` and `DELETE` are those of most objects.
pub const ACTIONS: [&str; 21] = [
    "CREATE",
    "UPDATE",
    "DELETE",
    // Books whose `expiresAt` has passed.
    "EXPIRE",
    // Keys, accounts and webhooks.
    "REVOKE",
    "CHANGE_SECRET",
    "CHANGE_PASSWORD",
    // Users: the id of the subject is the pseudonym.
    "ERASE",
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
    // Events of a month: the id of the subject is the month.
    "ARCHIVE",
    "ABANDON",
];

/// The actions of all events: those of codes, then the others of admin events.
pub fn actions_of_all_events() -> impl Iterator<Item = &'static str> + Clone {
    let others = ACTIONS.into_iter().filter(|action| !state::ACTIONS.contains(action));
    state::ACTIONS.into_iter().chain(others)
}
