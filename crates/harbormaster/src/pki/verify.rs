//! `pki verify`: what a service makes of a chain, or signing certificates at hand, with no device. Spec: DPS-CLI-20.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use dps_core::x509::{Anchor, BrokenChain, Certificate, ChainRules, PresentedChain, judge_leaf, walk};
use dps_proto::ids::{IdScope, RegistrationId};
use jiff::Timestamp;
use serde_json::json;

use super::{Output, inspect};
use crate::admin_option::{self, AdminOptions};
use crate::dry_run::{Credential, DryRun};
use crate::exit::{self, Failure};

#[derive(Args)]
pub(crate) struct Options {
    /// The chain as the device would send it, its own certificate first: PEM, or one certificate in DER.
    #[arg(value_name = "FILE")]
    chain: PathBuf,
    /// The device [default: the common name of its certificate].
    #[arg(long)]
    registration_id: Option<RegistrationId>,
    /// Judge by this signing certificate, as if it were enrolled in a group, and ask no service. May be repeated.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id_scope", "admin"])]
    signer: Vec<PathBuf>,
    /// ID scope that the device would name [default: the only one of the service].
    #[arg(long, value_name = "ID")]
    id_scope: Option<IdScope>,
    #[command(flatten)]
    admin: AdminOptions,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let Options { chain, registration_id, signer, id_scope, admin, output } = options;
    let certificates = inspect::certificates("FILE", &chain).map_err(Failure::usage)?;
    if !signer.is_empty() {
        return offline(&certificates, registration_id.as_ref(), &signer, output);
    }
    let registration_id = match registration_id {
        Some(id) => id,
        None => own_id(&certificates[0]).map_err(Failure::usage)?,
    };
    let certificates = certificates.iter().map(|certificate| STANDARD.encode(certificate.der())).collect();
    let endpoint = admin_option::find(&admin, id_scope.as_ref())?.endpoint;
    let dry_run = DryRun { registration_id, id_scope, credential: Credential::Certificates(certificates) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let judged = runtime.block_on(dry_run.judge(&endpoint))?;
    judged.print(output == Output::Json)
}

fn own_id(certificate: &Certificate) -> anyhow::Result<RegistrationId> {
    let name = certificate
        .common_name()
        .map_err(|why| anyhow!("the device's certificate: {why}; name the device with --registration-id"))?;
    name.parse().map_err(|why| {
        anyhow!("the common name {name:?} of the device's certificate is no registration id: {why}")
    })
}

/// By the code of the service, with the rules that it has by default, and none of its entries.
fn offline(
    certificates: &[Certificate],
    registration_id: Option<&RegistrationId>,
    signers: &[PathBuf],
    output: Output,
) -> Result<ExitCode, Failure> {
    let mut read = Vec::new();
    for file in signers {
        let of_file = inspect::certificates("--signer", file).map_err(Failure::usage)?;
        read.extend(of_file.into_iter().map(|certificate| (file.display().to_string(), certificate)));
    }
    let chain = PresentedChain::read(certificates.iter().map(Certificate::der))
        .map_err(|why| Failure::usage(anyhow!("FILE: {why}")))?;
    let judged = judge(&chain, registration_id, &read);
    let mut out = std::io::stdout().lock();
    match (&judged, output) {
        (Ok(path), Output::Json) => writeln!(out, "{}", json!({"outcome": "admitted", "path": path}))?,
        (Ok(path), Output::Text) => {
            writeln!(out, "{:<12} be admitted, with that signing certificate in a group", "would")?;
            for (at, step) in path.iter().enumerate() {
                writeln!(out, "{:<12} {step}", if at == 0 { "by the path" } else { "" })?;
            }
        }
        (Err((why, rule)), Output::Json) => {
            writeln!(out, "{}", json!({"outcome": "refused", "reason": why, "rule": rule}))?;
        }
        (Err((why, rule)), Output::Text) => {
            writeln!(out, "{:<12} be refused\n{:<12} {why} ({rule})", "would", "because")?;
        }
    }
    Ok(if judged.is_ok() { ExitCode::SUCCESS } else { exit::NOT_ALLOWED.into() })
}

/// The path, or the reason and the word for its rule.
fn judge(
    chain: &PresentedChain,
    registration_id: Option<&RegistrationId>,
    signers: &[(String, Certificate)],
) -> Result<Vec<String>, (String, &'static str)> {
    let (rules, now) = (ChainRules::default(), Timestamp::now());
    let told = |broken: Box<BrokenChain>| (broken.to_string(), broken.fault.rule());
    let name = chain.leaf().common_name().map_err(|why| (why.to_string(), "common-name"))?;
    if let Some(id) = registration_id
        && !name.eq_ignore_ascii_case(id.as_str())
    {
        return Err((format!("the common name {name:?} is not the registration id {id}"), "registration-id"));
    }
    judge_leaf(chain, false, &rules, now).map_err(told)?;
    let anchors: Vec<_> =
        signers.iter().map(|(file, certificate)| Anchor { certificate, holder: &**file }).collect();
    let reached = walk(chain, &anchors, &[], &rules, now).map_err(told)?;
    let fit = reached.iter().find(|reached| reached.unfit.is_none());
    match (fit, reached.first()) {
        (Some(reached), _) => Ok(reached.path().iter().map(|step| step.which.to_string()).collect()),
        (None, Some(reached)) => {
            let fault = reached.unfit.clone().unwrap_or(dps_core::x509::ChainFault::NotEnrolled);
            Err(told(reached.broken(chain, fault)))
        }
        (None, None) => Err(("no signing certificate was reached".to_owned(), "not-enrolled")),
    }
}
