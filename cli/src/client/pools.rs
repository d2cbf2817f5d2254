//! `cuponera pools`: creates, lists, fills and deletes user pools; finds a pool by id or by name.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::exchange::Request;
use super::fault::ClientError;
use super::import::{Upload, save_errors, source_of};
use super::jobs::check_output;
use super::show::{CellFormat, Column, card, count, plain, table, text};
use super::watch::{self, Job, Submitted};
use super::{Client, Paging, RunCommand, print};

pub(super) const HELP: &str = help!(
    "Examples:
  cuponera pools create Newsletter --description 'Subscribers of the newsletter'
  cuponera pools add Newsletter ana eva
  cuponera pools import Newsletter users.csv
  zcat users.csv.gz | cuponera pools import Newsletter -
  cuponera pools users Newsletter --prefix an

A pool is given by its id or its exact name. If the first record of a file has a column such as userId, it is the
header; otherwise the first column has the users."
);

/// The page size of a look-up by name: the maximum of the API.
const LOOKUP_PAGE: u32 = 500;

/// Options of `pools`.
#[derive(Debug, Args)]
pub(crate) struct Pools {
    #[command(subcommand)]
    verb: PoolVerb,
}

#[derive(Debug, Subcommand)]
enum PoolVerb {
    /// List pools, newest first
    List(Paging),
    /// Show a pool
    Show(Named),
    /// Create an empty pool
    Create(Create),
    /// Change the name or the description of a pool
    Change(ChangePool),
    /// Delete a pool; coupons that were distributed to its users stay as they are
    Delete(Named),
    /// List the users of a pool
    Users(Users),
    /// Add users to a pool
    Add(Several),
    /// Remove users from a pool
    Remove(Several),
    /// Add the users of a CSV file to a pool
    Import(Import),
}

/// A pool.
#[derive(Debug, Args)]
struct Named {
    /// The pool's id, or its exact name
    pool: String,
}

#[derive(Debug, Args)]
struct Create {
    /// The name, unique within the business
    name: String,
    /// The description
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Args)]
struct ChangePool {
    #[command(flatten)]
    named: Named,
    /// The new name
    #[arg(long)]
    name: Option<String>,
    /// The new description; an empty one removes it
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
}

#[derive(Debug, Args)]
struct Users {
    #[command(flatten)]
    named: Named,
    /// Only users whose ids begin with this text
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    #[command(flatten)]
    paging: Paging,
}

/// A pool, and users.
#[derive(Debug, Args)]
struct Several {
    #[command(flatten)]
    named: Named,
    /// The users
    #[arg(required = true)]
    users: Vec<String>,
}

#[derive(Debug, Args)]
struct Import {
    #[command(flatten)]
    named: Named,
    /// The file; - reads standard input
    file: PathBuf,
    /// The delimiter: , ; | or tab; detected if absent
    #[arg(long, value_name = "CHARACTER")]
    delimiter: Option<String>,
    /// Whether the file has a header; detected if absent
    #[arg(long, value_name = "true|false")]
    header: Option<bool>,
    /// The column of users, by name or by number from 1; detected if absent
    #[arg(long, value_name = "COLUMN")]
    user_column: Option<String>,
    /// Do not wait for the job
    #[arg(long)]
    no_wait: bool,
    /// Write the rejected rows to this file, as CSV
    #[arg(long, value_name = "FILE", conflicts_with = "no_wait")]
    errors: Option<PathBuf>,
}

impl RunCommand for Pools {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        match self.verb {
            PoolVerb::List(paging) => list(client, paging).await,
            PoolVerb::Show(named) => {
                let id = find(client, &named.pool).await?;
                let pool = client.ask(Request::get(&["user-pools", &id])).await?;
                client.show(&pool, pool_card)
            }
            PoolVerb::Create(create) => {
                let mut body = json!({"name": create.name});
                if let Some(description) = create.description {
                    body["description"] = description.into();
                }
                let pool = client.ask(Request::post(&["user-pools"], body)).await?;
                client.show(&pool, |pool| {
                    format!(
                        "{}\n\nAdd users with `cuponera pools add` or `cuponera pools import`.",
                        pool_card(pool)
                    )
                })
            }
            PoolVerb::Change(change) => change.run(client).await,
            PoolVerb::Delete(named) => {
                let id = find(client, &named.pool).await?;
                client.ask(Request::delete(&["user-pools", &id])).await?;
                if client.json {
                    Ok(())
                } else {
                    print::print(&format!("{} is deleted.", plain(&named.pool)))
                }
            }
            PoolVerb::Users(users) => users.run(client).await,
            PoolVerb::Add(several) => {
                let id = find(client, &several.named.pool).await?;
                let body = json!({"userIds": several.users});
                let added = client.ask(Request::post(&["user-pools", &id, "users"], body)).await?;
                client.show(&added, |added| {
                    let number = |name: &str| count(added[name].as_u64().unwrap_or_default());
                    format!(
                        "{} added, {} already in the pool, {} invalid",
                        number("added"),
                        number("alreadyMembers"),
                        number("invalid")
                    )
                })
            }
            PoolVerb::Remove(several) => {
                let id = find(client, &several.named.pool).await?;
                let body = json!({"userIds": several.users});
                let removed =
                    client.ask(Request::post(&["user-pools", &id, "users", "remove"], body)).await?;
                client.show(&removed, |removed| {
                    format!("{} removed", count(removed["removed"].as_u64().unwrap_or_default()))
                })
            }
            PoolVerb::Import(import) => import.run(client).await,
        }
    }
}

