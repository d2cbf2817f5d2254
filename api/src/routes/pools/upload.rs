//! A file of users on its way into a pool.

use cuponera_domain::csv::Content;
use cuponera_domain::id::PoolId;
use cuponera_domain::rejection::Rejection;
use cuponera_store::Result;
use futures::FutureExt;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use uuid::Uuid;

use super::request::Users;
use crate::auth::caller::Caller;
use crate::http::body::{Body, is_json};
use crate::http::edge::unsupported_type;
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use crate::http::request_permit;
use crate::routes::JobView;
use crate::routes::uploads::{
    Parameters, Texts, UploadBody, file_schema, form_schema, names, receive, stored_key, submit_parts,
};

/// The users of a request: a JSON body, or a file.
pub(super) enum UsersBody {
    Json(Body<Users>),
    File(UploadBody),
}

/// How a file is to be read, as the query says.
pub(super) struct ReadingParameters {
    pub(super) delimiter: Option<String>,
    pub(super) header: Option<bool>,
    pub(super) user_column: Option<String>,
}

impl ReadingParameters {
    /// Refuses parameters that mean nothing for JSON.
    pub(super) fn must_be_absent(&self) -> Result<()> {
        let given = [
            ("delimiter", self.delimiter.is_some()),
            ("header", self.header.is_some()),
            ("userColumn", self.user_column.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => Err(Rejection::invalid(name, "is for a file, and the body is JSON").into()),
            None => Ok(()),
        }
    }

    fn parse(self) -> Result<Parameters> {
        let Self { delimiter, header, user_column } = self;
        Parameters::of_users(header, Texts { delimiter, user_column, code_column: None })
    }
}

/// Stores a file and writes the job that adds its users.
pub(super) async fn take(
    caller: &Caller,
    pool: PoolId,
    reading: ReadingParameters,
    body: UploadBody,
) -> Result<Reply<JobView, 202>, Problem> {
    let mut parameters = reading.parse()?;
    let _slot = request_permit::take(&caller.app.uploads, &caller.claimant)?;
    let held = HeldKey::take(caller, Uuid::nil())?;
    // Under a key there may be an answer already, whatever has become of the pool since.
    if caller.key.is_none() {
        caller.app.store.get_pool(caller.business(), pool).await?;
    }
    let mut intake = receive(caller, body, &mut parameters).await?;
    let stored = stored_key(&held, &mut intake, &parameters.reading)?;
    let import = intake.finish_users().await?;
    let (store, business, actor) = (caller.store(), caller.business(), caller.principal.to_string());
    let change = async move { store.submit_member_import(stored, business, &actor, pool, import).await };
    submit_parts(caller, intake, change.boxed()).await
}

impl<'a> ApiExtractor<'a> for UsersBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        Users::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: Some("Users, or a file as the body or as the field `file` of a form."),
            content: vec![
                MetaMediaType { content_type: "application/json", schema: Users::schema_ref() },
                MetaMediaType {
                    content_type: "multipart/form-data",
                    schema: form_schema(names(Content::Users)),
                },
                MetaMediaType { content_type: "text/csv", schema: file_schema() },
            ],
            required: true,
        })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        if is_json(request) {
            return Ok(Self::Json(Body::from_request(request, body, options).await?));
        }
        let media = request.content_type().and_then(|text| text.split(';').next()).unwrap_or_default().trim();
        if ["text/csv", "multipart/form-data"].iter().any(|known| known.eq_ignore_ascii_case(media)) {
            return Ok(Self::File(
                UploadBody::from_request(request, body, ExtractParamOptions::default()).await?,
            ));
        }
        Err(unsupported_type("application/json, multipart/form-data or text/csv").into())
    }
}
