//! The operation on the events of a business: a list, or a stream.

mod admin;
mod doc;
mod view;

use chrono::{DateTime, Utc};
use cuponera_domain::admin_event::{self, SUBJECTS};
use cuponera_domain::coupon::state::ACTIONS;
use cuponera_domain::id::BookId;
use cuponera_domain::rejection::{FieldError, Rejection};
use cuponera_store::{AdminEventFilter, EventCursor, EventFilter, Result};
use poem::{IntoResponse, Response};
use poem_openapi::param::{Header, Query};
use poem_openapi::payload::{Json, Payload};
use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaResponses, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::jobs::too_many_streams;
use super::list::time_range;
use super::{List, Tag, cursor, limit, plain, word};
use crate::auth::caller::Caller;
use crate::auth::credentials::Lifetime;
use crate::follow::stream::{self, EventStream};
use crate::http::problem::Problem;

pub(super) use doc::operations;
use view::EventView;
pub(crate) use view::LoggedEventView;

pub(crate) struct Events;

/// A page of the list, or the stream.
enum EventsReply {
    Page(List<EventView>),
    Stream(Box<EventStream>),
}

#[expect(clippy::too_many_arguments, reason = "each query parameter is an argument")]
#[OpenApi(prefix_path = "/api/v1/events", tag = "Tag::Events")]
impl Events {
    /// List or follow the events of all codes
    ///
    /// The list has the newest events first. A page may be short or empty before the end of the list: only `nextCursor` shows whether there
    /// are more. An API key that is limited to some books sees the events of their codes. Events of archived months are absent.
    ///
    /// With `kind=ADMIN` the list has the changes of books, API keys, users, logins, user pools, jobs and webhooks instead: what was done, by which
    /// actor, and the values before and after, without secrets. It needs the permission `events:admin`, which only an ADMIN has, and cannot
    /// be combined with `couponBookId`, `userId` and `follow`. For example, `subject=BOOK&action=DELETE` lists the deleted books.
    ///
    /// With `follow=true` the response is a stream of server-sent events: each event that is committed from now on, once, with the JSON of
    /// the list as `data`. An event is sent when all transactions that began to write before it have ended, usually within a second. The
    /// stream may begin with events that were committed while such a transaction was running. The `id` of an event is its position; send it
    /// as `Last-Event-ID` to resume after it (410 if later events are archived). Ids without data are sent as a heartbeat. The stream ends when the access token or API key
    /// becomes invalid. It cannot be combined with `from`, `to`, `cursor` and `limit`.
    #[oai(path = "/", method = "get", operation_id = "listEvents")]
    async fn list(
        &self,
        caller: Caller,
        /// `COUPON` for events of codes, or `ADMIN`; `COUPON` if absent.
        kind: Query<Option<String>>,
        /// Only of codes of this book.
        #[oai(name = "couponBookId")]
        book: Query<Option<Uuid>>,
        /// Only of this user.
        #[oai(name = "userId")]
        user: Query<Option<String>>,
        /// `ASSIGN`, `LOCK`, `UNLOCK`, `EXPIRE`, `REDEEM`, `REVOKE`, `ROLLBACK` or `VOID`; with `kind=ADMIN` an action of these events, such
        /// as `CREATE`, `UPDATE` or `DELETE`.
        action: Query<Option<String>>,
        /// With `kind=ADMIN`: only changes of this kind of object, such as `BOOK`.
        subject: Query<Option<String>>,
        /// With `kind=ADMIN`: only changes of the objects with this id.
        #[oai(name = "subjectId")]
        subject_id: Query<Option<String>>,
        /// Only by this actor: `admin:…`, `service:…`, `user:…`, `job:…` or `sweep`.
        actor: Query<Option<String>>,
        /// Only from this time on.
        from: Query<Option<DateTime<Utc>>>,
        /// Only before this time.
        to: Query<Option<DateTime<Utc>>>,
        /// Send the events that are committed from now on.
        follow: Query<Option<bool>>,
        /// With `follow=true`: the `id` of the last event that was received. The stream continues after it.
        #[oai(name = "Last-Event-ID")]
        last: Header<Option<String>>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<EventsReply, Problem> {
        let kind = word("kind", kind.0, EventKind::parse, &EventKind::WORDS.join(", "))?;
        if kind == Some(EventKind::Admin) {
            admin::check_access(&caller)?;
            let of_coupons = [
                ("couponBookId", book.0.is_some()),
                ("userId", user.0.is_some()),
                ("follow", follow.0 == Some(true)),
            ];
            reject_given(&of_coupons, "cannot be combined with `kind=ADMIN`")?;
            let filter = AdminEventFilter {
                subject: word("subject", subject.0, one_of(&SUBJECTS), &SUBJECTS.join(", "))?,
                subject_id: plain("subjectId", subject_id.0)?,
                action: word(
                    "action",
                    action.0,
                    one_of(&admin_event::ACTIONS),
                    &admin_event::ACTIONS.join(", "),
                )?,
                actor: plain("actor", actor.0)?,
                range: time_range(("from", from.0), ("to", to.0))?,
                before: self::cursor(cursor.0, |text| text.parse().ok())?,
            };
            return Ok(EventsReply::Page(admin::page(&caller, &filter, self::limit(limit.0)?).await?));
        }
        let of_admin_events = [("subject", subject.0.is_some()), ("subjectId", subject_id.0.is_some())];
        reject_given(&of_admin_events, "needs `kind=ADMIN`")?;
        let filter = EventFilter {
            books: books(&caller, book.0.map(BookId)).await?,
            user: user.0.map(|user| caller.user(Some(user))).transpose()?,
            action: word("action", action.0, one_of(&ACTIONS), &ACTIONS.join(", "))?,
            actor: plain("actor", actor.0)?,
            range: time_range(("from", from.0), ("to", to.0))?,
            before: self::cursor(cursor.0, |text| text.parse().ok())?,
        };
        let limit = limit.0;
        if follow.0 == Some(true) {
            return follow_events(&caller, filter, limit, last.0.as_deref()).await;
        }
        let limit = self::limit(limit)?;
        let page = caller.app.store.list_events(caller.business(), &filter, limit).await?;
        Ok(EventsReply::Page(List::of(page, |event| EventView::Coupon(event.into()))))
    }
}

/// The events of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EventKind {
    Coupon,
    Admin,
}

