//! The bodies of requests for a distribution and for its take-back.

use cuponera_domain::distribution::{Mode, OnShortage, Rules};
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::{FieldError, Rejection};
use poem_openapi::Object;
use uuid::Uuid;

use crate::http::body::{Fields, FromFields};
use crate::routes::undo::optional_reason;

/// The codes that the users of a pool get.
#[derive(Debug, Object)]
#[oai(rename = "NewDistribution", rename_all = "camelCase")]
pub(super) struct NewDistributionBody {
    coupon_book_id: Uuid,
    /// `EQUAL` gives each user the same number, or numbers that differ by one. `RANDOM` gives each code to a user drawn uniformly from
    /// those below `maxCodesPerUser`.
    mode: String,
    /// For `EQUAL`: the number of codes for each user, in addition to those that it has. Either this or `totalCodes`.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000")))]
    codes_per_user: Option<i64>,
    /// The number of codes for all users together.
    #[oai(validator(minimum(value = "1"), maximum(value = "100000000")))]
    total_codes: Option<i64>,
    /// The same seed, users and remaining quotas give each user the same number of codes. Drawn if absent.
    #[oai(validator(minimum(value = "0"), maximum(value = "9007199254740991")))]
    seed: Option<i64>,
    /// `FAIL` (if absent) assigns nothing if the book has too few codes; `PARTIAL` distributes those that it has.
    on_shortage: Option<String>,
    /// Only compute the result.
    dry_run: Option<bool>,
}

/// A request for a distribution.
#[derive(Debug)]
pub(super) struct DistributionToSubmit {
    pub(super) book: BookId,
    pub(super) rules: Rules,
    pub(super) dry_run: bool,
}

impl FromFields for DistributionToSubmit {
    fn read(fields: &mut Fields) -> Option<Self> {
        let book = fields.required("couponBookId");
        let mode = fields.required::<String>("mode");
        let mode = mode.and_then(|mode| fields.word("mode", &mode, Mode::parse, "EQUAL, RANDOM"));
        let mut number = |name| {
            let number = fields.optional::<i64>(name)?;
            // A negative number is out of range too.
            Some(u64::try_from(number).unwrap_or(u64::MAX))
        };
        let (per_user, total, seed) = (number("codesPerUser"), number("totalCodes"), number("seed"));
        let on_shortage = fields.optional::<String>("onShortage");
        let on_shortage = on_shortage
            .and_then(|choice| fields.word("onShortage", &choice, OnShortage::parse, "FAIL, PARTIAL"))
            .unwrap_or_default();
        let dry_run = fields.optional("dryRun").unwrap_or(false);
        let rules =
            Rules::new(mode.unwrap_or(Mode::Equal), per_user, total, seed, on_shortage, random_seed());
        if let Err(Rejection::Invalid { faults }) = &rules {
            for FieldError { field, message } in faults {
                fields.fault(field, message.clone());
            }
        }
        mode?;
        Some(Self { book: BookId(book?), rules: rules.ok()?, dry_run })
    }
}

/// Why the codes of a distribution are taken back.
#[derive(Debug, Object)]
pub(super) struct TakeBackRequest {
    /// 1 to 500 characters, for the history of each code; "take-back of job" and the id if absent.
    #[oai(validator(min_length = 1, max_length = 500))]
    pub(super) reason: Option<String>,
}

impl FromFields for TakeBackRequest {
    fn read(fields: &mut Fields) -> Option<Self> {
        Some(Self { reason: optional_reason(fields) })
    }
}

/// The random bits of a new id.
fn random_seed() -> u64 {
    Uuid::now_v7().as_u64_pair().1
}
