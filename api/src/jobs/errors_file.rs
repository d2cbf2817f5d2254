//! The rejected rows of an import as CSV, in pieces of at most one page of rejections.

use std::borrow::Cow;

use bytes::Bytes;
use cuponera_domain::csv::begins_formula;
use cuponera_domain::id::{BusinessId, JobId};
use cuponera_platform::files::Files;
use cuponera_store::{Error, Result};
use cuponera_store::{RejectedRow, RejectedRowCursor, Store};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt, stream};

const HEADER: &[u8] = b"line,code,reason,row,detail\n";

/// The errors file of a job of the business. No connection is held while a piece is sent to the client.
pub(crate) async fn errors_csv(
    store: &Store,
    files: &Files,
    business: BusinessId,
    job: JobId,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let names = store.errors_files(business, job).await?;
    let header = stream::once(async { Ok(Bytes::from_static(HEADER)) });
    Ok(header.chain(written_files(files.clone(), names)).chain(rejections(store.clone(), job)).boxed())
}

/// The errors files of chunks that an earlier version finished, before rejections were rows.
fn written_files(files: Files, names: Vec<String>) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::iter(names)
        .then(move |name| {
            let files = files.clone();
            async move { files.stream(&name).await }
        })
        .try_flatten()
}

fn rejections(store: Store, job: JobId) -> impl Stream<Item = Result<Bytes>> + Send {
    stream::try_unfold(RejectedRowCursor::default(), move |after| {
        let store = store.clone();
        async move {
            let page = store.list_rejected_rows(job, after).await?;
            let is_over = page.rejections.is_empty();
            Ok((!is_over).then_some((csv_of(&page.rejections)?, page.next)))
        }
    })
}

fn csv_of(rejections: &[RejectedRow]) -> Result<Bytes> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for rejection in rejections {
        let RejectedRow { line, code, reason, row, detail } = rejection;
        let (line, code, row) = (line.to_string(), without_formula(code), without_formula(row));
        writer.write_record([line.as_str(), &code, reason, &row, detail]).map_err(Error::internal)?;
    }
    Ok(writer.into_inner().map_err(|error| Error::internal(error.to_string()))?.into())
}

/// Prefixes text that a spreadsheet would treat as a formula with an apostrophe.
fn without_formula(text: &str) -> Cow<'_, str> {
    if begins_formula(text) { Cow::Owned(format!("'{text}")) } else { Cow::Borrowed(text) }
}
