//! The operations on webhooks and their deliveries.

mod doc;
mod request;
mod view;

use cuponera_domain::id::{DeliveryId, WebhookId};
use cuponera_domain::rejection::Rejection;
use cuponera_domain::webhook::receiver::Receiver;
use cuponera_domain::webhook::{NewWebhook, WebhookPatch};
use cuponera_platform::credential::webhook_secret;
use cuponera_store::Result;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::{List, Tag, cursor, limit};
use crate::auth::caller::Caller;
use crate::http::body::{Body, half_hash};
use crate::http::idempotency::HeldKey;
use crate::http::problem::Problem;
use crate::http::reply::Reply;
use request::{NewWebhookBody, ReplayBody, WebhookChange};
use view::{DeliveryView, ReplayView, WebhookView};

pub(super) use doc::operations;

pub(crate) struct Webhooks;

#[derive(ApiResponse)]
enum Deleted {
    /// Done.
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/api/v1/webhooks", tag = "Tag::Webhooks")]
impl Webhooks {
    /// Create a webhook
    ///
    /// It gets the events of the business that are committed from now on, as signed requests (Standard Webhooks). Only this response and
    /// that of a rotation contain the secret. The URL uses https; private and local addresses are rejected, here or, if a name resolves to
    /// one, at each attempt.
    #[oai(path = "/", method = "post", operation_id = "createWebhook")]
    async fn create(
        &self,
        caller: Caller,
        body: Body<NewWebhook, NewWebhookBody>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<WebhookView, 201>, Problem> {
        let mut new = body.value;
        new.url = receiver(&caller, &new.url)?;
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored, secret) =
            (caller.store(), caller.business(), held.stored(), webhook_secret()?);
        let create = async move { store.create_webhook(stored, business, &new, &secret).await };
        let answer = caller.app.run(create).await?;
        Ok(Reply::of(answer, WebhookView::with_secret)?
            .at(|webhook| format!("/api/v1/webhooks/{}", webhook.id)))
    }

