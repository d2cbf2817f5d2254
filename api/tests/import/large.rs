//! A file of several parts, which are imported side by side.

use std::fmt::Write;

use serde_json::json;

use super::{counts_of, errors_of, import};
use crate::support::Server;

/// Number of rows of the file. A part has 50,000.
const ROWS: usize = 120_000;
/// Each row whose number is a multiple of this repeats the code `DISTANCE` rows above. Most repeat a code of another
/// part.
const REPEAT_EVERY: usize = 1_000;
const DISTANCE: usize = 55_555;

/// The file, and the lines of its duplicates. With blank lines, the position of a code is not its line.
fn file(has_blank_lines: bool) -> (String, Vec<usize>) {
    let (mut file, mut repeats) = ("code,row\n".to_owned(), Vec::new());
    // The header is line 1.
    let mut line = 1;
    for row in 0..ROWS {
        let repeated = row % REPEAT_EVERY == 0 && row >= DISTANCE;
        let code = if repeated { row - DISTANCE } else { row };
        if has_blank_lines && row % 7 == 0 {
            file.push_str("\n\n");
            line += 2;
        }
        line += 1;
        if repeated {
            repeats.push(line);
        }
        writeln!(file, "BIG-{code:06},{row}").expect("writing to a string cannot fail");
    }
    (file, repeats)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_duplicates_in_different_parts_the_first_line_wins() {
    for has_blank_lines in [false, true] {
        import_with_duplicates(has_blank_lines).await;
    }
}

/// Blank lines take no positions of the book, wherever they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_blank_lines_takes_one_position_for_each_row() {
    let server = Server::start().await;
    let blank = "\n".repeat(100_000);
    for (name, file) in [
        ("ABOVE", format!("{blank}ABOVE-1\nABOVE-2")),
        ("AMONG", format!("AMONG-1\n{blank}AMONG-2")),
        ("BELOW", format!("BELOW-1\nBELOW-2\n{blank}")),
    ] {
        let book = server.book(json!({})).await;
        let job = import(&server, &book, file).await;
        assert_eq!(counts_of(&job), [2, 0, 0], "{name}");
        let next: i32 = sqlx::query_scalar("select next_position from coupon_book where id = $1::uuid")
            .bind(&book)
            .fetch_one(server.database.pool())
            .await
            .expect("reading failed");
        assert!(next <= 4, "{name}: {next} positions");
    }
}

async fn import_with_duplicates(has_blank_lines: bool) {
    let server = Server::start().await;
    let book = server.book(json!({})).await;
    let (file, repeats) = file(has_blank_lines);
    let job = import(&server, &book, file).await;
    let repeated = i64::try_from(repeats.len()).expect("few");
    assert_eq!(counts_of(&job), [120_000 - repeated, repeated, 0]);
    let errors = errors_of(&server, &job).await;
    let mut lines: Vec<usize> = errors.iter().map(|[line, ..]| line.parse().expect("a line")).collect();
    lines.sort_unstable();
    assert_eq!(lines, repeats, "the rejected lines are not the repeated ones");
    assert!(errors.iter().all(|[_, _, reason, ..]| reason == "duplicate_in_file"));
    // The database has the row of the first line.
    for row in (DISTANCE..ROWS).filter(|row| row % REPEAT_EVERY == 0).take(5).map(|row| row - DISTANCE) {
        let coupon = server.admin().get(&format!("coupons/BIG-{row:06}")).await.expect(200);
        assert_eq!(coupon["metadata"]["row"], row.to_string());
    }
    let book = server.admin().get(&format!("coupon-books/{book}")).await.expect(200);
    assert_eq!(book["generatedCount"], 120_000 - repeated);
    server.assert_invariants().await;
}
