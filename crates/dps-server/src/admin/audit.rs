//! The changes of an instance, newest first. Spec: DPS-AUDIT-4.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use dps_core::audit::{AuditFilter, AuditRecord, Principal};
use dps_proto::date;
use serde::Deserialize;
use serde_json::{Value, json};

use super::refused::Refused;
use super::{Admin, PAGE};

/// Records in one answer where the request does not say.
const LIMIT_DEFAULT: u32 = 100;

/// What to look for; without any of these, the latest.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditQuery {
    /// Whatever it names.
    id: Option<String>,
    /// A number that was told.
    before: Option<u64>,
    limit: Option<u32>,
}

pub(super) fn router() -> Router<Arc<Admin>> {
    Router::new().route("/admin/v1/id-scopes/{id_scope}/audit", get(list))
}

async fn list(
    State(admin): State<Arc<Admin>>,
    Path(scope): Path<String>,
    Query(AuditQuery { id, before, limit }): Query<AuditQuery>,
) -> Result<Response, Refused> {
    let filter = AuditFilter { before, subject: id.map(|id| id.to_ascii_lowercase().into()) };
    let limit = limit.unwrap_or(LIMIT_DEFAULT).min(PAGE);
    let records = match scope.parse() {
        // Those of an instance that was deleted as well. Spec: DPS-INST-8.
        Ok(scope) => admin.store.audit_records(&scope, &filter, limit).await?,
        Err(_) => Vec::new(),
    };
    if records.is_empty() {
        admin.scope_of(&scope)?;
    }
    Ok(Json(records.iter().map(describe).collect::<Vec<_>>()).into_response())
}

/// Members are only ever added.
fn describe(record: &AuditRecord) -> Value {
    let AuditRecord { number, author, action, subject, etag } = record;
    json!({
        "number": number,
        "dateTimeUtc": date::format(author.at),
        "principal": match &author.principal {
            Principal::Policy(name) => json!({"type": "sharedAccessPolicy", "name": name}),
            Principal::Admin => json!({"type": "admin"}),
        },
        "address": author.address.map(|address| address.to_string()),
        "trackingId": author.tracking_id.map(|id| id.to_string()),
        "action": action.as_str(),
        "subject": {"type": subject.kind(), "id": subject.id()},
        "etag": etag.as_ref().map(|etag| etag.as_str()),
    })
}