    /// List webhooks, newest first
    #[oai(path = "/", method = "get", operation_id = "listWebhooks")]
    async fn list(
        &self,
        caller: Caller,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<WebhookView>>, Problem> {
        let after = self::cursor(cursor.0, |text| text.parse::<WebhookId>().ok())?;
        let page = caller.app.store.list_webhooks(caller.business(), after, self::limit(limit.0)?).await?;
        Ok(Json(List::of(page, WebhookView::from)))
    }

    /// Get a webhook
    #[oai(path = "/:id", method = "get", operation_id = "getWebhook")]
    async fn get(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
    ) -> Result<Json<WebhookView>, Problem> {
        Ok(Json(caller.app.store.get_webhook(caller.business(), WebhookId(id.0)).await?.into()))
    }

    /// Change a webhook
    ///
    /// A disabled webhook gets no events, and its pending deliveries wait. When it is enabled, they continue, and it gets the events that
    /// are committed from then on.
    #[oai(path = "/:id", method = "patch", operation_id = "updateWebhook")]
    async fn update(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        body: Body<WebhookPatch, WebhookChange>,
    ) -> Result<Json<WebhookView>, Problem> {
        let mut patch = body.value;
        patch.url = patch.url.map(|url| receiver(&caller, &url)).transpose()?;
        let (store, business) = (caller.store(), caller.business());
        let update = async move { store.update_webhook(business, WebhookId(id.0), &patch).await };
        Ok(Json(caller.app.run(update).await?.into()))
    }

    /// Delete a webhook
    ///
    /// Its pending deliveries are not attempted any more, and its deliveries can no longer be listed.
    #[oai(path = "/:id", method = "delete", operation_id = "deleteWebhook")]
    async fn delete(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
    ) -> Result<Deleted, Problem> {
        let (store, business) = (caller.store(), caller.business());
        caller.app.run(async move { store.delete_webhook(business, WebhookId(id.0)).await }).await?;
        Ok(Deleted::Done)
    }

    /// Replace the secret of a webhook
    ///
    /// For 24 hours, requests are signed with the new and the old secret: the header has two signatures, separated by a space.
    #[oai(path = "/:id/rotate-secret", method = "post", operation_id = "rotateWebhookSecret")]
    async fn rotate(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<WebhookView>, Problem> {
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored, secret) =
            (caller.store(), caller.business(), held.stored(), webhook_secret()?);
        let rotate =
            async move { store.rotate_webhook_secret(stored, business, WebhookId(id.0), &secret).await };
        Reply::of(caller.app.run(rotate).await?, WebhookView::with_secret)
    }

    /// Send a test event
    ///
    /// The event has the type `webhook.test`, and its `data` is the webhook. It is attempted once. The list of deliveries shows its
    /// outcome.
    #[oai(path = "/:id/test", method = "post", operation_id = "testWebhook")]
    async fn test(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<DeliveryView, 202>, Problem> {
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let test = async move { store.test_webhook(stored, business, WebhookId(id.0)).await };
        Reply::of(caller.app.run(test).await?, DeliveryView::from)
    }

    /// Attempt failed deliveries again
    ///
    /// All deliveries with status `FAILED` that were created since a time become `PENDING`, with a new schedule of attempts.
    #[oai(path = "/:id/replay", method = "post", operation_id = "replayWebhook")]
    async fn replay(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        body: Body<ReplayBody>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<ReplayView, 202>, Problem> {
        let held = HeldKey::take(&caller, body.fingerprint)?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let since = body.value.since_at;
        let replay = async move { store.replay_deliveries(stored, business, WebhookId(id.0), since).await };
        Reply::of(caller.app.run(replay).await?, |count| ReplayView { count })
    }

    /// Attempt a delivery again
    ///
    /// A delivery that is `FAILED` or `DELIVERED` becomes `PENDING`, with a new schedule of attempts; a test is attempted once. A pending
    /// one stays as it is.
    #[oai(
        path = "/:id/deliveries/:deliveryId/replay",
        method = "post",
        operation_id = "replayWebhookDelivery"
    )]
    async fn replay_delivery(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        /// The delivery.
        #[oai(name = "deliveryId")]
        delivery: Path<Uuid>,
        /// A repeated request with the same key returns the stored response.
        #[oai(name = "Idempotency-Key")]
        _key: Header<Option<String>>,
    ) -> Result<Reply<DeliveryView, 202>, Problem> {
        let held = HeldKey::take(&caller, half_hash(&[]))?;
        let (store, business, stored) = (caller.store(), caller.business(), held.stored());
        let (webhook, delivery) = (WebhookId(id.0), DeliveryId(delivery.0));
        let replay = async move { store.replay_delivery(stored, business, webhook, delivery).await };
        Reply::of(caller.app.run(replay).await?, DeliveryView::from)
    }

    /// List the deliveries of a webhook, newest first
    ///
    /// Deliveries are kept for 30 days.
    #[oai(path = "/:id/deliveries", method = "get", operation_id = "listWebhookDeliveries")]
    async fn deliveries(
        &self,
        caller: Caller,
        /// The webhook.
        id: Path<Uuid>,
        /// `nextCursor` of the previous page.
        cursor: Query<Option<String>>,
        /// 1 to 500; 50 if absent.
        limit: Query<Option<u32>>,
    ) -> Result<Json<List<DeliveryView>>, Problem> {
        let before = self::cursor(cursor.0, |text| text.parse::<i64>().ok().filter(|number| *number > 0))?;
        let (store, limit) = (&caller.app.store, self::limit(limit.0)?);
        let page = store.list_deliveries(caller.business(), WebhookId(id.0), before, limit).await?;
        Ok(Json(List::of(page, DeliveryView::from)))
    }
}

/// Checks the URL of a receiver and returns its normalized form.
fn receiver(caller: &Caller, url: &str) -> Result<String> {
    let receiver = Receiver::parse(url, &caller.app.webhook_networks)
        .map_err(|message| Rejection::invalid("url", message))?;
    Ok(receiver.url.into())
}
