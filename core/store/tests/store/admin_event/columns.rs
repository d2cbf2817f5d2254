//! Which tables and columns are recorded: a new column is recorded, or listed here as one that is not.

use cuponera_testkit::TestDatabase;
use sqlx::{query_as, query_scalar};

/// The columns that are not recorded: keys, secrets, and what changes without a decision of a person.
const UNRECORDED: &[(&str, &[&str])] = &[
    ("api_key", &["id", "business_id", "secret_hash", "hint", "created_at", "last_used_at"]),
    // A trigger computes the minutes from the schedule.
    (
        "coupon_book",
        &[
            "id",
            "business_id",
            "next_position",
            "created_at",
            "updated_at",
            "expiry_recorded",
            "schedule_minutes",
        ],
    ),
    (
        "job",
        &[
            "id",
            "business_id",
            "work",
            "ordered",
            "chunks_total",
            "chunks_done",
            "chunks_failed",
            "result",
            "attempts",
            "created_at",
            "started_at",
            "finished_at",
            "heartbeat_at",
            "claimed_at",
            "warnings",
            "trace_parent",
            "discarded_at",
        ],
    ),
    ("login", &["id", "business_id", "created_at", "last_used_at"]),
    ("membership", &["account_id", "business_id", "created_at"]),
    // A trigger copies the others to membership.
    (
        "user_account",
        &["id", "business_id", "password_hash", "role", "user_id", "created_at", "updated_at", "disabled_at"],
    ),
    ("user_pool", &["id", "business_id", "member_count", "created_at", "updated_at"]),
    (
        "webhook",
        &[
            "id",
            "business_id",
            "secret",
            "old_secret",
            "old_secret_until",
            "since_epoch",
            "since_snapshot",
            "failing_since",
            "last_delivery_id",
            "last_attempt_at",
            "created_at",
            "updated_at",
        ],
    ),
];

/// Invariant I-63.
#[tokio::test]
async fn each_column_of_a_recorded_table_is_recorded_or_listed_as_unrecorded() {
    let database = TestDatabase::create().await;
    let recorded: Vec<(String, String)> = query_as(
        "select pg_typeof.typname::text, p.prosrc from pg_proc p join pg_type pg_typeof on pg_typeof.oid = p.proargtypes[0]
         where p.proname = 'admin_values' order by 1",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let tables: Vec<&str> = recorded.iter().map(|(table, _)| table.as_str()).collect();
    assert_eq!(tables, UNRECORDED.iter().map(|(table, _)| *table).collect::<Vec<_>>());
    for ((table, body), (_, unrecorded)) in recorded.iter().zip(UNRECORDED) {
        let columns: Vec<String> = query_scalar(
            "select attname::text from pg_attribute where attrelid = $1::text::regclass and attnum > 0 and not attisdropped",
        )
        .bind(table)
        .fetch_all(database.pool())
        .await
        .unwrap();
        for column in &columns {
            let words = body.split(|char: char| !char.is_alphanumeric() && char != '_' && char != '.');
            let is_recorded = words.filter_map(|word| word.split_once('.')).any(|(_, name)| name == column);
            let is_unrecorded = unrecorded.contains(&column.as_str());
            assert!(
                is_recorded != is_unrecorded,
                "{table}.{column}: recorded {is_recorded}, listed {is_unrecorded}"
            );
        }
        assert!(unrecorded.iter().all(|name| columns.iter().any(|column| column == name)), "{table}");
    }
}

/// Invariant I-63. Assigning, locking and redeeming write to none of these tables.
#[tokio::test]
async fn only_the_tables_of_the_administration_have_triggers_of_admin_events() {
    let database = TestDatabase::create().await;
    let tables: Vec<String> = query_scalar(
        "select distinct tgrelid::regclass::text from pg_trigger where tgname like 'admin_event%' order by 1",
    )
    .fetch_all(database.pool())
    .await
    .unwrap();
    let expected = [
        "api_key",
        "coupon_book",
        "job",
        "login",
        "membership",
        "outbox",
        "pool_member",
        "user_account",
        "user_pool",
        "webhook",
    ];
    assert_eq!(tables, expected);
}
