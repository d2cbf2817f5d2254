//! Runs a command with a new, migrated database on the test server: `with-database -- COMMAND ARGS…`.
//! `DATABASE_URL` is its URL. The database is dropped after the command.

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};

use cuponera_tools::URL_VARIABLE;
use sqlx::migrate::Migrator;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, query};

const MIGRATIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprintln!("with-database: {error}");
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let program = words.next().ok_or("name a command, as in: with-database -- cargo check")?;
    let server = std::env::var(URL_VARIABLE).map_err(|_| format!("{URL_VARIABLE} is not set"))?;
    let server: PgConnectOptions = server.parse()?;
    let name = format!("with_database_{}", std::process::id());
    let (make, drop) = (
        format!("create database {name} template template0"),
        format!("drop database if exists {name} with (force)"),
    );
    let mut admin = server.connect().await?;
    // Left by a killed process with the same id.
    query(AssertSqlSafe(drop.clone())).execute(&mut admin).await?;
    query(AssertSqlSafe(make)).execute(&mut admin).await?;
    let database = server.database(&name);
    let done = async {
        let mut connection = database.connect().await?;
        Migrator::new(Path::new(MIGRATIONS)).await?.run(&mut connection).await?;
        connection.close().await?;
        let url = database.to_url_lossy().to_string();
        Ok(Command::new(program).args(words).env("DATABASE_URL", url).status()?)
    }
    .await;
    query(AssertSqlSafe(drop)).execute(&mut admin).await?;
    done.map(|status| if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
