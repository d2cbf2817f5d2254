//! Admin events: each change of what they record, by every program, with its actor and without secrets.

mod capture;
mod columns;
mod log;
mod origin;

use cuponera_domain::admin_event::{ACTIONS, SUBJECTS};
use cuponera_domain::id::{AccountId, BusinessId};
use cuponera_domain::principal::{AuditContext, Principal, Role, RoleName};
use cuponera_store::{NewAccount, Store};
use cuponera_testkit::World;
use serde_json::Value;
use sqlx::{FromRow, PgPool, query, query_as, query_scalar};
use uuid::Uuid;

use crate::setup::HASH;

/// A stored admin event.
#[derive(Debug, Clone, PartialEq, FromRow)]
struct Stored {
    business_id: Uuid,
    subject: String,
    subject_id: String,
    action: String,
    before: Option<Value>,
    after: Option<Value>,
    actor: String,
    ip: Option<String>,
    user_agent: Option<String>,
    request_id: Option<String>,
}

impl Stored {
    fn what(&self) -> (&str, &str) {
        (&self.subject, &self.action)
    }
}

/// The events since the last call, oldest first.
async fn take(pool: &PgPool) -> Vec<Stored> {
    let all = "select business_id, subject, subject_id, action, before, after, actor, host(ip) as ip, user_agent, request_id
               from admin_event order by epoch, tx, id";
    let events: Vec<Stored> = query_as(all).fetch_all(pool).await.unwrap();
    for event in &events {
        assert!(
            SUBJECTS.contains(&event.subject.as_str()) && ACTIONS.contains(&event.action.as_str()),
            "{event:?}"
        );
    }
    query("delete from admin_event").execute(pool).await.unwrap();
    events
}

/// Subjects and actions of the events since the last call.
async fn took(world: &World) -> Vec<(String, String)> {
    take(world.pool()).await.into_iter().map(|event| (event.subject, event.action)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(subject, action)| ((*subject).to_owned(), (*action).to_owned())).collect()
}

/// The audit context of a request of an admin.
fn by_admin(business: BusinessId, admin: AccountId) -> AuditContext {
    let admin = Principal { business, id: admin.0, role: Role::Admin };
    AuditContext::of_request(&admin, Some([203, 0, 113, 7].into()), Some("a browser"), Some("request-1"))
}

async fn create_account(store: &Store, business: BusinessId, email: &str, role: RoleName) -> AccountId {
    let user_id = Some(email.split('@').next().unwrap().to_owned());
    let new = NewAccount { business, email: email.to_owned(), password_hash: HASH.to_owned(), role, user_id };
    store.create_account(None, &new).await.unwrap().outcome.unwrap().id
}

/// A world with an admin, and the store of the admin's requests. The events so far are gone.
async fn administered() -> (World, Store, AccountId) {
    let world = World::new().await;
    let admin = create_account(world.store(), world.business, "admin@shop.test", RoleName::Admin).await;
    let store = world.store().clone().acting_as(by_admin(world.business, admin));
    take(world.pool()).await;
    (world, store, admin)
}

/// All values of all admin events as one text.
async fn dump(pool: &PgPool) -> String {
    query_scalar("select coalesce(string_agg(e::text, chr(10)), '') from admin_event e")
        .fetch_one(pool)
        .await
        .unwrap()
}
