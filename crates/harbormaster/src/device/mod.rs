//! `harbormaster device`: be a device, and show every packet.

mod advice;
mod trace;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use dps_client::device::{Endpoint, FinalAnswer, Outcome};
use dps_client::mqtt::Carrier;
use dps_client::tls::{self, Identity};
use dps_proto::api_version::ApiVersion;
use dps_proto::ids::{IdScope, RegistrationId};
use dps_proto::key::SymmetricKey;
use dps_proto::mqtt::{DeviceLogin, DeviceOptions, Password};
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};
use serde_json::value::RawValue;

use crate::argument;
use crate::exit::{self, Failure};
use crate::key_option::KeyOption;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Register as a device and print the final answer. Exit code 0 only if it is "assigned".
    Register(Box<RegisterOptions>),
}

#[derive(Args)]
pub(crate) struct RegisterOptions {
    /// How to speak to the service.
    #[arg(long, value_enum, default_value_t = Transport::Mqtt)]
    transport: Transport,
    /// Host name of the service; its certificate must carry it.
    #[arg(long, default_value = "localhost")]
    host: String,
    /// Port of the service [default: 8883 for mqtt, 443 for the others]
    #[arg(long, value_parser = argument::port)]
    port: Option<u16>,
    /// PEM file of the certificates to trust: ca.pem of the data directory.
    #[arg(long)]
    ca_file: PathBuf,
    /// ID scope of the service instance.
    #[arg(long)]
    id_scope: IdScope,
    /// The device.
    #[arg(long)]
    registration_id: RegistrationId,
    #[command(flatten)]
    proof: ProofOptions,
    /// PEM file with the private key of --certificate.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    certificate_key: Option<PathBuf>,
    /// JSON to send as the member "payload".
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The api-version to name.
    #[arg(long, default_value = "2021-06-01")]
    api_version: ApiVersion,
    /// Seconds that the SAS token is valid; below -300 it has expired, since the service forgives clocks that are 300 s off.
    #[arg(long, default_value_t = 3600, allow_negative_numbers = true, value_parser = argument::seconds)]
    token_seconds: i64,
    /// Print the exchange packet by packet on standard error.
    #[arg(long)]
    trace: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    /// MQTT 3.1.1 over TLS.
    Mqtt,
    /// MQTT 3.1.1 over WebSocket.
    MqttWs,
    /// The HTTPS device API.
    Https,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct ProofOptions {
    /// The device's own key, Base64.
    #[arg(long, env = "HARBORMASTER_DEVICE_KEY", hide_env_values = true, value_parser = KeyOption)]
    key: Option<SymmetricKey>,
    /// The key of its enrollment group, from which the device's is derived.
    #[arg(long, env = "HARBORMASTER_GROUP_KEY", hide_env_values = true, value_parser = KeyOption)]
    group_key: Option<SymmetricKey>,
    /// PEM file with the device's certificate, and behind it those above it that the device sends along.
    #[arg(long, value_name = "FILE", requires = "certificate_key")]
    certificate: Option<PathBuf>,
}

impl Transport {
    /// Whose host and port it is.
    fn listener(self) -> &'static str {
        match self {
            Self::Mqtt => "MQTT",
            Self::MqttWs | Self::Https => "HTTPS",
        }
    }
}

pub(crate) fn run(command: Command) -> Result<ExitCode, Failure> {
    let Command::Register(options) = command;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let trace = options.trace;
    let transport = options.transport;
    let (endpoint, login, device_options) = prepare(*options).map_err(Failure::usage)?;
    let watch = |at: Duration, step: dps_client::device::Step<'_>| {
        if trace {
            // Nobody may be reading; the registration goes on.
            let _ = trace::step(&mut std::io::stderr().lock(), at, &step);
        }
    };
    let (id_scope, id) = (login.id_scope.clone(), login.registration_id.clone());
    let registered = runtime.block_on(async {
        let carrier = match transport {
            Transport::Mqtt => Carrier::Tls,
            Transport::MqttWs => Carrier::WebSocket,
            Transport::Https => {
                return dps_client::https::register(&endpoint, login, device_options, watch).await;
            }
        };
        dps_client::mqtt::register(&endpoint, carrier, login, device_options, watch).await
    });
    match registered {
        Ok(answer) => report(&answer, &id),
        Err(why) => {
            let advice = advice::on_error(&why, transport.listener(), &id_scope, &id);
            Err(anyhow!("{}; {advice}", exit::told(&why.into())).into())
        }
    }
}

fn prepare(options: RegisterOptions) -> anyhow::Result<(Endpoint, DeviceLogin, DeviceOptions)> {
    let RegisterOptions { transport, host, port, ca_file, id_scope, registration_id, .. } = options;
    let port = port.unwrap_or(match transport {
        Transport::Mqtt => 8883,
        Transport::MqttWs | Transport::Https => 443,
    });
    let ProofOptions { key, group_key, certificate } = options.proof;
    let key = key.or_else(|| group_key.map(|group_key| group_key.derive(registration_id.as_str())));
    let expiry = Timestamp::now()
        .checked_add(SignedDuration::from_secs(options.token_seconds))
        .context("--token-seconds is out of range")?;
    let token = key.map(|key| sign_device_token(&id_scope, &registration_id, &key, expiry));
    let tls = match certificate.zip(options.certificate_key) {
        Some((certificate, key)) => {
            let identity = Identity::read(&certificate, &key).context("--certificate, --certificate-key")?;
            tls::trusting_as(&ca_file, identity)
        }
        None => tls::trusting(&ca_file),
    };
    let tls = tls.context("--ca-file")?;
    let payload = options.payload.map(RawValue::from_string).transpose().context("--payload is not JSON")?;
    let endpoint = Endpoint { server_name: host.clone(), host, port, tls };
    let login = DeviceLogin {
        id_scope,
        registration_id,
        api_version: options.api_version,
        client_version: concat!("harbormaster/", env!("CARGO_PKG_VERSION")).to_owned(),
        password: token.map(|token| Password::new(token.into_bytes())),
    };
    Ok((endpoint, login, DeviceOptions { register_payload: payload, ..DeviceOptions::default() }))
}

/// The body on standard output, what it means on standard error.
fn report(answer: &FinalAnswer, id: &RegistrationId) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&answer.body)?;
    writeln!(stdout)?;
    let outcome = answer.outcome().context("the service's answer is not JSON")?;
    let advice = advice::on_outcome(&outcome, id);
    let Outcome { status, registration_state, error_code, message, tracking_id: _ } = outcome;
    let state = registration_state.unwrap_or_default();
    let told = match (status.as_deref(), error_code) {
        (Some("assigned"), _) => {
            let (hub, device_id) =
                (state.assigned_hub.unwrap_or_default(), state.device_id.unwrap_or_default());
            writeln!(std::io::stderr(), "assigned to {hub} as {device_id}")?;
            return Ok(ExitCode::SUCCESS);
        }
        (Some("failed"), _) => format!(
            "failed with {}: {}",
            state.error_code.unwrap_or_default(),
            state.error_message.unwrap_or_default()
        ),
        (Some("disabled"), _) => "disabled: the enrollment does not admit this device".to_owned(),
        (Some(other), _) => format!("ended with status {other}"),
        (None, code) => format!("refused with {} {}", code.unwrap_or_default(), message.unwrap_or_default()),
    };
    writeln!(std::io::stderr(), "{told}; {advice}")?;
    Ok(exit::FAILED.into())
}
