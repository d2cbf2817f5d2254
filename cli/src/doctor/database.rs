//! Checks the database: the configured one, or the private one and its Postgres programs.

use cuponera_platform::config::Settings;
use cuponera_postgres::{Binaries, DataFolderStatus, inspect};
use cuponera_store::{Examined, SchemaState, ServerState, Untrimmed, examine};
use secrecy::ExposeSecret;

use super::connections;
use super::report::Finding;

const CHECK: &str = "database";
const FIX_NAMED: &str =
    "check that it runs, and the host, port, user, password and database of CUPONERA_DATABASE_URL";
const FIX_CLUSTER: &str =
    "`up` cannot start until this is fixed; CUPONERA_DATABASE_URL can name another server";
const FIX_PRIVATE: &str = "start `up`; if that does not help, read postgres.log in the data folder";
/// The oldest supported Postgres, as `server_version_num`.
const OLDEST_VERSION: i32 = 150_000;
/// Clock skew from which a warning is given, and from which tokens expire too early or too late (a fault).
const NOTED_SKEW_SECONDS: i64 = 2;
const BAD_SKEW_SECONDS: i64 = 60;

/// Checks the database that `up` would use.
pub(super) async fn database(settings: &Settings) -> Vec<Finding> {
    match &settings.database_url {
        Some(url) => named(settings, url.expose_secret(), FIX_NAMED).await,
        None => private(settings).await,
    }
}

async fn private(settings: &Settings) -> Vec<Finding> {
    let inspect = match inspect(&settings.data_dir) {
        Ok(inspect) => inspect,
        Err(error) => return vec![programs(None), Finding::fault("cluster", error.to_string(), FIX_CLUSTER)],
    };
    let mut findings = vec![programs(inspect.cluster), cluster(&inspect)];
    if let Some(server) = &inspect.server {
        findings.extend(named(settings, &server.url(cuponera_store::PRIVATE_DATABASE), FIX_PRIVATE).await);
    }
    findings
}

/// Checks for Postgres programs of the cluster's version.
fn programs(cluster: Option<u32>) -> Finding {
    const CHECK: &str = "postgres";
    let binaries = match Binaries::find() {
        Ok(binaries) => binaries,
        Err(error) => {
            return Finding::fault(
                CHECK,
                error.to_string(),
                "or use a running server: set CUPONERA_DATABASE_URL",
            );
        }
    };
    let wanted = |major: u32| cluster.is_none_or(|cluster| cluster == major);
    if let Some((folder, major)) = binaries.found().find(|(_, major)| wanted(*major)) {
        return Finding::good(CHECK, format!("version {major} in {}", folder.display()));
    }
    let cluster = cluster.unwrap_or_default();
    let found: Vec<_> = binaries.found().map(|(_, major)| major.to_string()).collect();
    let detail = format!("the cluster needs version {cluster}; found {}", found.join(", "));
    Finding::fault(CHECK, detail, format!("install Postgres {cluster}, or set PG_BIN to its programs"))
}

fn cluster(inspect: &DataFolderStatus) -> Finding {
    let owner = if inspect.is_owned { "a cuponera uses it" } else { "the next `up` adopts it" };
    let detail = match (inspect.cluster, &inspect.server) {
        (None, _) => "none yet; `up` creates it".to_owned(),
        (Some(major), None) => format!("version {major}; its server does not run, `up` starts it"),
        (Some(major), Some(server)) => {
            format!(
                "version {major}; its server runs on port {} (process {}), and {owner}",
                server.port, server.pid
            )
        }
    };
    Finding::good("cluster", detail)
}

async fn named(settings: &Settings, url: &str, fix: &str) -> Vec<Finding> {
    match examine(url).await {
        Ok(Examined { server: state, schema: steps, untrimmed, clock_ahead_seconds }) => {
            let mut findings = vec![
                server(&state),
                durability(&state),
                room(settings, &state),
                clock(clock_ahead_seconds),
                rights(&state),
                schema(steps),
            ];
            findings.extend(untrimmed.map(identifiers));
            findings
        }
        Err(error) => vec![Finding::fault(CHECK, error.to_string(), fix)],
    }
}

fn server(state: &ServerState) -> Finding {
    let version = format!("Postgres {}.{}", state.version / 10_000, state.version % 10_000);
    if state.version < OLDEST_VERSION {
        return Finding::fault(CHECK, format!("{version} is too old"), "use Postgres 15 or newer");
    }
    if state.is_replica {
        return Finding::fault(
            CHECK,
            format!("{version}, but a read-only replica"),
            "use the primary server",
        );
    }
    Finding::good(CHECK, format!("{version} answers"))
}

