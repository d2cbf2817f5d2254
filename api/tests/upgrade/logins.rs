//! Logins and accounts of earlier versions get their rows, and their access tokens end like today's.

use cuponera_domain::id::{BusinessId, LoginId};
use cuponera_domain::principal::{Principal, Role};
use cuponera_platform::credential::Tokens;
use serde_json::json;
use sqlx::{query_as, query_scalar};
use std::time::Duration;
use uuid::Uuid;

use super::{installations, without_worker};
use crate::support::{JWT_SECRET, Server};

async fn count(server: &Server, sql: &'static str) -> i64 {
    query_scalar(sql).fetch_one(server.database.pool()).await.expect("counting failed")
}

#[tokio::test(flavor = "multi_thread")]
async fn old_logins_and_accounts_have_rows_and_an_old_access_token_ends_with_its_login() {
    for (server, _) in installations(without_worker()).await {
        let without = "select count(*) from refresh_token t where not exists (select from login l
                         where l.id = t.family_id and l.account_id = t.account_id and (l.ended_at is not null) =
                           exists (select from refresh_token r where r.family_id = t.family_id and r.revoked_at is not null))";
        assert!(count(&server, "select count(*) from refresh_token").await > 0);
        assert_eq!(count(&server, without).await, 0, "a token has no login, or one that differs");
        let without = "select count(*) from user_account a where not exists (select from membership m
                         where m.account_id = a.id and (m.business_id, m.role, m.user_id, m.created_at) = (a.business_id, a.role, a.user_id, a.created_at)
                           and m.disabled_at is not distinct from a.disabled_at)";
        assert_eq!(count(&server, without).await, 0, "an account is not a member of its business");
        let old = "select l.id, a.id, a.business_id, a.user_id from login l join user_account a on a.id = l.account_id
                   where l.ended_at is null and a.role = 'USER' and a.disabled_at is null order by l.id limit 1";
        let (login, account, business, user_id): (Uuid, Uuid, Uuid, String) =
            query_as(old).fetch_one(server.database.pool()).await.expect("the dump has a user's login");
        // Signed as by the version of the dump.
        let tokens = Tokens::new(&JWT_SECRET.to_owned().into(), Duration::from_mins(15));
        let principal =
            Principal { business: BusinessId(business), id: account, role: Role::User { user_id } };
        let token = tokens.issue(&principal, LoginId(login)).expect("a token");
        let client = server.anonymous().with_token(&token);
        assert_eq!(client.get("auth/me").await.expect(200)["id"], account.to_string());
        client.post("auth/logout", json!({})).await.expect(200);
        assert_eq!(client.get("auth/me").await.rejected(401), "unauthorized");
    }
}
