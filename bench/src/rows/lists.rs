//! Lists, search and statistics with a very large book, compared with a book of 10,000 codes.

use std::time::Duration;

use crate::Result;
use crate::context::Context;
use crate::installation::{Book, Holders};
use crate::load::{Call, Target, closed_loop, open_loop, percentile};
use crate::report::median;
use crate::row::{Round, Row, Unit};

const SMALL_BOOK: u64 = 10_000;
/// Users of each book that have a code.
const HOLDERS: u64 = 1_000;
const CONNECTIONS: u64 = 8;
const CALLS_PER_SECOND: u64 = 200;
const SECONDS_OF_A_LIST: Duration = Duration::from_secs(2);

pub(crate) const LISTS_FLAT: Row = Row {
    name: "lists_flat",
    unit: Unit::Milliseconds,
    ours: "lists, search and statistics with a book of 10,000,000 codes (quick: 1,000,000), 200 calls a second: the 95th percentile of the \
           kind of call with the worst median ratio",
    yardstick: "the same calls with a book of 10,000 codes",
    floor: 0.67,
    aim: 0.9,
    measure: |context| Box::pin(measure(context)),
};

/// The path of call `n` on a book with this number of codes.
type Path = fn(book: &Book, codes: u64, n: u64) -> String;

/// The kinds of calls that are measured.
const CALLS: [(&str, Path); 6] = [
    ("status", |book, _, _| format!("/coupon-codes/book/{}?status=AVAILABLE&limit=50", book.id)),
    ("prefix", |book, codes, n| {
        format!("/coupon-codes/book/{}?prefix={}&limit=50", book.id, prefix(book, codes, n))
    }),
    ("user", |book, _, n| format!("/coupon-codes/book/{}?userId=h{}&limit=50", book.id, n % HOLDERS)),
    ("events", |book, _, _| format!("/events?couponBookId={}&limit=50", book.id)),
    ("statistics", |book, _, _| format!("/coupon-books/{}/stats", book.id)),
    ("search", |book, codes, n| format!("/coupons?q={}&limit=50", prefix(book, codes, n))),
];

/// The search goes through all books: its yardstick is measured before the large book exists.
const SEARCH: usize = CALLS.len() - 1;

/// The first characters of a code of the book; 100 codes have them.
fn prefix(book: &Book, codes: u64, n: u64) -> String {
    format!("B{:07}", (book.first_code + n * 7_919 % codes) / 100)
}

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, target) = (&context.installation, context.installation.target());
    installation.empty_coupons().await?;
    let small = installation.book_with_codes(SMALL_BOOK, Holders::Nobody).await?;
    assign(&target, &small).await?;
    let mut searched = Vec::new();
    for _ in 0..=context.rounds {
        searched.push(time(&target, SEARCH, &small, SMALL_BOOK).await?);
    }
    let codes = context.sizes.large_book;
    let large = installation.book_with_codes(codes, Holders::Nobody).await?;
    assign(&target, &large).await?;
    let mut kinds: Vec<Vec<Round>> = vec![Vec::new(); CALLS.len()];
    for (round, searched) in searched.into_iter().enumerate() {
        for (call, (name, _)) in CALLS.iter().enumerate() {
            let ours = time(&target, call, &large, codes).await?;
            let yardstick =
                if call == SEARCH { searched } else { time(&target, call, &small, SMALL_BOOK).await? };
            // The first round warms up.
            if round > 0 {
                eprintln!("  {name}: {ours:.1} ms, {yardstick:.1} ms");
                kinds[call].push(Round { ours, yardstick: Some(yardstick) });
            }
        }
    }
    kinds
        .into_iter()
        .min_by(|one, other| ratio(one).total_cmp(&ratio(other)))
        .ok_or("no call was measured".into())
}

/// The median ratio of a kind of call.
fn ratio(rounds: &[Round]) -> f64 {
    let ratio = |round: &Round| Some(Unit::Milliseconds.ratio(round.ours, round.yardstick?));
    median(rounds.iter().filter_map(ratio))
}

/// Gives a code to each of the users `h0`, `h1`, …
async fn assign(target: &Target, book: &Book) -> Result<()> {
    let id = book.id.clone();
    let call = move |n: u64| {
        Call::post("/api/v1/assignments/random", format!(r#"{{"couponBookId":"{id}","userId":"h{n}"}}"#))
    };
    closed_loop(target, CONNECTIONS, HOLDERS, call).await.map(drop)
}

/// The 95th percentile of a kind of call, in milliseconds.
async fn time(target: &Target, call: usize, book: &Book, codes: u64) -> Result<f64> {
    let path = CALLS[call].1;
    let call = |n: u64| Call::get(format!("/api/v1{}", path(book, codes, n)));
    let latencies = open_loop(target, CONNECTIONS, CALLS_PER_SECOND, SECONDS_OF_A_LIST, call).await?;
    Ok(percentile(&latencies, 95))
}
