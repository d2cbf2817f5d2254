//! Jobs, from submit to SUCCEEDED, against `psql \copy` of the same codes into the same table.

use std::time::Instant;

use crate::Result;
use crate::context::Context;
use crate::installation::Installation;
use crate::row::{Round, Row, Unit, alternate};
use crate::yardstick::psql;

const COPY: &str = r"\copy coupon (business_id, book_id, job_id, position, code) from 'codes.csv'";
const COPY_AND_ASSIGN: &str = r"\copy coupon (business_id, book_id, job_id, position, code) from 'codes.csv'
update coupon set status = 'ASSIGNED', holder = 'h' || position, assignment_id = gen_random_uuid(), assigned_at = now(),
       version = version + 1 where book_id = :book";

pub(crate) const GENERATE: Row = Row {
    name: "generate",
    unit: Unit::Seconds,
    ours: "POST /coupon-codes/generate, to SUCCEEDED",
    yardstick: COPY,
    floor: 0.7,
    aim: 1.0,
    measure: |context| Box::pin(measure(context, Source::Pattern)),
};

pub(crate) const IMPORT: Row = Row {
    name: "import",
    unit: Unit::Seconds,
    ours: "POST /coupon-codes/upload of the same codes, to SUCCEEDED",
    yardstick: COPY,
    floor: 0.6,
    aim: 0.8,
    measure: |context| Box::pin(measure(context, Source::Codes)),
};

pub(crate) const IMPORT_HOLDERS: Row = Row {
    name: "import_holders",
    unit: Unit::Seconds,
    ours: "POST /coupon-codes/upload of the same codes with a user each, to SUCCEEDED",
    yardstick: COPY_AND_ASSIGN,
    floor: 0.8,
    aim: 1.2,
    measure: |context| Box::pin(measure(context, Source::CodesWithHolders)),
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Pattern,
    Codes,
    CodesWithHolders,
}

impl Source {
    fn status(self) -> &'static str {
        if self == Self::CodesWithHolders { "ASSIGNED" } else { "AVAILABLE" }
    }
}

async fn measure(context: &Context, source: Source) -> Result<Vec<Round>> {
    let (installation, codes) = (&context.installation, context.sizes.codes);
    installation.empty_coupons().await?;
    let book = installation.book().await?;
    installation.generate(&book, codes).await?;
    write_files(installation).await?;
    let ours = async |_| {
        installation.empty_coupons().await?;
        let book = installation.book().await?;
        let begun = Instant::now();
        match source {
            Source::Pattern => drop(installation.generate(&book, codes).await?),
            Source::Codes => installation.import(&book, &installation.file("upload.csv")).await?,
            Source::CodesWithHolders => installation.import(&book, &installation.file("holders.csv")).await?,
        }
        let seconds = begun.elapsed().as_secs_f64();
        installation.expect_codes(&book, source.status(), codes).await?;
        Ok(seconds)
    };
    let yardstick = async |_| {
        installation.empty_coupons().await?;
        let begun = Instant::now();
        psql(installation, &COPY.replace("codes.csv", &installation.path("codes.csv")?)).await?;
        if source == Source::CodesWithHolders {
            let assign = COPY_AND_ASSIGN.split_once('\n').map_or("", |(_, update)| update);
            psql(installation, &assign.replace(":book", &format!("'{book}'"))).await?;
        }
        let seconds = begun.elapsed().as_secs_f64();
        installation.expect_codes(&book, source.status(), codes).await?;
        Ok(seconds)
    };
    alternate(context.rounds, ours, yardstick, async |_| Ok(())).await
}

/// Writes the codes of the table, in random order at ascending positions: how a file of them comes.
async fn write_files(installation: &Installation) -> Result<()> {
    let rows = "select business_id, book_id, job_id, row_number() over (order by random()) - 1 as position, code from coupon \
                order by position";
    psql(installation, &format!(r"\copy ({rows}) to '{}'", installation.path("codes.csv")?)).await?;
    let upload = std::fs::File::create(installation.file("upload.csv"))?;
    let holders = std::fs::File::create(installation.file("holders.csv"))?;
    let (mut upload, mut holders) = (std::io::BufWriter::new(upload), std::io::BufWriter::new(holders));
    std::io::Write::write_all(&mut upload, b"code\n")?;
    std::io::Write::write_all(&mut holders, b"code,userId\n")?;
    for (number, line) in std::fs::read_to_string(installation.file("codes.csv"))?.lines().enumerate() {
        let code = line.rsplit('\t').next().ok_or("a line without a code")?;
        std::io::Write::write_fmt(&mut upload, format_args!("{code}\n"))?;
        std::io::Write::write_fmt(&mut holders, format_args!("{code},h{number}\n"))?;
    }
    std::io::Write::flush(&mut upload)?;
    Ok(std::io::Write::flush(&mut holders)?)
}
