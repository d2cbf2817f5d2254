//! `with-database -- COMMAND ARGS…`: runs a command with `DATABASE_URL` naming a fresh database that has the schema, on
//! the server of the tests; the database goes with the command.

use std::process::{Command, ExitCode};

use cuponera_testkit::TestDatabase;

#[tokio::main]
async fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1).skip_while(|word| word == "--");
    let Some(program) = words.next() else {
        eprintln!("with-database: name a command, as in: with-database -- cargo check");
        return ExitCode::FAILURE;
    };
    let database = TestDatabase::create().await;
    let status = Command::new(program).args(words).env("DATABASE_URL", database.url()).status();
    match status {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("with-database: the command cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}
