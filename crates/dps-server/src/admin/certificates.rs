//! The CA certificates of an instance: uploaded, verified by proof of possession, deleted. Spec: DPS-X509-23 to DPS-X509-25.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_core::ca_certificate::{CaCertificate, CaName, VerificationCode};
use dps_core::ports::{Condition, WriteError};
use dps_core::x509::{Authority, Certificate};
use dps_proto::date;
use dps_proto::ids::IdScope;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use super::refused::Refused;
use crate::enrollment_json::info;
use crate::if_match::IfMatch;

/// How often a change is tried anew where another came between.
const TRIES_MAX: u32 = 8;

/// A certificate and, at its upload, whether that is taken on trust.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Upload {
    certificate: String,
    #[serde(default)]
    is_verified: bool,
}

pub(super) fn router() -> Router<Arc<Admin>> {
    let all = "/admin/v1/id-scopes/{id_scope}/certificates";
    let one = format!("{all}/{{name}}");
    Router::new()
        .route(all, get(list))
        .route(&one, get(show).put(upload).delete(delete))
        .route(&format!("{one}/verification-code"), post(verification_code))
        .route(&format!("{one}/verify"), post(verify))
}

async fn list(State(admin): State<Arc<Admin>>, Path(scope): Path<String>) -> Result<Response, Refused> {
    let certificates = admin.store.ca_certificates(&admin.scope_of(&scope)?).await?;
    Ok(Json(certificates.iter().map(|ca| describe(ca)).collect::<Vec<_>>()).into_response())
}

