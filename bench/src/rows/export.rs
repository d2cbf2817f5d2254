//! An export, from submission to SUCCEEDED, compared with `psql \copy` of the same columns to a file.

use std::time::Instant;

use serde_json::json;

use crate::Result;
use crate::context::Context;
use crate::installation::Holders;
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::psql;

const COPY: &str = r"\copy (select code, status, holder, redeem_count, assigned_at, locked_until, redeemed_at, expires_at, created_at, metadata from coupon where book_id = :book order by position) to 'export.csv' with (format csv, header)";

pub(crate) const EXPORT: Row = Row {
    name: "export",
    unit: Unit::Seconds,
    ours: "POST /exports of the codes of a book of 1,000,000 (quick: 200,000), to SUCCEEDED",
    yardstick: COPY,
    floor: 0.2,
    aim: 0.5,
    measure: |context| Box::pin(measure(context)),
};

async fn measure(context: &Context) -> Result<Vec<Round>> {
    let (installation, codes) = (&context.installation, context.sizes.codes);
    installation.empty_coupons().await?;
    let book = installation.book_with_codes(codes, Holders::OneEach).await?.id;
    let copy = COPY.replace(":book", &format!("'{book}'"));
    let copy = copy.replace("export.csv", &installation.path("export.csv")?);
    let ours = async |_| {
        let begun = Instant::now();
        let request = json!({ "kind": "CODES", "couponBookId": book });
        let job = installation.run_job("/exports", &request).await?;
        let seconds = begun.elapsed().as_secs_f64();
        if job["result"]["rowCount"] == codes {
            Ok(seconds)
        } else {
            Err(format!("the export has not {codes} codes: {job}").into())
        }
    };
    let yardstick = async |_| {
        let begun = Instant::now();
        psql(installation, &copy).await?;
        Ok(begun.elapsed().as_secs_f64())
    };
    alternate(context.rounds, ours, yardstick, async |_| Ok(())).await
}