fn durability(state: &ServerState) -> Finding {
    const CHECK: &str = "durability";
    let detail = format!("fsync = {}, synchronous_commit = {}", state.fsync, state.synchronous_commit);
    let is_durable = state.fsync == "on" && state.synchronous_commit != "off";
    if is_durable {
        return Finding::good(CHECK, detail);
    }
    Finding::fault(CHECK, detail, "turn both on: without them a power failure loses confirmed redemptions")
}

fn room(settings: &Settings, state: &ServerState) -> Finding {
    const CHECK: &str = "connections";
    let needed = connections(settings);
    let detail = format!("at most {needed} of the server's {}", state.connections);
    if i64::from(needed) <= i64::from(state.connections) {
        return Finding::good(CHECK, detail);
    }
    let fix = "raise max_connections, or lower CUPONERA_DATABASE_POOL and CUPONERA_WORKER_CONCURRENCY";
    Finding::fault(CHECK, detail, fix)
}

fn clock(skew_seconds: i64) -> Finding {
    const CHECK: &str = "clock";
    let fix = "synchronize both clocks with NTP";
    let detail = match skew_seconds {
        0 => "equal to this machine's".to_owned(),
        ahead @ 1.. => format!("{ahead} s ahead of this machine's"),
        behind => format!("{} s behind this machine's", -behind),
    };
    match skew_seconds.abs() {
        0..NOTED_SKEW_SECONDS => Finding::good(CHECK, detail),
        NOTED_SKEW_SECONDS..BAD_SKEW_SECONDS => Finding::warning(CHECK, detail, fix),
        _ => Finding::fault(CHECK, detail, fix),
    }
}

fn rights(state: &ServerState) -> Finding {
    const CHECK: &str = "rights";
    match (state.may_create, state.may_use_temporary) {
        (true, true) => Finding::good(CHECK, "the user may create tables"),
        (false, _) => Finding::fault(
            CHECK,
            "the user may not create tables",
            "GRANT CREATE ON SCHEMA public TO the user",
        ),
        (true, false) => {
            let fix = "GRANT TEMPORARY ON DATABASE … TO the user";
            Finding::fault(CHECK, "the user may not create temporary tables, which imports need", fix)
        }
    }
}

fn schema(state: SchemaState) -> Finding {
    const CHECK: &str = "schema";
    match state {
        SchemaState::Absent { known } => {
            Finding::good(CHECK, format!("none yet; `up` or `migrate` creates it, up to step {known}"))
        }
        SchemaState::Older { found, known, .. } => {
            Finding::good(CHECK, format!("at step {found}; `up` or `migrate` upgrades it to step {known}"))
        }
        SchemaState::Current { known } => {
            Finding::good(CHECK, format!("at step {known}, the newest that this program knows"))
        }
        SchemaState::Newer { found, known } => {
            let detail = format!("at step {found}; this program knows {known} and runs on it");
            Finding::warning(CHECK, detail, "use the newer program that upgraded it")
        }
        SchemaState::Broken { step } => {
            let fix = "undo what it changed, then delete its row from _sqlx_migrations";
            Finding::fault(CHECK, format!("step {step} was started and not finished"), fix)
        }
        SchemaState::Foreign { step } => {
            let detail = format!("its history differs from this program's from step {step} on");
            Finding::fault(CHECK, detail, "use the program that created it")
        }
        SchemaState::Closed => {
            let fix = "connect as the user that created it, or give its tables to this user (REASSIGN OWNED)";
            let detail = "another user created it, and this user may not read it";
            Finding::fault(CHECK, detail, fix)
        }
    }
}

/// Counts ids and emails stored untrimmed. New ones are trimmed on input; those stored earlier are not changed.
fn identifiers(stored: Untrimmed) -> Finding {
    const CHECK: &str = "identifiers";
    if (stored.user_ids, stored.emails) == (0, 0) {
        return Finding::good(CHECK, "all user ids and emails are stored trimmed");
    }
    let Untrimmed { user_ids, accounts, holders, lost_user_ids, emails, lost_emails } = stored;
    let detail = format!(
        "user ids stored with blanks or hidden characters: {user_ids}, of which {accounts} have an account and {holders} hold \
         codes; emails: {emails}. A call or a login finds each by its trimmed form"
    );
    if (lost_user_ids, lost_emails) == (0, 0) {
        return Finding::good(CHECK, detail);
    }
    let detail = format!(
        "{detail}, except {lost_user_ids} user ids and {lost_emails} emails: another one is equal when trimmed, or \
         trimming leaves a hidden character. Users who can log in can still act on their own codes"
    );
    let fix = "give each an id of its own in user_account, coupon, user_quota and redemption in one transaction, and delete \
               its row of untrimmed_user_id; give each email to its account with SQL, and delete its row of untrimmed_email";
    Finding::warning(CHECK, detail, fix)
}