async fn list(client: &Client, paging: Paging) -> Result<(), ClientError> {
    const COLUMNS: [Column; 4] = [
        Column("ID", "/id", CellFormat::Text),
        Column("NAME", "/name", CellFormat::Text),
        Column("USERS", "/memberCount", CellFormat::Count),
        Column("CREATED", "/createdAt", CellFormat::Time),
    ];
    let page = client.ask_page(Request::get(&["user-pools"]), paging).await?;
    client.show_page(&page, |items| table(&COLUMNS, items))
}

fn pool_card(pool: &Value) -> String {
    const FIELDS: [Column; 6] = [
        Column("Name", "/name", CellFormat::Text),
        Column("Id", "/id", CellFormat::Text),
        Column("Description", "/description", CellFormat::Text),
        Column("Users", "/memberCount", CellFormat::Count),
        Column("Created", "/createdAt", CellFormat::Time),
        Column("Updated", "/updatedAt", CellFormat::Time),
    ];
    card(&FIELDS, pool)
}

impl ChangePool {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let id = find(client, &self.named.pool).await?;
        let mut body = json!({});
        if let Some(name) = self.name {
            body["name"] = name.into();
        }
        if let Some(description) = self.description {
            body["description"] = if description.is_empty() { Value::Null } else { description.into() };
        }
        let pool = client.ask(Request::patch(&["user-pools", &id], body)).await?;
        client.show(&pool, pool_card)
    }
}

impl Users {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        const COLUMNS: [Column; 2] =
            [Column("USER", "/userId", CellFormat::Text), Column("ADDED", "/addedAt", CellFormat::Time)];
        let id = find(client, &self.named.pool).await?;
        let path = ["user-pools", &id, "users"];
        let page = client.ask_page(Request::get(&path).with("prefix", self.prefix), self.paging).await?;
        client.show_page(&page, |items| table(&COLUMNS, items))
    }
}

impl Import {
    async fn run(self, client: &Client) -> Result<(), ClientError> {
        let (source, size) = source_of(&self.file).await?;
        if let Some(errors) = &self.errors {
            check_output(errors)?;
        }
        let id = find(client, &self.named.pool).await?;
        client.on_interrupt(
            "stopped; if the whole file was received, `cuponera jobs list` shows its job".to_owned(),
        );
        let header = self.header.map(|header| header.to_string());
        let given = [("delimiter", self.delimiter), ("header", header), ("userColumn", self.user_column)];
        let query = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        let path = ["user-pools", &id, "users"];
        let job = Upload::new(client, &path, query, source, size).send().await?;
        let submitted = Submitted { job, waits: !self.no_wait };
        let job = watch::wait_for_job(client, submitted, |job| words(job, self.errors.is_some())).await?;
        match &self.errors {
            Some(errors) => save_errors(client, &job, errors).await,
            None => Ok(()),
        }
    }
}

/// `1,200 users added in 0.3 s, 3 already in the pool; 2 rows rejected: see …`
fn words(job: &Job, has_errors_file: bool) -> String {
    let number = |name: &str| job.result(name);
    let rejected = number("duplicatesCount") + number("invalidRowsCount");
    let mut line = format!(
        "{} users added{}, {} already in the pool, {} rows rejected",
        count(number("addedCount")),
        job.in_time(),
        count(number("alreadyMembersCount")),
        count(rejected)
    );
    if rejected > 0 && !has_errors_file {
        line = format!("{line}: see cuponera jobs errors {}", job.id());
    }
    line
}

/// Finds the id of a pool given by its id or its exact name.
pub(super) async fn find(client: &Client, pool: &str) -> Result<String, ClientError> {
    if let Ok(id) = pool.trim().parse::<Uuid>() {
        return Ok(id.to_string());
    }
    let mut cursor = None;
    loop {
        let ask = Request::get(&["user-pools"]).with("limit", Some(LOOKUP_PAGE)).with("cursor", cursor);
        let page = client.ask(ask).await?;
        if let Some(found) = page.items().iter().find(|item| item["name"] == pool) {
            return Ok(text(found, "/id"));
        }
        cursor = page.next_cursor();
        if cursor.is_none() {
            let name = plain(pool);
            return Err(ClientError::not_found(format!(
                "no pool is named {name:?}; see `cuponera pools list`"
            )));
        }
    }
}
