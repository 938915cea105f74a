//! What `dev` says once every port accepts. Spec: DPS-DEV-3.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use dps_core::access::SharedAccessPolicy;
use dps_proto::ids::{HubName, IdScope};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::enrollments::Group;
use super::sample_device::{self, SampleDevice};
use crate::invocation::{self, quoted};

/// The device of the examples.
const SAMPLE_DEVICE: &str = "my-device";

/// The service as it runs.
pub(super) struct Ready {
    /// By which this machine would find the host, where it does not. Spec: DPS-DEV-12.
    pub(super) hosts_line: Option<String>,
    pub(super) id_scope: IdScope,
    pub(super) host: String,
    pub(super) mqtt: SocketAddr,
    pub(super) https: SocketAddr,
    /// Opens the service API.
    pub(super) owner: SharedAccessPolicy,
    pub(super) admin: SocketAddr,
    /// Where a broker may ask.
    pub(super) broker: Option<SocketAddr>,
    pub(super) admin_token_file: PathBuf,
    pub(super) ca_file: PathBuf,
    /// With symmetric keys.
    pub(super) groups: Vec<Group>,
    /// With a certificate.
    pub(super) device: SampleDevice,
    pub(super) linked_hubs: Vec<HubName>,
}

impl Ready {
    /// Where the service is, and what opens it. Members are only ever added.
    pub(super) fn contract(&self) -> Value {
        let groups: Vec<_> = self
            .groups
            .iter()
            .map(|group| {
                json!({
                    "enrollmentGroupId": group.id.as_str(),
                    "primaryKey": *group.keys.primary.expose_base64(),
                    "secondaryKey": *group.keys.secondary.expose_base64(),
                })
            })
            .collect();
        let mut contract = json!({
            "idScope": self.id_scope.as_str(),
            "host": self.host,
            "mqtt": {"address": self.mqtt.ip().to_string(), "port": self.mqtt.port()},
            "https": {"address": self.https.ip().to_string(), "port": self.https.port()},
            "admin": {
                "address": self.admin.ip().to_string(),
                "port": self.admin.port(),
                "tokenFile": text(&self.admin_token_file),
            },
            "caFile": text(&self.ca_file),
            "serviceConnectionString": *self.service_connection_string(),
            "enrollmentGroups": groups,
            "x509Devices": [{
                "enrollmentGroupId": sample_device::GROUP,
                "registrationId": sample_device::DEVICE,
                "certificateFile": text(&self.device.certificate_file),
                "keyFile": text(&self.device.key_file),
            }],
            "linkedHubs": self.linked_hubs.iter().map(HubName::as_str).collect::<Vec<_>>(),
        });
        if let Some(broker) = self.broker {
            contract["broker"] = json!({"address": broker.ip().to_string(), "port": broker.port()});
        }
        contract
    }

