//! API keys that are limited to some books. A request for another book is 403, also if its body has invalid fields. Operations
//! check the book themselves after the body was read; this repeats the check if the body is the reason of the failure.

use cuponera_domain::id::BookId;
use cuponera_store::Result;
use poem::Request;
use poem::http::StatusCode;

use crate::auth::caller::Caller;
use crate::auth::credentials::Identity;
use crate::auth::policy::{Rule, Touches};
use crate::http::problem::Problem;
use crate::routes::normalized;

/// The caller of a limited key, and the book that the path of its request names.
#[derive(Debug)]
pub(super) struct LimitedKey {
    caller: Caller,
    named: Named,
}

#[derive(Debug)]
enum Named {
    Book(BookId),
    /// By one of its codes.
    Code(String),
}

impl LimitedKey {
    /// None if the caller has no such limits or the path names no book.
    pub(super) fn of(rule: Option<Rule>, request: &Request) -> Option<Self> {
        request.data::<Identity>()?.scope.books.as_ref()?;
        rule.filter(|rule| rule.touches == Touches::OneBook)?;
        // The router's name for the first parameter of a path.
        let parameter = request.raw_path_param("param0")?;
        let path = request.original_uri().path();
        let named = if path.starts_with("/api/v1/coupon-books/") {
            Named::Book(BookId(parameter.parse().ok()?))
        } else if ["/api/v1/coupons/", "/api/v1/assignments/"].iter().any(|prefix| path.starts_with(prefix)) {
            Named::Code(normalized(parameter).ok()?)
        } else {
            return None;
        };
        Some(Self { caller: Caller::of(request).ok()?, named })
    }

    /// The error of an operation, or 403 if the key may not use the book.
    pub(super) async fn or_forbidden(&self, error: poem::Error) -> poem::Error {
        let is_about_the_body = error.downcast_ref::<Problem>().is_some_and(|problem| {
            [StatusCode::BAD_REQUEST, StatusCode::UNPROCESSABLE_ENTITY].contains(&problem.status())
        });
        if !is_about_the_body {
            return error;
        }
        match self.must_have_book().await {
            Ok(()) => error,
            Err(rejection) => Problem::from(rejection).into(),
        }
    }

    async fn must_have_book(&self) -> Result<()> {
        match &self.named {
            Named::Book(book) => self.caller.must_have_book(*book),
            Named::Code(code) => self.caller.must_have_book_of_code(code).await,
        }
    }
}
