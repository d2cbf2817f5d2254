//! Responses with a status other than 200 (201, 202), and replayed ones.

use cuponera_domain::rejection::Rejection;
use cuponera_store::CallResult;
use poem::http::{HeaderValue, StatusCode, header};
use poem::{IntoResponse, Response};
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type};

use crate::http::problem::{Problem, REPLAYED};

/// A JSON response with status `STATUS`, or `OTHER` after [`Reply::other_if`].
#[derive(Debug)]
pub(crate) struct Reply<T, const STATUS: u16 = 200, const OTHER: u16 = 0> {
    body: T,
    other: bool,
    replayed: bool,
    location: Option<String>,
}

impl<T, const STATUS: u16, const OTHER: u16> Reply<T, STATUS, OTHER> {
    /// The outcome of a call as `view` shows it; a rejection as a problem.
    pub(crate) fn of<O>(answer: CallResult<O>, view: impl FnOnce(O) -> T) -> Result<Self, Problem> {
        let replayed = answer.replayed;
        match answer.outcome {
            Ok(outcome) => Ok(Self { body: view(outcome), other: false, replayed, location: None }),
            Err(rejection) => Err(rejected(rejection, replayed)),
        }
    }

    /// Sets `Location`.
    pub(crate) fn at(mut self, location: impl FnOnce(&T) -> String) -> Self {
        self.location = Some(location(&self.body));
        self
    }

    /// Sets the status to `OTHER` if the condition holds.
    pub(crate) fn other_if(mut self, is_other: impl FnOnce(&T) -> bool) -> Self {
        self.other = is_other(&self.body);
        self
    }
}

/// The problem of a rejection, which may be a stored one.
pub(crate) fn rejected(rejection: Rejection, replayed: bool) -> Problem {
    let problem = Problem::from(rejection);
    if replayed { problem.replayed() } else { problem }
}

impl<T: ToJSON, const STATUS: u16, const OTHER: u16> IntoResponse for Reply<T, STATUS, OTHER> {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(if self.other { OTHER } else { STATUS }).unwrap_or(StatusCode::OK);
        let mut response = Response::builder()
            .status(status)
            .content_type("application/json")
            .body(self.body.to_json_string());
        if self.replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(location) = self.location.and_then(|path| HeaderValue::from_str(&path).ok()) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        response
    }
}

impl<T: Type + ToJSON, const STATUS: u16, const OTHER: u16> ApiResponse for Reply<T, STATUS, OTHER> {
    fn meta() -> MetaResponses {
        let response = |status| MetaResponse {
            description: "",
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType { content_type: "application/json", schema: T::schema_ref() }],
            headers: vec![MetaHeader {
                name: REPLAYED.into(),
                description: Some(
                    "`true` if this is the stored response to an earlier request with the same key.".into(),
                ),
                required: false,
                deprecated: false,
                schema: <String as Type>::schema_ref(),
            }],
        };
        let statuses = [STATUS, OTHER];
        MetaResponses {
            responses: statuses.into_iter().filter(|status| *status != 0).map(response).collect(),
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// One of two responses, which have different statuses.
#[derive(Debug)]
pub(crate) enum Either<A, B> {
    /// The first.
    This(A),
    /// The second.
    Other(B),
}

impl<A: IntoResponse, B: IntoResponse> IntoResponse for Either<A, B> {
    fn into_response(self) -> Response {
        match self {
            Self::This(response) => response.into_response(),
            Self::Other(response) => response.into_response(),
        }
    }
}

impl<A: ApiResponse, B: ApiResponse> ApiResponse for Either<A, B> {
    fn meta() -> MetaResponses {
        MetaResponses { responses: A::meta().responses.into_iter().chain(B::meta().responses).collect() }
    }

    fn register(registry: &mut Registry) {
        A::register(registry);
        B::register(registry);
    }
}
