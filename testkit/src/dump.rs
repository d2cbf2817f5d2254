//! Dumps of installations of earlier versions, made by `scripts/dump-installation.sh`. Upgrade tests start
//! from them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection, raw_sql};

use crate::TestDatabase;

/// An installation, as an earlier version left it.
#[derive(Debug)]
pub struct Dump {
    /// The data that its clients hold: passwords, tokens, keys, requests with their stored answers, ids.
    pub facts: Value,
    sql: String,
}

impl Dump {
    /// The names of all dumps: `v0.1.0-0007` is version 0.1.0 with migrations 1 to 7.
    pub fn names() -> Vec<String> {
        let files = fs::read_dir(folder()).expect("the folder of the dumps cannot be read");
        let name = |file: fs::DirEntry| Some(file.file_name().to_str()?.strip_suffix(".sql.gz")?.to_owned());
        let mut names: Vec<_> = files.filter_map(|file| name(file.ok()?)).collect();
        names.sort();
        names
    }

    /// Reads a dump.
    pub fn read(name: &str) -> Self {
        let open = |suffix| {
            let path = folder().join(format!("{name}{suffix}"));
            fs::File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let facts = serde_json::from_reader(open(".json")).expect("the facts of a dump are JSON");
        let mut sql = String::new();
        GzDecoder::new(open(".sql.gz")).read_to_string(&mut sql).expect("a dump is compressed text");
        Self { facts, sql }
    }

    /// Writes the installation's files below a folder.
    pub fn write_files(&self, folder: &Path) {
        for (name, content) in self.facts["files"].as_object().expect("a dump has files") {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().expect("a file is in a folder"))
                .expect("creating a folder failed");
            fs::write(path, content.as_str().expect("files are text")).expect("writing a file failed");
        }
    }
}

impl TestDatabase {
    /// Creates a database from the dump, including its schema. Shifts all times to the present.
    pub async fn from_dump(dump: &Dump) -> Self {
        let database = Self::create_empty().await;
        // A separate connection: a dump changes the settings of its session.
        let mut alone =
            PgConnection::connect(database.url()).await.expect("the new database does not answer");
        run(&mut alone, &dump.sql).await;
        alone.close().await.expect("closing the connection failed");
        let mut alone =
            PgConnection::connect(database.url()).await.expect("the new database does not answer");
        let made_at = dump.facts["at"].as_str().expect("a dump has its time");
        run(&mut alone, &MOVE_TIMES.replace("{made_at}", made_at)).await;
        alone.close().await.expect("closing the connection failed");
        database
    }
}

/// The partitions of the current months are created first: in these versions, rows of a month in the
/// default partition prevent the creation of its partition.
const MOVE_TIMES: &str = "
    select coupon_event_ensure_months(3);
    do $$
    declare t record;
    begin
      for t in
        select c.table_name, string_agg(format('%1$I = %1$I + (now() - %2$L::timestamptz)', c.column_name, '{made_at}'), ', ') as moves
        from information_schema.columns c join pg_class r on r.oid = format('public.%I', c.table_name)::regclass
        where c.table_schema = 'public' and c.data_type = 'timestamp with time zone' and r.relkind in ('r', 'p')
          and not r.relispartition and c.table_name <> '_sqlx_migrations'
        group by c.table_name
      loop
        execute format('update %I set %s', t.table_name, t.moves);
      end loop;
    end $$;";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dumps")
}

async fn run(connection: &mut PgConnection, sql: &str) {
    raw_sql(AssertSqlSafe(sql)).execute(connection).await.expect("restoring a dump failed");
}