    /// The contract as one line of JSON.
    pub(super) fn print_json(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.contract())?;
        out.flush()
    }

    /// What clients of the service API are given.
    fn service_connection_string(&self) -> Zeroizing<String> {
        let Self { host, owner, https, .. } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        // Most clients take no port, and need none where it is the usual one.
        let port = if https.port() == 443 { String::new() } else { format!(":{}", https.port()) };
        let (name, key) = (&owner.name, owner.keys.primary.expose_base64());
        let key = &*key;
        Zeroizing::new(format!("HostName={host}{port};SharedAccessKeyName={name};SharedAccessKey={key}"))
    }

    /// Enough to provision a device by copy and paste.
    pub(super) fn print_guide(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(self.guide().as_bytes())?;
        out.flush()
    }

    fn guide(&self) -> String {
        let Self { id_scope, host, .. } = self;
        let (mqtt, ca_file, port) = (self.mqtt, text(&self.ca_file), self.mqtt.port());
        let https_port = self.https.port();
        let (https, connection_string) = (self.https, self.service_connection_string());
        let connection_string = &*connection_string;
        let (admin, token_file) = (self.admin, text(&self.admin_token_file));
        let program = invocation::command();
        let (ca_word, token_word) = (quoted(&ca_file), quoted(&token_file));
        let (x509_group, x509_device) = (sample_device::GROUP, sample_device::DEVICE);
        let (certificate, certificate_key) =
            (text(&self.device.certificate_file), text(&self.device.key_file));
        let (certificate_word, certificate_key_word) = (quoted(&certificate), quoted(&certificate_key));
        let hub = self.linked_hubs.first().map(HubName::as_str).unwrap_or_default();
        let Some(group) = self.groups.first() else { return String::new() };
        let group_id = &group.id;
        let group_key = group.keys.primary.expose_base64();
        let device_key = group.keys.primary.derive(SAMPLE_DEVICE).expose_base64();
        let (group_key, device_key) = (&*group_key, &*device_key);
        let broker_note = self.broker.map_or_else(String::new, |broker| {
            format!("  Broker may ask at  http://{broker}/broker/v1/ (docs/broker.md)\n")
        });
        let hosts_note = self.hosts_line.as_ref().map(|line| {
            format!("This machine does not find {host} there. Add this line to its /etc/hosts, and to those of your devices:\n\n{line}\n\n")
        });
        let hosts_note = hosts_note.unwrap_or_default();
        let sdk_note = if port == 8883 {
            String::new()
        } else {
            format!(
                "\nThe official SDKs connect to port 8883 only and will not find this service on {port}.\n"
            )
        };
        format!(
            r#"Harbormaster is ready for devices.

  MQTT over TLS      {host}:{port}  (listening on {mqtt})
  Service API        https://{host}:{https_port} (listening on {https})
  ID scope           {id_scope}
  CA to trust        {ca_file}
  Linked hub         {hub}
{broker_note}  Enrollment group   {group_id}
  Group key          {group_key}

{hosts_note}A device of the group signs with a key derived from the group's. The device of these examples is "{SAMPLE_DEVICE}", its key
is {device_key}

--- Harbormaster's own device, packet by packet:

{program} device register --trace --host {host} --port {port} --ca-file {ca_word} --id-scope {id_scope} --registration-id {SAMPLE_DEVICE} --key {device_key}

--- The key of another device:

{program} device-key derive --group-key {group_key} --registration-id another-device
{sdk_note}
--- Python (python3 -m pip install azure-iot-device):

python3 - <<'END'
from azure.iot.device import ProvisioningDeviceClient
client = ProvisioningDeviceClient.create_from_symmetric_key(
    provisioning_host="{host}", id_scope="{id_scope}", registration_id="{SAMPLE_DEVICE}",
    symmetric_key="{device_key}", server_verification_cert=open("{ca_file}").read())
print(client.register())
END

--- Node (npm install azure-iot-provisioning-device azure-iot-provisioning-device-mqtt azure-iot-security-symmetric-key):

NODE_EXTRA_CA_CERTS={ca_word} node - <<'END'
const {{ ProvisioningDeviceClient }} = require('azure-iot-provisioning-device');
const {{ Mqtt }} = require('azure-iot-provisioning-device-mqtt');
const {{ SymmetricKeySecurityClient }} = require('azure-iot-security-symmetric-key');
const security = new SymmetricKeySecurityClient('{SAMPLE_DEVICE}', '{device_key}');
ProvisioningDeviceClient.create('{host}', '{id_scope}', new Mqtt(), security)
  .register((error, result) => console.log(error || result));
END

--- C (azure-iot-sdk-c, in provisioning_client/samples/prov_dev_client_ll_sample, transport Prov_Device_MQTT_Protocol):

static const char* global_prov_uri = "{host}";
static const char* id_scope = "{id_scope}";
SECURE_DEVICE_TYPE hsm_type = SECURE_DEVICE_TYPE_SYMMETRIC_KEY;
prov_dev_set_symmetric_key_info("{SAMPLE_DEVICE}", "{device_key}");  /* before prov_dev_security_init */
Prov_Device_LL_SetOption(handle, OPTION_TRUSTED_CERT, ca_pem);  /* the text of {ca_file} */

--- A device with an X.509 certificate, of the enrollment group {x509_group}:

{program} device register --trace --host {host} --port {port} --ca-file {ca_word} --id-scope {id_scope} --registration-id {x509_device} --certificate {certificate_word} --certificate-key {certificate_key_word}

--- The same in Python:

python3 - <<'END'
from azure.iot.device import ProvisioningDeviceClient, X509
client = ProvisioningDeviceClient.create_from_x509_certificate(
    provisioning_host="{host}", id_scope="{id_scope}", registration_id="{x509_device}",
    x509=X509(cert_file="{certificate}", key_file="{certificate_key}"),
    server_verification_cert=open("{ca_file}").read())
print(client.register())
END

--- Enrollments (commands of this user find the service by themselves):

{program} enrollment create another-device
{program} enrollment list

--- Enrollments over the service API, with the tools of Azure IoT or your own:

{connection_string}

--- Why a device was refused (the log below says so too, under the trackingId that the device was told):

{program} explain --last --admin {admin} --admin-token-file {token_word}

Ctrl-C stops the service.
"#
        )
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
