//! The file of an export has exactly the rows of its plan: events and redemptions of its snapshot, and each code once.

use std::collections::{BTreeSet, HashSet};

use futures::FutureExt;
use sqlx::{FromRow, PgConnection, query_as, query_scalar};

use super::{Oracle, Verdict};
use crate::Result;
use crate::evidence::Evidence;
use crate::world::Caller;

pub(super) const EXPORTS: Oracle =
    Oracle { name: "exports", check: |evidence, database| check(evidence, database).boxed_local() };

/// Maximum number of files to read.
const MAX_FILES: i64 = 40;
/// Maximum number of differences in a violation.
const SHOWN: usize = 5;

/// A succeeded export with its plan.
#[derive(Debug, FromRow)]
struct Export {
    id: String,
    business: String,
    book: Option<String>,
    kind: String,
    transactions: String,
}

async fn check(evidence: &Evidence<'_>, database: &mut PgConnection) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let exports =
        "select id::text, business_id::text as business, book_id::text as book, work ->> 'export' as kind,
                          work -> 'snapshot' ->> 'transactions' as transactions
                   from job where kind = 'EXPORT' and status = 'SUCCEEDED' order by id limit $1";
    let exports: Vec<Export> = query_as(exports).bind(MAX_FILES).fetch_all(&mut *database).await?;
    let http = reqwest::Client::builder().no_proxy().build()?;
    for export in &exports {
        let file = file_of(evidence, &http, export).await?;
        let (_header, lines) = file.split_once('\n').ok_or("a file without a header")?;
        let rows: Vec<&str> = lines.lines().map(|line| line.split(',').next().unwrap_or(line)).collect();
        let found: BTreeSet<&str> = rows.iter().copied().collect();
        verdict.check(found.len() == rows.len(), || format!("a row is twice in the file of {export:?}"));
        let expected = expected(export, database).await?;
        let missing: Vec<_> =
            expected.must.iter().filter(|row| !found.contains(row.as_str())).take(SHOWN).collect();
        verdict.check(missing.is_empty(), || format!("the file of {export:?} lacks {missing:?}"));
        let more: Vec<_> = found.iter().filter(|row| !expected.may.contains(**row)).take(SHOWN).collect();
        verdict.check(more.is_empty(), || format!("the file of {export:?} also has {more:?}"));
    }
    Ok(verdict)
}

/// The first cells of the rows that a file must have, and of those that it may have.
struct Expected {
    must: Vec<String>,
    may: HashSet<String>,
}

async fn expected(export: &Export, database: &mut PgConnection) -> Result<Expected> {
    let Export { business, book, transactions, .. } = export;
    let (must, may) = match export.kind.as_str() {
        "EVENTS" => ("select id::text from coupon_event e where e.business_id = $1::text::uuid
                      and ($2::text is null or e.book_id = $2::text::uuid) and pg_visible_in_snapshot(e.tx, $3::text::pg_snapshot)", None),
        "REDEMPTIONS" => ("select id::text from redemption r where r.business_id = $1::text::uuid
                           and ($2::text is null or r.book_id = $2::text::uuid) and pg_visible_in_snapshot(r.tx, $3::text::pg_snapshot)", None),
        // A code whose row was not changed since existed at the plan if the transaction that wrote it is in the snapshot.
        _ => ("select code from coupon c where c.business_id = $1::text::uuid and ($2::text is null or c.book_id = $2::text::uuid)
               and pg_visible_in_snapshot(c.xmin::text::xid8, $3::text::pg_snapshot)",
              Some("select code from coupon c where c.business_id = $1::text::uuid
                    and ($2::text is null or c.book_id = $2::text::uuid) and $3::text is not null")),
    };
    let mut read = async |statement: &'static str| {
        let rows = query_scalar::<_, String>(statement).bind(business).bind(book).bind(transactions);
        rows.fetch_all(&mut *database).await
    };
    let must = read(must).await?;
    let may = match may {
        Some(statement) => read(statement).await?.into_iter().collect(),
        None => must.iter().cloned().collect(),
    };
    Ok(Expected { must, may })
}

async fn file_of(evidence: &Evidence<'_>, http: &reqwest::Client, export: &Export) -> Result<String> {
    let tenant = evidence.tenant(&export.business).ok_or("an export of an unknown business")?;
    let (name, value) = evidence.world.credentials(&Caller::Service(tenant));
    let api = &evidence.installation.apis[0];
    let path = format!("http://{api}/api/v1/jobs/{}/file?redirect=false", export.id);
    let answer = http.get(path).header(name, value).send().await?;
    let (status, text) = (answer.status(), answer.text().await?);
    if status.is_success() { Ok(text) } else { Err(format!("no file of {export:?}: {status} {text}").into()) }
}
