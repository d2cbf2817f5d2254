//! The part of a worker that tests of the store need: claiming a chunk, and generating codes.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use cuponera_domain::coupon::pattern::Pattern;
use cuponera_domain::coupon::space::{CodeSpace, Codes};
use cuponera_domain::csv::{ColumnLabel, Delimiter, ReadAs};
use cuponera_domain::id::{BookId, BusinessId};
use cuponera_domain::job::generate::Edge;
use cuponera_domain::job::{Job, JobKind, Task};
use cuponera_store::{BulkOutcome, Claim, Result, Store};
use futures::future::BoxFuture;

/// Longer than any test.
const LEASE: Duration = Duration::from_mins(10);

/// Generates codes as in production: submits a job, claims its chunks and finishes them.
pub async fn generate(
    store: &Store,
    business: BusinessId,
    book: BookId,
    pattern: &str,
    quantity: u64,
) -> Job {
    let pattern = Pattern::parse(pattern).expect("the pattern does not parse");
    let job = store.submit_generation(None, business, "service:test", book, &pattern, quantity).await;
    let job = job.expect("submitting the job failed").outcome.expect("the generation was rejected");
    while let Some(claim) = claim(store, "testkit").await {
        assert_eq!(
            work_generation(store, &claim).await,
            BulkOutcome::Finished,
            "finishing a chunk without a conflict"
        );
    }
    store.get_job(business, job.id).await.expect("the job was not found")
}

/// Claims the next chunk of any kind, with a lease longer than the test.
pub async fn claim(store: &Store, worker: &str) -> Option<Claim> {
    store.claim_chunk(worker, LEASE, &JobKind::ALL).await.expect("claiming failed")
}

/// Finishes a generation chunk by COPY.
pub async fn work_generation(store: &Store, claim: &Claim) -> BulkOutcome {
    let (indexes, first_position, edge) = generation_of(claim);
    let codes = codes_of(store, claim, indexes).await;
    store
        .finish_generated(claim, &codes, first_position, edge)
        .await
        .expect("finishing a generation chunk failed")
}

/// The input of a claimed generation chunk: indexes, first position, edge.
pub fn generation_of(claim: &Claim) -> (Range<u64>, i32, Edge) {
    let Task::GenerateCodes(_, chunk) = &claim.task else { panic!("not a generation: {:?}", claim.task) };
    (chunk.indexes.clone(), chunk.first_position, chunk.edge)
}

/// The sorted codes at these indexes of the chunk's pattern.
pub async fn codes_of(store: &Store, claim: &Claim, indexes: Range<u64>) -> Codes {
    let Task::GenerateCodes(spec, _) = &claim.task else { panic!("not a generation: {:?}", claim.task) };
    let space = store.find_space(claim.business, &spec.pattern).await.expect("finding the space failed");
    let space = space.expect("the pattern has no space");
    let pattern = Pattern::parse(&spec.pattern).expect("the job's pattern does not parse");
    let mut codes = CodeSpace::new(pattern, &space.key).codes(indexes).expect("the space is too small");
    codes.sort();
    codes
}

/// For imports of files with a row on each line, which never need it.
pub fn no_lines<'a>(_places: Vec<u64>) -> BoxFuture<'a, Result<HashMap<u64, u64>>> {
    panic!("the places of the rows are lines");
}

/// How a file with one code per line and no header is read.
pub fn read_as() -> ReadAs {
    ReadAs {
        encoding: "UTF-8",
        delimiter: Delimiter::Comma,
        header: false,
        code_column: ColumnLabel::Number(1),
        user_column: None,
        metadata_columns: Vec::new(),
        skipped_lines: 0,
    }
}