impl EventKind {
    const WORDS: [&str; 2] = ["COUPON", "ADMIN"];

    fn parse(text: &str) -> Option<Self> {
        [Self::Coupon, Self::Admin]
            .into_iter()
            .zip(Self::WORDS)
            .find(|(_, word)| *word == text)
            .map(|(kind, _)| kind)
    }
}

/// Rejects the parameters that are given, with this fault.
fn reject_given(parameters: &[(&str, bool)], fault: &str) -> Result<()> {
    let given = parameters.iter().filter(|(_, is_given)| *is_given);
    let faults: Vec<_> = given.map(|(name, _)| FieldError::new(*name, fault.to_owned())).collect();
    if faults.is_empty() { Ok(()) } else { Err(Rejection::Invalid { faults }.into()) }
}

/// The books whose events the caller sees: the named one, or those of its API key. None if there is no limit.
async fn books(caller: &Caller, named: Option<BookId>) -> Result<Option<Vec<BookId>>> {
    let Some(book) = named else { return Ok(caller.books().map(<[BookId]>::to_vec)) };
    caller.must_have_book(book)?;
    caller.app.store.get_book(caller.business(), book).await?;
    Ok(Some(vec![book]))
}

async fn follow_events(
    caller: &Caller,
    mut filter: EventFilter,
    limit: Option<u32>,
    last: Option<&str>,
) -> Result<EventsReply, Problem> {
    let of_list = [
        ("from", filter.range.from.is_some()),
        ("to", filter.range.to.is_some()),
        ("cursor", filter.before.is_some()),
        ("limit", limit.is_some()),
    ];
    reject_given(&of_list, "cannot be combined with `follow`")?;
    if let Some(user) = &filter.user {
        filter.user = Some(caller.app.store.stored_user(caller.business(), user).await?);
    }
    let slot = caller.app.watches.stream_slot(&caller.claimant).map_err(too_many_streams)?;
    let after = last.map(position).transpose()?;
    let follower = caller.app.followers.follow(slot, caller.business(), filter, after).await?;
    let ended = Box::pin(caller.ended(Lifetime::Credential));
    Ok(EventsReply::Stream(Box::new(EventStream { follower, ended })))
}

/// Parses `Last-Event-ID`.
fn position(text: &str) -> Result<EventCursor> {
    text.parse()
        .map_err(|_| Rejection::invalid("Last-Event-ID", "must be the id of an event of this stream").into())
}

fn one_of(words: &[&str]) -> impl Fn(&str) -> Option<String> {
    |text| words.contains(&text).then(|| text.to_owned())
}

impl IntoResponse for EventsReply {
    fn into_response(self) -> Response {
        match self {
            Self::Page(page) => Json(page).into_response(),
            Self::Stream(stream) => stream.into_response(),
        }
    }
}

impl ApiResponse for EventsReply {
    fn meta() -> MetaResponses {
        let media = |content_type, schema| MetaMediaType { content_type, schema };
        let page = media(Json::<List<EventView>>::CONTENT_TYPE, List::<EventView>::schema_ref());
        MetaResponses {
            responses: vec![MetaResponse {
                description: "",
                status: Some(200),
                status_range: None,
                content: vec![page, media(stream::CONTENT_TYPE, stream::schema())],
                headers: vec![],
            }],
        }
    }

    fn register(registry: &mut Registry) {
        List::<EventView>::register(registry);
    }
}
