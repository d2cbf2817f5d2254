//! Random assignment in a very large book, compared with a book of 10,000 codes.

use crate::Result;
use crate::context::Context;
use crate::installation::Holders;
use crate::load::{Call, Target, closed_loop};
use crate::row::{Round, Row, Unit, alternate};

const SMALL_BOOK: u64 = 10_000;
const CONNECTIONS: u64 = 64;
/// Assignments in a round: few enough that the small book never runs out of codes.
const CALLS: u64 = 1_200;

pub(crate) const ASSIGN_FLAT: Row = Row {
    name: "assign_flat",
    unit: Unit::PerSecond,
    ours: "POST /assignments/random in a book of 10,000,000 codes (quick: 1,000,000), 64 connections",
    yardstick: "the same in a book of 10,000 codes",
    floor: 0.8,
    aim: 0.95,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let installation = &context.installation;
    let small = installation.book_with_codes(SMALL_BOOK, Holders::Nobody).await?.id;
    let large = installation.book_with_codes(context.sizes.large_book, Holders::Nobody).await?.id;
    let target = installation.target();
    for book in [&small, &large] {
        assign(&target, book, "warm").await?;
    }
    let check = async |round: u64| {
        for book in [&small, &large] {
            installation.expect_codes(book, "ASSIGNED", (2 + round) * CALLS).await?;
        }
        Ok(())
    };
    let ours = async |round: u64| assign(&target, &large, &format!("large{round}")).await;
    let yardstick = async |round: u64| assign(&target, &small, &format!("small{round}")).await;
    alternate(context.rounds, ours, yardstick, check).await
}

async fn assign(target: &Target, book: &str, users: &str) -> Result<f64> {
    let (book, users) = (book.to_owned(), users.to_owned());
    let call = move |n: u64| {
        Call::post(
            "/api/v1/assignments/random",
            format!(r#"{{"couponBookId":"{book}","userId":"{users}-{n}"}}"#),
        )
    };
    closed_loop(target, CONNECTIONS, CALLS, call).await
}
