//! `harbormaster explain`: why a device was refused, or would be.
//! Spec: DPS-EXPLAIN-2, DPS-EXPLAIN-3, DPS-EXPLAIN-6, DPS-CLI-7.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use dps_client::admin::AdminEndpoint;
use dps_proto::code::TrackingId;
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::percent;
use serde_json::Value;

use crate::admin_option::AdminOptions;
use crate::dry_run::{self, Credential, DryRun};
use crate::exit::{self, Failure};
use crate::{admin_option, argument};

#[derive(Args)]
pub(crate) struct Options {
    /// The trackingId that the device was told.
    #[arg(conflicts_with_all = ["last", "registration_id", "connection"])]
    tracking_id: Option<TrackingId>,
    /// Explain the latest refusal, whoever it was.
    #[arg(long, conflicts_with_all = ["registration_id", "connection"])]
    last: bool,
    /// Explain the latest refusals of this connection, by its number in the log.
    #[arg(long, value_name = "NUMBER", value_parser = argument::number, conflicts_with = "registration_id")]
    connection: Option<u64>,
    /// Explain the latest refusals of this device.
    #[arg(long)]
    registration_id: Option<RegistrationId>,
    /// Say what would happen if the device of --registration-id registered with this SAS token; "-" reads it from standard
    /// input, so that it does not stay in the shell's history. Nothing is written.
    #[arg(long, value_name = "TOKEN|-", requires = "registration_id")]
    sas: Option<String>,
    /// ID scope that the device of --sas would name [default: the only one of the service]; of several running
    /// `harbormaster dev`, the one that has it is asked.
    #[arg(long, value_name = "ID")]
    id_scope: Option<IdScope>,
    #[command(flatten)]
    admin: AdminOptions,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people.
    Text,
    /// The admin API's own JSON.
    Json,
}

pub(crate) fn run(options: Options) -> Result<ExitCode, Failure> {
    let endpoint = admin(&options)?;
    let query = match (options.tracking_id, &options.registration_id, options.connection) {
        (Some(tracking_id), _, _) => format!("trackingId={tracking_id}"),
        (None, Some(id), _) => format!("registrationId={}", percent::encode(id.as_str())),
        (None, None, Some(connection)) => format!("connection={connection}"),
        (None, None, None) => "limit=1".to_owned(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if let (Some(sas), Some(registration_id)) = (options.sas, options.registration_id) {
        let dry_run = DryRun {
            registration_id,
            id_scope: options.id_scope,
            credential: Credential::Token(dry_run::token(sas)?),
        };
        let judged = runtime.block_on(dry_run.judge(&endpoint))?;
        return judged.print(options.output == Output::Json);
    }
    let found = runtime.block_on(endpoint.get(&format!("/admin/v1/explanations?{query}")))?;
    let mut out = std::io::stdout().lock();
    if options.output == Output::Json {
        writeln!(out, "{found}")?;
    }
    let explanations = found.as_array().map(Vec::as_slice).unwrap_or_default();
    if explanations.is_empty() {
        writeln!(
            std::io::stderr(),
            "no such refusal is kept: it may be older than the last 10,000, or before a restart"
        )?;
        return Ok(exit::FAILED.into());
    }
    if options.output == Output::Text {
        for explanation in explanations {
            out.write_all(describe(explanation).as_bytes())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The listener that the options name, else that of the running `dev`.
fn admin(options: &Options) -> Result<AdminEndpoint, Failure> {
    let Options { admin, id_scope, sas, .. } = options;
    if admin.is_named() && id_scope.is_some() && sas.is_none() {
        return Err(Failure::usage(anyhow!(
            "--id-scope without --sas chooses one of several running `harbormaster dev`; --admin names the service already"
        )));
    }
    Ok(admin_option::find(admin, id_scope.as_ref())?.endpoint)
}

/// One refusal, a line for each thing that is known of it.
fn describe(explanation: &Value) -> String {
    let chain = chain_lines(&explanation["chain"]);
    let mut shown = lines(
        explanation,
        &[
            ("when", "timestampUtc"),
            ("tracking id", "trackingId"),
            ("device", "registrationId"),
            ("ID scope", "idScope"),
            ("from", "peer"),
            ("over", "transport"),
            ("failed at", "step"),
            ("was told", "told"),
            ("because", "reason"),
            ("would work", "advice"),
        ],
    );
    if !chain.is_empty() {
        // The empty line comes last.
        shown.pop();
        shown.push_str(&chain);
        shown.push('\n');
    }
    shown
}

/// The chain as the device sent it, the path that was tried, and where it broke; nothing where there is no chain.
/// Spec: DPS-EXPLAIN-12.
pub(crate) fn chain_lines(chain: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut lines = String::new();
    for (at, certificate) in chain["received"].as_array().into_iter().flatten().enumerate() {
        let label = if at == 0 { "device sent" } else { "" };
        let (subject, issuer) = (text(&certificate["subjectName"]), text(&certificate["issuerName"]));
        let (sha1, until) = (text(&certificate["sha1Thumbprint"]), text(&certificate["notAfterUtc"]));
        let number = at + 1;
        lines.push_str(&format!(
            "{label:<12} {number}. {subject}, issued by {issuer}, until {until}, SHA-1 {sha1}\n"
        ));
    }
    lines.push_str(&path_lines("path tried", &chain["path"]));
    if let Some(rule) = chain["rule"].as_str() {
        lines.push_str(&format!("{:<12} {} ({rule})\n", "broke at", step_text(&chain["brokeAt"])));
    }
    lines
}

/// The certificates of a path, one a line.
pub(crate) fn path_lines(label: &str, path: &Value) -> String {
    let mut lines = String::new();
    for (at, step) in path.as_array().into_iter().flatten().enumerate() {
        lines.push_str(&format!("{:<12} {}\n", if at == 0 { label } else { "" }, step_text(step)));
    }
    lines
}

/// One certificate of a path, by where it came from.
fn step_text(step: &Value) -> String {
    let (name, subject) =
        (step["name"].as_str().unwrap_or_default(), step["subjectName"].as_str().unwrap_or_default());
    match step["source"].as_str() {
        Some("device") => format!("certificate {name} of the device, {subject}"),
        Some("ca-certificate") => format!("CA certificate {name}, {subject}"),
        _ => format!("signing certificate of {name}, {subject}"),
    }
}

/// A line for each member that is there, then an empty one.
pub(crate) fn lines(object: &Value, members: &[(&str, &str)]) -> String {
    let mut lines = String::new();
    for (label, member) in members {
        if let Some(text) = object[member].as_str().filter(|text| !text.is_empty()) {
            lines.push_str(&format!("{label:<12} {text}\n"));
        }
    }
    lines.push('\n');
    lines
}
