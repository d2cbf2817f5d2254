//! Browsers: the refresh token is a cookie that scripts cannot read and pages of other sites cannot use.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use super::{bearer, refresh};
use crate::support::{ADMIN_EMAIL, ADMIN_PASSWORD, Client, Limits, Reply, Server};

/// A name and a value.
type Header = (&'static str, &'static str);

const ORIGIN: Header = ("Origin", "https://shop.test");
const SITE: Header = ("Sec-Fetch-Site", "same-origin");

/// A server that accepts the origin.
async fn server() -> Server {
    let cors_origins = vec![ORIGIN.1.parse().expect("an origin")];
    Server::start_with(Limits { worker: false, cors_origins, ..Limits::default() }).await
}

fn with(request: RequestBuilder, headers: &[Header]) -> RequestBuilder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
}

async fn log_in_with(server: &Server, headers: &[Header]) -> Reply {
    let body = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
    Reply::to(with(server.anonymous().request(Method::POST, "auth/login").json(&body), headers)).await
}

/// Sends a request without a body, with this refresh token as the cookie.
async fn post(client: &Client, path: &str, token: &str, headers: &[Header]) -> Reply {
    let cookie = format!("theme=dark; cuponera_refresh={token}; other=1");
    Reply::to(with(client.request(Method::POST, path).header("Cookie", cookie), headers)).await
}

