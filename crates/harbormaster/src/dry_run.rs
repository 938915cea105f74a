//! `explain --sas` and `pki verify`: what would become of a device, asked without one.
//! Spec: DPS-EXPLAIN-6, DPS-EXPLAIN-7, DPS-EXPLAIN-9, DPS-EXPLAIN-13.

use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use dps_client::admin::{AdminEndpoint, AdminError};
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::sas::TOKEN_BYTES_MAX;
use serde_json::{Value, json};

use crate::exit::{self, Failure};
use crate::explain;

/// What a device would claim.
pub(crate) struct DryRun {
    pub(crate) registration_id: RegistrationId,
    pub(crate) id_scope: Option<IdScope>,
    pub(crate) credential: Credential,
}

/// What it would prove itself with.
pub(crate) enum Credential {
    /// A SAS token.
    Token(String),
    /// A chain, each certificate in Base64 of DER, the device's own first.
    Certificates(Vec<String>),
}

/// What the service says to it.
pub(crate) struct Judged(Value);

/// The token of the option, which "-" takes from standard input. One that is too long for any service is left for it to refuse.
pub(crate) fn token(option: String) -> Result<String, Failure> {
    if option != "-" {
        return Ok(option);
    }
    let mut token = String::new();
    let most = TOKEN_BYTES_MAX as u64 + 2;
    io::stdin().take(most).read_to_string(&mut token).context("--sas -: standard input")?;
    match token.trim() {
        "" => Err(Failure::usage(anyhow!("--sas -: standard input holds no token"))),
        token => Ok(token.to_owned()),
    }
}

impl DryRun {
    pub(crate) async fn judge(self, endpoint: &AdminEndpoint) -> Result<Judged, AdminError> {
        let mut body = json!({"registrationId": self.registration_id.as_str()});
        match self.credential {
            Credential::Token(token) => body["sasToken"] = token.into(),
            Credential::Certificates(certificates) => body["certificates"] = certificates.into(),
        }
        if let Some(id_scope) = &self.id_scope {
            body["idScope"] = id_scope.as_str().into();
        }
        endpoint.post("/admin/v1/explanations/dry-run", &body).await.map(Judged)
    }
}

impl Judged {
    /// Spec: DPS-EXPLAIN-9.
    pub(crate) fn print(&self, as_json: bool) -> Result<ExitCode, Failure> {
        let mut out = io::stdout().lock();
        if as_json {
            writeln!(out, "{}", self.0)?;
        } else {
            out.write_all(self.describe().as_bytes())?;
        }
        let is_admitted = self.0["outcome"] == "admitted";
        Ok(if is_admitted { ExitCode::SUCCESS } else { exit::NOT_ALLOWED.into() })
    }

    fn describe(&self) -> String {
        let mut shown = self.0.clone();
        shown["would"] = match (self.0["outcome"].as_str(), self.0["keepsAssignment"].as_bool()) {
            (Some("admitted"), _) if self.0["asksWebhook"] == true => {
                "be admitted, and its enrollment's webhook be asked for a hub"
            }
            (Some("admitted"), Some(true)) => "be admitted and keep its hub",
            (Some("admitted"), _) => "be admitted",
            (Some("disabled"), _) => "be told that its enrollment is disabled",
            (Some("failed"), _) => "be admitted and get no hub",
            _ => "be refused",
        }
        .into();
        let mut described = explain::lines(
            &shown,
            &[
                ("device", "registrationId"),
                ("ID scope", "idScope"),
                ("would", "would"),
                ("by", "entry"),
                ("at hub", "assignedHub"),
                ("lives at", "currentHub"),
                ("as", "deviceId"),
                ("leaving", "claimedFrom"),
                ("would hear", "told"),
                ("because", "reason"),
                ("would work", "advice"),
            ],
        );
        // The empty line comes last.
        described.pop();
        described.push_str(&explain::chain_lines(&self.0["chain"]));
        described.push_str(&explain::path_lines("by the path", &self.0["path"]));
        described.push('\n');
        described
    }
}
