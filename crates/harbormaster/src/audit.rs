//! `harbormaster audit`: who changed what, and when. Spec: DPS-AUDIT-4.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Args;
use dps_proto::percent;
use serde_json::Value;

use crate::argument;
use crate::exit::Failure;
use crate::instance_option::{Instance, InstanceOptions, Output, failed};

#[derive(Args)]
pub(crate) struct AuditOptions {
    /// Only changes of this registration id, enrollment group, CA certificate, hub, policy or ID scope.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Only changes before this one, by its number: the next page.
    #[arg(long, value_name = "NUMBER", value_parser = argument::number)]
    before: Option<u64>,
    /// At most so many, newest first; 1,000 at most.
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = argument::count)]
    limit: NonZeroUsize,
    #[command(flatten)]
    service: InstanceOptions,
}

pub(crate) fn run(options: AuditOptions) -> Result<ExitCode, Failure> {
    let AuditOptions { id, before, limit, service } = options;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let instance = Instance::of(service)?;
    let mut path = format!("{}/audit?limit={limit}", instance.path);
    if let Some(before) = before {
        path.push_str(&format!("&before={before}"));
    }
    if let Some(id) = id {
        path.push_str(&format!("&id={}", percent::encode(&id)));
    }
    let records = runtime.block_on(instance.endpoint.get(&path)).map_err(failed)?;
    let mut out = io::stdout().lock();
    match instance.output {
        Output::Json => writeln!(out, "{records}")?,
        Output::Text => {
            for record in records.as_array().into_iter().flatten() {
                writeln!(out, "{}", line(record))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Such as `7  2026-11-20T08:00:00.0000000Z  created enrollment press-7, by policy owner from 127.0.0.1, trackingId ...`.
fn line(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let principal = &record["principal"];
    let by = match principal["type"].as_str() {
        Some("sharedAccessPolicy") => format!("policy {}", text(&principal["name"])),
        _ => "the admin token".to_owned(),
    };
    let from = record["address"].as_str().map(|address| format!(" from {address}")).unwrap_or_default();
    let tracking_id =
        record["trackingId"].as_str().map(|id| format!(", trackingId {id}")).unwrap_or_default();
    let subject = &record["subject"];
    format!(
        "{}  {}  {} {} {}, by {by}{from}{tracking_id}",
        record["number"],
        text(&record["dateTimeUtc"]),
        text(&record["action"]),
        text(&subject["type"]),
        text(&subject["id"]),
    )
}
