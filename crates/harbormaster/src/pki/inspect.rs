//! `pki inspect`: what stands in certificates, in the words of DPS. Spec: DPS-CLI-19.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::Args;
use dps_core::x509::{Authority, Certificate};
use dps_server::enrollment_json::info;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use super::Output;
use crate::exit::Failure;
use crate::file_option;

#[derive(Args)]
pub(crate) struct Options {
    /// Files with certificates: PEM, any number of them in each, or one in DER; "-" is standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

pub(super) fn run(options: Options) -> Result<ExitCode, Failure> {
    let mut described = Vec::new();
    for file in &options.files {
        let certificates = certificates("FILE", file).map_err(Failure::usage)?;
        for (at, certificate) in certificates.iter().enumerate() {
            described.push(describe(file, at, certificate, certificates.get(at + 1)));
        }
    }
    let mut out = std::io::stdout().lock();
    match options.output {
        Output::Json => writeln!(out, "{}", Value::from(described))?,
        Output::Text => {
            for certificate in &described {
                out.write_all(lines(certificate).as_bytes())?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// All certificates of a file, in their order.
pub(super) fn certificates(option: &'static str, file: &Path) -> anyhow::Result<Vec<Certificate>> {
    let bytes = file_option::read(option, file)?;
    let place = file.display();
    let ders: Vec<Vec<u8>> = if bytes.trim_ascii_start().starts_with(b"-----BEGIN ") {
        CertificateDer::pem_slice_iter(&bytes)
            .map(|read| read.map(|der| der.to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|_| anyhow!("{option} {place}: a PEM section of it cannot be read"))?
    } else {
        vec![bytes.to_vec()]
    };
    if ders.is_empty() {
        bail!("{option} {place}: there is no certificate in it");
    }
    let read = |(at, der): (usize, Vec<u8>)| {
        Certificate::from_der(&der).map_err(|why| anyhow!("{option} {place}: certificate {}: {why}", at + 1))
    };
    ders.into_iter().enumerate().map(read).collect()
}

fn describe(file: &Path, at: usize, certificate: &Certificate, next: Option<&Certificate>) -> Value {
    let mut json = info(certificate);
    let (is_ca, path_length) = match certificate.authority() {
        Authority::Yes { path_length } => (json!(true), json!(path_length)),
        Authority::No => (json!(false), Value::Null),
        Authority::Unsaid => (Value::Null, Value::Null),
    };
    json["file"] = file.display().to_string().into();
    json["number"] = (at + 1).into();
    json["registrationId"] = certificate.common_name().ok().into();
    json["keyKind"] = certificate.key_kind().into();
    json["isCa"] = is_ca;
    json["pathLength"] = path_length;
    json["maySignCertificates"] = certificate.may_sign_certificates().into();
    json["mayAuthenticateClients"] = certificate.may_authenticate_clients().into();
    json["isSelfIssued"] = certificate.is_self_issued().into();
    json["nextIsIssuer"] = next.map(|next| certificate.verify_signature(next).is_ok()).into();
    json
}

fn lines(json: &Value) -> String {
    let text = |member: &str| json[member].as_str().unwrap_or_default().to_owned();
    let said = |member: &str, yes: &str, no: &str, unsaid: &str| {
        match json[member].as_bool() {
            Some(true) => yes,
            Some(false) => no,
            None => unsaid,
        }
        .to_owned()
    };
    let limit = json["pathLength"].as_u64().map(|most| format!(", {most} CAs below it at most"));
    let rows = [
        ("certificate", format!("{} of {}", json["number"], text("file"))),
        ("subject", text("subjectName")),
        ("issuer", text("issuerName")),
        (
            "common name",
            json["registrationId"].as_str().unwrap_or("not one: it gives no registration id").to_owned(),
        ),
        ("SHA-1", text("sha1Thumbprint")),
        ("SHA-256", text("sha256Thumbprint")),
        ("serial", text("serialNumber")),
        ("valid from", text("notBeforeUtc")),
        ("until", text("notAfterUtc")),
        ("version", json["version"].to_string()),
        ("key", text("keyKind")),
        ("CA", said("isCa", "yes", "no", "not said") + &limit.unwrap_or_default()),
        (
            "signs",
            said("maySignCertificates", "may sign certificates", "may not (no keyCertSign)", "no key usage"),
        ),
        (
            "purpose",
            said(
                "mayAuthenticateClients",
                "clients may authenticate with it",
                "not for clients: its extended key usage lacks clientAuth",
                "any",
            ),
        ),
        ("next one", said("nextIsIssuer", "has issued it", "has not issued it", "there is none")),
    ];
    let mut lines: String = rows.iter().map(|(label, text)| format!("{label:<12} {text}\n")).collect();
    lines.push('\n');
    lines
}