async fn show(
    State(admin): State<Arc<Admin>>,
    Path((scope, name)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let found = find(&admin, &admin.scope_of(&scope)?, &name_of(&name)?).await?;
    Ok(Json(describe(&found)).into_response())
}

/// Spec: DPS-X509-23.
async fn upload(
    State(admin): State<Arc<Admin>>,
    Path((scope, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let (scope, name) = (&instance.id_scope, name_of(&name)?);
    let Upload { certificate, is_verified } = read(&body)?;
    let certificate = Arc::new(parse(&certificate)?);
    if certificate.version() >= 3 && !matches!(certificate.authority(), Authority::Yes { .. }) {
        let why =
            "certificate: it is not a CA certificate (basicConstraints CA:TRUE), so it can admit nobody";
        return Err(Refused::Bad(why.to_owned()));
    }
    let condition = match IfMatch::of(&headers) {
        IfMatch::Absent => Condition::IfAbsent,
        IfMatch::Any | IfMatch::Existing => Condition::Always,
        given @ IfMatch::Tag(_) => {
            let current = find(&admin, scope, &name).await?;
            if !given.fits(&current.etag) {
                return Err(Refused::Changed);
            }
            Condition::IfMatches(current.etag.clone())
        }
    };
    let ca = CaCertificate::uploaded(name.clone(), certificate, is_verified, admin.moments.moment());
    match admin.store.put_ca_certificate(scope, ca, admin.order(condition)).await {
        Ok(()) => {
            tracing::info!(id_scope = %scope, %name, is_verified, "CA certificate uploaded");
            Ok(Json(describe(&*find(&admin, scope, &name).await?)).into_response())
        }
        Err(WriteError::Exists) => Err(Refused::Conflict(format!(
            "there is a CA certificate {name} already: delete it first, or send its etag in If-Match to replace it"
        ))),
        Err(why) => Err(why.into()),
    }
}

/// Spec: DPS-X509-25.
async fn delete(
    State(admin): State<Arc<Admin>>,
    Path((scope, name)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let (scope, name) = (admin.scope_of(&scope)?, name_of(&name)?);
    let current = find(&admin, &scope, &name).await?;
    let condition = match IfMatch::of(&headers) {
        IfMatch::Absent | IfMatch::Any | IfMatch::Existing => Condition::Always,
        given if given.fits(&current.etag) => Condition::IfMatches(current.etag.clone()),
        IfMatch::Tag(_) => return Err(Refused::Changed),
    };
    admin.store.delete_ca_certificate(&scope, &name, admin.order(condition)).await?;
    tracing::info!(id_scope = %scope, %name, "CA certificate deleted");
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Gives out a new code; earlier ones are worthless from here on. Spec: DPS-X509-24.
async fn verification_code(
    State(admin): State<Arc<Admin>>,
    Path((scope, name)): Path<(String, String)>,
) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let (scope, name) = (&instance.id_scope, name_of(&name)?);
    let mut random = [0; 24];
    random.copy_from_slice(&admin.moments.moment().random[..24]);
    let code = VerificationCode::generate(random);
    let changed = change(&admin, scope, &name, |ca| {
        if ca.is_verified() {
            return Err(Refused::Conflict(format!("the CA certificate {name} is verified already")));
        }
        Ok(ca.awaiting(code.clone(), admin.moments.moment()))
    })
    .await?;
    tracing::info!(id_scope = %scope, %name, "verification code given out for a CA certificate");
    Ok(Json(json!({
        "name": changed.name.as_str(),
        "verificationCode": code.as_str(),
        "etag": changed.etag.as_str(),
    }))
    .into_response())
}

/// Spec: DPS-X509-24.
async fn verify(
    State(admin): State<Arc<Admin>>,
    Path((scope, name)): Path<(String, String)>,
    body: Bytes,
) -> Result<Response, Refused> {
    let instance = admin.instance_of(&scope)?;
    let (scope, name) = (&instance.id_scope, name_of(&name)?);
    let proof = parse(&read::<Upload>(&body)?.certificate)?;
    let changed = change(&admin, scope, &name, |ca| {
        if ca.is_verified() {
            return Err(Refused::Conflict(format!("the CA certificate {name} is verified already")));
        }
        ca.verified_by(&proof, admin.moments.moment())
            .map_err(|why| Refused::Bad(format!("certificate: {why}")))
    })
    .await?;
    tracing::info!(id_scope = %scope, %name, "CA certificate verified");
    Ok(Json(describe(&changed)).into_response())
}

/// Writes what `to` makes of the CA certificate as it stands.
async fn change(
    admin: &Admin,
    scope: &IdScope,
    name: &CaName,
    to: impl Fn(&CaCertificate) -> Result<CaCertificate, Refused>,
) -> Result<CaCertificate, Refused> {
    for _ in 0..TRIES_MAX {
        let current = find(admin, scope, name).await?;
        let new = to(&current)?;
        let condition = Condition::IfMatches(current.etag.clone());
        match admin.store.put_ca_certificate(scope, new.clone(), admin.order(condition)).await {
            Ok(()) => return Ok(new),
            Err(WriteError::Changed | WriteError::Missing) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Err(Refused::Changed)
}

async fn find(admin: &Admin, scope: &IdScope, name: &CaName) -> Result<Arc<CaCertificate>, Refused> {
    let all = admin.store.ca_certificates(scope).await?;
    let found = all.iter().find(|ca| ca.name.is(name));
    found.cloned().ok_or_else(|| Refused::NoSuch(format!("there is no CA certificate {name}")))
}

fn name_of(name: &str) -> Result<CaName, Refused> {
    name.parse().map_err(|why: dps_core::ca_certificate::BadCaName| Refused::Bad(why.to_string()))
}

fn read<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, Refused> {
    // What serde would quote of the body is not repeated.
    serde_json::from_slice(body).map_err(|why| {
        Refused::Bad(format!(
            "the body is not {{\"certificate\": PEM, or Base64 of DER}}, with \"isVerified\" at an upload; see line {} column {}",
            why.line(),
            why.column()
        ))
    })
}

fn parse(text: &str) -> Result<Certificate, Refused> {
    text.parse().map_err(|why: dps_core::x509::NoCertificate| Refused::Bad(format!("certificate: {why}")))
}

/// Members are only ever added.
fn describe(ca: &CaCertificate) -> Value {
    json!({
        "name": ca.name.as_str(),
        "isVerified": ca.is_verified(),
        "etag": ca.etag.as_str(),
        "createdDateTimeUtc": date::format(ca.created_at),
        "lastUpdatedDateTimeUtc": date::format(ca.updated_at),
        "certificate": STANDARD.encode(ca.certificate.der()),
        "info": info(&ca.certificate),
    })
}