/// The token and attributes of the cookie in an answer.
fn cookie(reply: &Reply) -> (String, Vec<String>) {
    let mut parts = reply.header("Set-Cookie").split("; ").map(str::to_owned);
    let token = parts
        .next()
        .expect("no cookie")
        .strip_prefix("cuponera_refresh=")
        .expect("another cookie")
        .to_owned();
    let mut attributes: Vec<String> = parts.collect();
    attributes.sort();
    (token, attributes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_gets_the_refresh_token_as_a_cookie_for_the_server_alone() {
    let server = server().await;
    let plain = ["HttpOnly", "Max-Age=3600", "Path=/api/v1/auth", "SameSite=Strict"];
    let secure = ["HttpOnly", "Max-Age=3600", "Path=/api/v1/auth", "SameSite=Strict", "Secure"];
    let cases: [(Header, &[&str]); 4] = [
        (ORIGIN, &secure),
        (("Origin", "http://localhost:5173"), &plain),
        (("Origin", "null"), &plain),
        (SITE, &plain),
    ];
    for (header, expected) in cases {
        let reply = log_in_with(&server, &[header]).await;
        let (token, attributes) = cookie(&reply);
        assert_eq!(
            (token.len(), attributes),
            (64, expected.iter().map(ToString::to_string).collect()),
            "{header:?}"
        );
        let session = reply.expect(200);
        assert_eq!(session.get("refreshToken"), None, "a script can read it: {header:?}");
        bearer(&server, &session).get("users").await.expect(200);
    }
    // Other programs get it in the body. The client of Node.js sends one of the headers of browsers.
    for headers in [&[][..], &[("Sec-Fetch-Mode", "cors")]] {
        let reply = log_in_with(&server, headers).await;
        assert_eq!(reply.header("Set-Cookie"), "");
        assert!(reply.expect(200)["refreshToken"].is_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_refreshes_once_and_its_successor_comes_as_a_cookie_too() {
    let server = server().await;
    let (first, _) = cookie(&log_in_with(&server, &[ORIGIN]).await);
    let reply = post(&server.anonymous(), "auth/refresh", &first, &[]).await;
    let (second, _) = cookie(&reply);
    assert_ne!(first, second);
    assert_eq!(reply.expect(200).get("refreshToken"), None);
    let (third, _) = cookie(&post(&server.anonymous(), "auth/refresh", &second, &[SITE]).await);
    assert_eq!(
        post(&server.anonymous(), "auth/refresh", &first, &[]).await.rejected(401),
        "invalid_refresh_token"
    );
    assert_eq!(
        post(&server.anonymous(), "auth/refresh", &third, &[]).await.rejected(401),
        "invalid_refresh_token"
    );
    let problem = server.anonymous().post("auth/refresh", json!({})).await.expect(422);
    assert_eq!(problem["errors"][0]["field"], "refreshToken");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_body_s_token_goes_before_the_cookie_s() {
    let server = server().await;
    let (of_cookie, _) = cookie(&log_in_with(&server, &[ORIGIN]).await);
    let program: Value = log_in_with(&server, &[]).await.expect(200);
    let request = server.anonymous().request(Method::POST, "auth/refresh");
    let request = request.header("Cookie", format!("cuponera_refresh={of_cookie}"));
    let reply = Reply::to(request.json(&json!({"refreshToken": program["refreshToken"]}))).await;
    assert!(reply.expect(200)["refreshToken"].is_string());
    assert_eq!(refresh(&server, &program).await.rejected(401), "invalid_refresh_token");
    post(&server.anonymous(), "auth/refresh", &of_cookie, &[]).await.expect(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_site_s_page_cannot_use_the_cookie() {
    let server = server().await;
    let reply = log_in_with(&server, &[ORIGIN]).await;
    let ((token, _), client) = (cookie(&reply), bearer(&server, &reply.json()));
    for site in ["cross-site", "", "something-new"] {
        let foreign = [("Sec-Fetch-Site", site)];
        let rejected = post(&server.anonymous(), "auth/refresh", &token, &foreign).await;
        assert_eq!(rejected.rejected(403), "forbidden", "{site}");
        assert_eq!(post(&client, "auth/logout", &token, &foreign).await.rejected(403), "forbidden", "{site}");
    }
    let mut token = token;
    for site in ["same-origin", "same-site", "none"] {
        let reply = post(&server.anonymous(), "auth/refresh", &token, &[("Sec-Fetch-Site", site)]).await;
        assert_eq!(reply.status, 200, "{site}: {}", reply.text);
        token = cookie(&reply).0;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_is_taken_from_the_server_s_own_origin_and_those_of_the_settings_alone() {
    let server = server().await;
    let reply = log_in_with(&server, &[ORIGIN]).await;
    let ((mut token, _), client) = (cookie(&reply), bearer(&server, &reply.json()));
    let (own, host) = (format!("http://{}", client.address()), client.address());
    let foreign =
        ["null", "https://evil.test", "https://shop.test.evil.test", "https://shop.test:8443", "", &host];
    for origin in foreign {
        for (who, path) in [(&server.anonymous(), "auth/refresh"), (&client, "auth/logout")] {
            let reply = send_from(who, path, &token, origin).await;
            assert_eq!(reply.rejected(403), "forbidden", "{origin} {path}");
        }
    }
    for origin in [&own, &own.replace("http:", "https:"), "https://shop.test"] {
        let reply = send_from(&server.anonymous(), "auth/refresh", &token, origin).await;
        assert_eq!(reply.status, 200, "{origin}: {}", reply.text);
        token = cookie(&reply).0;
    }
    let two = with(server.anonymous().request(Method::POST, "auth/refresh"), &[ORIGIN, ("Origin", "null")]);
    let two = Reply::to(two.header("Cookie", format!("cuponera_refresh={token}"))).await;
    assert_eq!(two.rejected(403), "forbidden");
    // Without the cookie the origin is not checked: CORS decides what a page may read.
    let session: Value = log_in_with(&server, &[]).await.expect(200);
    let body = json!({"refreshToken": session["refreshToken"]});
    let request =
        server.anonymous().request(Method::POST, "auth/refresh").header("Origin", "https://evil.test");
    assert_eq!(Reply::to(request.json(&body)).await.status, 200);
}

/// Sends a request without a body from a page of the origin, with this refresh token as the cookie.
async fn send_from(client: &Client, path: &str, token: &str, origin: &str) -> Reply {
    let request = client.request(Method::POST, path).header("Origin", origin);
    Reply::to(request.header("Cookie", format!("cuponera_refresh={token}"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn logging_out_takes_the_cookie_away_and_ends_its_login() {
    let server = server().await;
    let reply = log_in_with(&server, &[ORIGIN]).await;
    let (token, _) = cookie(&reply);
    let (other, _) = cookie(&log_in_with(&server, &[ORIGIN]).await);
    let out = post(&bearer(&server, &reply.json()), "auth/logout", &other, &[ORIGIN, SITE]).await;
    let (left, attributes) = cookie(&out);
    assert_eq!((out.status, left.as_str()), (200, ""));
    assert_eq!(attributes, ["HttpOnly", "Max-Age=0", "Path=/api/v1/auth", "SameSite=Strict", "Secure"]);
    for token in [token, other] {
        assert_eq!(
            post(&server.anonymous(), "auth/refresh", &token, &[]).await.rejected(401),
            "invalid_refresh_token"
        );
    }
}
