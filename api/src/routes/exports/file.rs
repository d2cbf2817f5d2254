//! The file of an export in a response: whole, a range of it, or a link to it.

use std::ops::Range;

use cuponera_domain::id::JobId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::{Error, ExportFile};
use futures::TryStreamExt;
use poem::Body as RawBody;
use poem::http::{HeaderMap, StatusCode};
use poem_openapi::ApiResponse;
use poem_openapi::payload::Binary;

use crate::auth::caller::Caller;
use crate::http::problem::Problem;

/// The response to a request for the file of an export.
#[derive(ApiResponse)]
pub(super) enum FileAnswer {
    /// The whole file.
    #[oai(status = 200, content_type = "text/csv; charset=utf-8")]
    Whole(
        Binary<RawBody>,
        /// `attachment` with the name of the file.
        #[oai(header = "Content-Disposition")]
        String,
        /// The length of the file.
        #[oai(header = "Content-Length")]
        u64,
        /// The version of the file.
        #[oai(header = "ETag")]
        String,
        /// `bytes`.
        #[oai(header = "Accept-Ranges")]
        String,
    ),
    /// A range of the file.
    #[oai(status = 206, content_type = "text/csv; charset=utf-8")]
    Part(
        Binary<RawBody>,
        /// `attachment` with the name of the file.
        #[oai(header = "Content-Disposition")]
        String,
        /// The length of the range.
        #[oai(header = "Content-Length")]
        u64,
        /// The version of the file.
        #[oai(header = "ETag")]
        String,
        /// `bytes`, the first and the last byte, and the length of the file.
        #[oai(header = "Content-Range")]
        String,
    ),
    /// The file is in S3.
    #[oai(status = 303)]
    Elsewhere(
        /// A link to the file. It needs no credentials.
        #[oai(header = "Location")]
        String,
    ),
    /// The client has the file.
    #[oai(status = 304)]
    Unchanged(
        /// The version of the file.
        #[oai(header = "ETag")]
        String,
    ),
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// The whole file. Also the answer to a header that is not understood, as RFC 9110 requires.
    Whole,
    /// These bytes.
    Part(Range<u64>),
    /// Bytes that the file does not have.
    Beyond,
}

/// Finds the file and answers with it. No connection to the database is held while it is sent.
pub(super) async fn answer(
    caller: &Caller,
    headers: &HeaderMap,
    job: JobId,
    redirect: bool,
) -> Result<FileAnswer, Problem> {
    let file = caller.app.store.get_export_file(caller.business(), job).await?;
    let (etag, name) = (etag_of(job, &file), name_of(&file));
    if redirect && let Some(link) = caller.app.files.link(&file.name, &name).await? {
        return Ok(FileAnswer::Elsewhere(link));
    }
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let has_it = |tags: &str| tags.trim() == "*" || tags.split(',').any(|tag| weak(tag) == etag);
    if header("If-None-Match").is_some_and(has_it) {
        return Ok(FileAnswer::Unchanged(etag));
    }
    let is_same = header("If-Range").is_none_or(|tag| tag.trim() == etag);
    let wanted = match header("Range") {
        Some(range) if is_same => wanted(range, file.bytes),
        _ => Wanted::Whole,
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    match wanted {
        Wanted::Whole => {
            let body = body(caller, &file, 0..file.bytes).await?;
            Ok(FileAnswer::Whole(body, disposition, file.bytes, etag, "bytes".into()))
        }
        Wanted::Part(range) => {
            let content_range = format!("bytes {}-{}/{}", range.start, range.end - 1, file.bytes);
            let length = range.end - range.start;
            Ok(FileAnswer::Part(body(caller, &file, range).await?, disposition, length, etag, content_range))
        }
        Wanted::Beyond => {
            let detail = format!("the file has {} bytes: request a range of them", file.bytes);
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail);
            Err(problem.with_content_range(file.bytes))
        }
    }
}

async fn body(caller: &Caller, file: &ExportFile, range: Range<u64>) -> Result<Binary<RawBody>, Problem> {
    // A database that was restored from a dump may have exports without their files.
    let pieces = caller.app.files.stream_range(&file.name, range).await?.ok_or(Rejection::ExportExpired)?;
    let pieces = pieces.map_err(|error: Error| std::io::Error::other(error.chain()));
    Ok(Binary(RawBody::from_bytes_stream(pieces)))
}

/// A file is never written again under its name.
fn etag_of(job: JobId, file: &ExportFile) -> String {
    let attempt = file.name.rsplit('/').next().and_then(|name| name.strip_suffix(".csv")).unwrap_or_default();
    format!("\"{job}-{attempt}\"")
}

fn name_of(file: &ExportFile) -> String {
    format!("{}-{}.csv", file.kind.as_str().to_lowercase(), file.made_at.format("%Y%m%d-%H%M%S"))
}

/// A tag without the mark of a weak one.
fn weak(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").unwrap_or(tag)
}

/// Reads a `Range` header: the one range of bytes that it has.
fn wanted(range: &str, bytes: u64) -> Wanted {
    let Some((unit, range)) = range.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = range.split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Wanted::Whole;
    }
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // A number with more digits is beyond each file.
        is_number.then(|| text.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = (first.trim(), last.trim());
    let range = match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => first..last.saturating_add(1).min(bytes),
        (Some(first), None) if last.is_empty() => first..bytes,
        (None, Some(suffix)) if first.is_empty() => bytes.saturating_sub(suffix)..bytes,
        _ => return Wanted::Whole,
    };
    if range.is_empty() { Wanted::Beyond } else { Wanted::Part(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_of_bytes_is_read_and_anything_else_is_the_whole_file() {
        let part = |range: Range<u64>| Wanted::Part(range);
        for (header, expected) in [
            ("bytes=0-0", part(0..1)),
            ("bytes=2-4", part(2..5)),
            ("bytes=5-", part(5..10)),
            ("bytes=-3", part(7..10)),
            ("bytes=-30", part(0..10)),
            ("Bytes = 2 - 40", part(2..10)),
            ("bytes=9-99999999999999999999999", part(9..10)),
            ("bytes=10-", Wanted::Beyond),
            ("bytes=99999999999999999999999-", Wanted::Beyond),
            ("bytes=-0", Wanted::Beyond),
            ("bytes=4-2", Wanted::Whole),
            ("bytes=1-2,4-5", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("rows=1-2", Wanted::Whole),
            ("1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(header, 10), expected, "{header}");
        }
    }
}
