//! `harbormaster certificate`: the CA certificates of an instance, over the admin listener. Spec: DPS-CLI-17, DPS-X509-23 to
//! DPS-X509-25.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::anyhow;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use dps_core::ca_certificate::CaName;
use dps_core::x509::Certificate;
use serde_json::{Value, json};

use crate::exit::Failure;
use crate::explain::lines;
use crate::file_option;
use crate::instance_option::{Instance, InstanceOptions, Output, failed};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Upload a CA certificate. It admits nobody before it is verified.
    Create {
        /// Name for it: 1 to 64 letters, digits, "-", ".", "_".
        name: CaName,
        /// The certificate, PEM or DER; "-" is standard input.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        /// It is yours beyond doubt: count it as verified at once.
        #[arg(long)]
        verified: bool,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// List all CA certificates.
    List {
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Show one CA certificate.
    Show {
        /// Its name.
        name: CaName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Ask for the code that a proof of possession must have as its common name. Earlier codes become worthless.
    VerificationCode {
        /// Name of the CA certificate.
        name: CaName,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Verify a CA certificate by a proof of possession.
    Verify {
        /// Name of the CA certificate.
        name: CaName,
        /// A certificate that the CA signed, with the verification code as its common name; PEM or DER, "-" is standard input.
        #[arg(long, value_name = "FILE")]
        certificate: PathBuf,
        #[command(flatten)]
        service: InstanceOptions,
    },
    /// Delete a CA certificate that no enrollment refers to.
    Delete {
        /// Its name.
        name: CaName,
        #[command(flatten)]
        service: InstanceOptions,
    },
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match command {
        Command::Create { name, certificate, verified, service } => {
            let body = json!({"certificate": read(&certificate)?, "isVerified": verified});
            let instance = Certificates::of(service)?;
            let made = runtime.block_on(instance.0.endpoint.put(&instance.one(&name), &body));
            instance.show(&made.map_err(failed)?)?;
            if !verified {
                writeln!(
                    io::stderr(),
                    "it admits nobody yet: harbormaster certificate verification-code {name}"
                )?;
            }
        }
        Command::List { service } => {
            let instance = Certificates::of(service)?;
            let all = runtime.block_on(instance.0.endpoint.get(&instance.all())).map_err(failed)?;
            instance.list(&all)?;
        }
        Command::Show { name, service } => {
            let instance = Certificates::of(service)?;
            let found = runtime.block_on(instance.0.endpoint.get(&instance.one(&name)));
            instance.show(&found.map_err(failed)?)?;
        }
        Command::VerificationCode { name, service } => {
            let instance = Certificates::of(service)?;
            let path = format!("{}/verification-code", instance.one(&name));
            let given = runtime.block_on(instance.0.endpoint.post(&path, &json!({}))).map_err(failed)?;
            match instance.0.output {
                Output::Json => writeln!(io::stdout(), "{given}")?,
                Output::Text => {
                    writeln!(io::stdout(), "{}", given["verificationCode"].as_str().unwrap_or_default())?;
                    writeln!(
                        io::stderr(),
                        "sign a certificate with this common name with the CA's key, then: harbormaster certificate verify {name} \
                         --certificate FILE"
                    )?;
                }
            }
        }
        Command::Verify { name, certificate, service } => {
            let body = json!({"certificate": read(&certificate)?});
            let instance = Certificates::of(service)?;
            let path = format!("{}/verify", instance.one(&name));
            instance.show(&runtime.block_on(instance.0.endpoint.post(&path, &body)).map_err(failed)?)?;
        }
        Command::Delete { name, service } => {
            let instance = Certificates::of(service)?;
            runtime.block_on(instance.0.endpoint.delete(&instance.one(&name))).map_err(failed)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The CA certificates of one instance.
struct Certificates(Instance);

impl Certificates {
    fn of(options: InstanceOptions) -> Result<Self, Failure> {
        Instance::of(options).map(Self)
    }

    fn all(&self) -> String {
        format!("{}/certificates", self.0.path)
    }

    /// A name needs no encoding.
    fn one(&self, name: &CaName) -> String {
        format!("{}/{name}", self.all())
    }

    fn show(&self, certificate: &Value) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.0.output == Output::Json {
            return writeln!(out, "{certificate}");
        }
        let info = &certificate["info"];
        let shown = json!({
            "name": certificate["name"],
            "verified": if certificate["isVerified"] == true { "yes" } else { "no" },
            "subject": info["subjectName"],
            "issuer": info["issuerName"],
            "sha1": info["sha1Thumbprint"],
            "sha256": info["sha256Thumbprint"],
            "from": info["notBeforeUtc"],
            "until": info["notAfterUtc"],
        });
        let members = [
            ("name", "name"),
            ("verified", "verified"),
            ("subject", "subject"),
            ("issuer", "issuer"),
            ("SHA-1", "sha1"),
            ("SHA-256", "sha256"),
            ("valid from", "from"),
            ("until", "until"),
        ];
        out.write_all(lines(&shown, &members).as_bytes())
    }

    fn list(&self, all: &Value) -> io::Result<()> {
        if self.0.output == Output::Json {
            return writeln!(io::stdout(), "{all}");
        }
        all.as_array().into_iter().flatten().try_for_each(|certificate| self.show(certificate))
    }
}

/// The one certificate of a file, Base64 of DER: nothing else of the file is sent.
fn read(file: &Path) -> Result<String, Failure> {
    let bytes = file_option::read("--certificate", file).map_err(Failure::usage)?;
    let certificate = match std::str::from_utf8(&bytes) {
        Ok(text) => text.parse().map_err(|why: dps_core::x509::NoCertificate| why.to_string()),
        Err(_) => Certificate::from_der(&bytes).map_err(|why| why.to_string()),
    };
    let certificate =
        certificate.map_err(|why| Failure::usage(anyhow!("--certificate {}: it {why}", file.display())))?;
    Ok(STANDARD.encode(certificate.der()))
}
