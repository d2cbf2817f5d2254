//! The health checks.

mod doc;
mod view;

use chrono::Utc;
use cuponera_platform::cache::CacheState;
use cuponera_platform::queue::Queue;
use cuponera_store::Result;
use poem::Request;
use poem_openapi::OpenApi;
use poem_openapi::payload::Json;

use super::Tag;
use crate::auth::caller::app;
use crate::http::problem::Problem;
use view::{Answer, Ready, Report, Word};

pub(super) use doc::operations;

pub(crate) struct Health;

#[OpenApi(prefix_path = "/health", tag = "Tag::Health")]
impl Health {
    /// Get the state of the installation
    #[oai(path = "/", method = "get", operation_id = "getHealth")]
    async fn health(&self, request: &Request) -> Result<Answer, Problem> {
        let connected = database_answers(request).await;
        let queue = match &app(request).queue {
            Queue::Postgres(_) => connected,
            Queue::Sqs(sqs) => sqs.answers().await,
        };
        let redis = app(request).cache.state();
        let report = Report {
            status: if connected && queue && redis != CacheState::Disconnected { "ok" } else { "degraded" }
                .into(),
            timestamp: Utc::now().into(),
            database: word(connected),
            redis: match redis {
                CacheState::Disabled => "disabled".into(),
                CacheState::Connected | CacheState::Disconnected => word(redis == CacheState::Connected),
            },
            queue: word(queue),
            uptime: u64::try_from(app(request).started.elapsed().as_millis()).unwrap_or(u64::MAX),
            version: env!("CARGO_PKG_VERSION").into(),
        };
        Ok(if connected { Answer::Well(Json(report)) } else { Answer::Ill(Json(report)) })
    }

    /// Check whether the process is running
    #[oai(path = "/live", method = "get", operation_id = "getLiveness")]
    #[expect(clippy::unused_async, reason = "operations are async")]
    async fn live(&self) -> Json<Word> {
        Json(Word { status: "ok".into() })
    }

    /// Check whether the process can serve requests
    #[oai(path = "/ready", method = "get", operation_id = "getReadiness")]
    async fn ready(&self, request: &Request) -> Ready {
        if database_answers(request).await {
            Ready::Yes(Json(Word { status: "ok".into() }))
        } else {
            Ready::No(Json(Word { status: "unavailable".into() }))
        }
    }
}

fn word(connected: bool) -> String {
    if connected { "connected" } else { "disconnected" }.to_owned()
}

async fn database_answers(request: &Request) -> bool {
    let app = app(request);
    app.database_health.is_connected(&app.store).await
}
