//! A running `serve`, and devices of its instances.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what went wrong by failing")]
#![allow(dead_code, reason = "several test programs share it, and none uses all of it")]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dps_client::device::{Endpoint, FinalAnswer, RegisterError, Step};
use dps_client::mqtt::{Carrier, register};
use dps_proto::ids::IdScope;
use dps_proto::key::SymmetricKey;
use dps_proto::mqtt::{DeviceLogin, DeviceOptions, Packet, Password};
use dps_proto::percent;
use dps_proto::sas::sign_device_token;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// Of the owner's policy in both instances.
pub(crate) const OWNER_KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

/// Longer than anything takes on a loaded machine.
const WITHIN: Duration = Duration::from_secs(60);

/// A directory with everything that [`Fleet::configuration`] names: a store with one enrollment group in each of two
/// instances, certificates, keys.
pub(crate) struct Fleet {
    directory: TempDir,
    pub(crate) instances: [Enrolled; 2],
}

/// A service instance and the key of its one group.
pub(crate) struct Enrolled {
    pub(crate) id_scope: IdScope,
    group_key: SymmetricKey,
}

impl Enrolled {
    /// What a device of the group signs with.
    pub(crate) fn device_key(&self, id: &str) -> SymmetricKey {
        self.group_key.derive(id)
    }
}

impl Fleet {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data_dir = directory.path().join("data");
        let instances = ["0neAAAA0001", "0neBBBB0002"].map(|id_scope| enroll(&data_dir, id_scope));
        let fleet = Self { directory, instances };
        let copy = |from: &str, to: &str| fs::copy(data_dir.join(from), fleet.path(to)).unwrap();
        copy("server-ecdsa.pem", "server.pem");
        copy("server-ecdsa.key", "server.key");
        // For its mode.
        copy("sealing.key", "owner.key");
        fs::write(fleet.path("owner.key"), format!("{OWNER_KEY}\n")).unwrap();
        fleet
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Two instances, on free ports of loopback.
    pub(crate) fn configuration(&self) -> String {
        let mut text = r#"[listen]
mqtt = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[[tls.certificate]]
chain_file = "server.pem"
key_file = "server.key"
[store]
data_dir = "data"
sealing_key_file = "data/sealing.key"
[limits]
connections = 500
unattested_connections = 250
"#
        .to_owned();
        for (number, Enrolled { id_scope, .. }) in self.instances.iter().enumerate() {
            text.push_str(&format!(
                r#"[[instance]]
id_scope = "{id_scope}"
service_hosts = ["dps-{number}.test"]
[[instance.hub]]
name = "hub-{number}.test"
kind = "local"
[[instance.shared_access_policy]]
name = "provisioningserviceowner"
rights = ["ServiceConfig", "EnrollmentRead", "EnrollmentWrite", "DeviceConnect", "RegistrationStatusRead", "RegistrationStatusWrite"]
primary_key_file = "owner.key"
"#
            ));
        }
        text
    }

    /// Writes the configuration; its path.
    pub(crate) fn write(&self, configuration: &str) -> PathBuf {
        let file = self.path("harbormaster.toml");
        fs::write(&file, configuration).unwrap();
        file
    }

    /// `serve` with this configuration, once it is ready.
    pub(crate) fn serve(&self, configuration: &str) -> Serving {
        let mut command = harbormaster();
        command.args(["serve", "--output", "json", "--config"]).arg(self.write(configuration));
        Serving::start(command)
    }

    /// `serve` with a configuration that it refuses.
    pub(crate) fn refused(&self, configuration: &str) -> Output {
        harbormaster().args(["serve", "--config"]).arg(self.write(configuration)).output().unwrap()
    }

    /// Registers a device of the group in that instance.
    pub(crate) async fn register(
        &self,
        serving: &Serving,
        instance: usize,
        id: &str,
    ) -> Result<FinalAnswer, RegisterError> {
        let enrolled = &self.instances[instance];
        self.register_with(serving, &enrolled.id_scope, &enrolled.device_key(id), id).await
    }

    /// The same of a device that connects to this port of the machine.
    pub(crate) async fn register_at(
        &self,
        port: u16,
        instance: usize,
        id: &str,
    ) -> Result<FinalAnswer, RegisterError> {
        let enrolled = &self.instances[instance];
        self.register_by(port, &enrolled.id_scope, &enrolled.device_key(id), id, |_| {}).await
    }

    pub(crate) async fn register_with(
        &self,
        serving: &Serving,
        id_scope: &IdScope,
        key: &SymmetricKey,
        id: &str,
    ) -> Result<FinalAnswer, RegisterError> {
        self.register_heard(serving, id_scope, key, id, |_| {}).await
    }

    /// As [`Fleet::register_with`]; `hear` is given the topic of each answer.
    pub(crate) async fn register_heard(
        &self,
        serving: &Serving,
        id_scope: &IdScope,
        key: &SymmetricKey,
        id: &str,
        hear: impl FnMut(&str),
    ) -> Result<FinalAnswer, RegisterError> {
        self.register_by(serving.mqtt_port(), id_scope, key, id, hear).await
    }

    async fn register_by(
        &self,
        port: u16,
        id_scope: &IdScope,
        key: &SymmetricKey,
        id: &str,
        mut hear: impl FnMut(&str),
    ) -> Result<FinalAnswer, RegisterError> {
        let registration_id = id.parse().unwrap();
        let expiry = Timestamp::now() + SignedDuration::from_hours(1);
        let token = sign_device_token(id_scope, &registration_id, key, expiry);
        let login = DeviceLogin {
            id_scope: id_scope.clone(),
            registration_id,
            api_version: "2021-06-01".parse().unwrap(),
            client_version: "fleet".to_owned(),
            password: Some(Password::new(token.into_bytes())),
        };
        let endpoint = Endpoint {
            host: "127.0.0.1".to_owned(),
            port,
            server_name: "localhost".to_owned(),
            tls: dps_client::tls::trusting(&self.path("data/ca.pem")).unwrap(),
        };
        register(&endpoint, Carrier::Tls, login, DeviceOptions::default(), |_, step| {
            if let Step::Received(Packet::Publish(answer)) = step {
                hear(&answer.topic);
            }
        })
        .await
    }
}

impl Fleet {
    /// Asks the service API of `host` for the group; the status of the answer.
    pub(crate) async fn get_group(&self, serving: &Serving, host: &str, key: &SymmetricKey) -> u16 {
        self.get_group_at(serving.https_port(), host, key).await
    }

    /// The same over this port of the machine.
    pub(crate) async fn get_group_at(&self, port: u16, host: &str, key: &SymmetricKey) -> u16 {
        let expiry = (Timestamp::now() + SignedDuration::from_hours(1)).as_second().to_string();
        let tag = key.sign(&[host.as_bytes(), b"\n", expiry.as_bytes()]);
        let signature = percent::encode(&STANDARD.encode(tag));
        let token = format!(
            "SharedAccessSignature sr={host}&sig={signature}&se={expiry}&skn=provisioningserviceowner"
        );
        let request = format!(
            "GET /enrollmentGroups/dev-group?api-version=2021-10-01 HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\
             Connection: close\r\n\r\n"
        );
        self.ask(port, &request).await
    }

    /// Sends a request to port 443 as it stands, on a connection of its own; the status of the answer.
    pub(crate) async fn ask(&self, port: u16, request: &str) -> u16 {
        let tls = dps_client::tls::trusting(&self.path("data/ca.pem")).unwrap();
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut stream =
            TlsConnector::from(tls).connect(ServerName::try_from("localhost").unwrap(), tcp).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(WITHIN, stream.take(64 * 1024).read_to_string(&mut answer)).await.unwrap();
        // Some close without TLS's own goodbye.
        assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer:?}")).parse().unwrap()
    }
}

/// The binary, with nothing of this environment that it would heed.
pub(crate) fn harbormaster() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harbormaster"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HARBORMASTER_")) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Has `dev` make an instance with a group in the data directory.
fn enroll(data_dir: &Path, id_scope: &str) -> Enrolled {
    let mut command = harbormaster();
    command.args([
        "dev",
        "--output",
        "json",
        "--mqtt-port",
        "0",
        "--https-port",
        "0",
        "--id-scope",
        id_scope,
        "--data-dir",
    ]);
    let dev = Serving::start({
        command.arg(data_dir);
        command
    });
    let group_key = dev.ready["enrollmentGroups"][0]["primaryKey"].as_str().unwrap().parse().unwrap();
    assert!(dev.stop().success());
    Enrolled { id_scope: id_scope.parse().unwrap(), group_key }
}

/// A running process that said what it serves.
pub(crate) struct Serving {
    process: Child,
    /// The first line of standard output.
    pub(crate) ready: Value,
    log: Mutex<Receiver<String>>,
}

impl Serving {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (line, log) = mpsc::channel();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|text| line.send(text)));
        let mut first = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let ready = serde_json::from_str(&first).unwrap_or_else(|why| {
            let _ = process.kill();
            panic!("{why}: {first:?}, {:?}", log.iter().collect::<Vec<_>>())
        });
        Self { process, ready, log: Mutex::new(log) }
    }

    pub(crate) fn mqtt_port(&self) -> u16 {
        self.ready["mqtt"][0]["port"].as_u64().unwrap().try_into().unwrap()
    }

    /// Where the admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        let admin = &self.ready["admin"];
        let port = admin["port"].as_u64().unwrap().try_into().unwrap();
        SocketAddr::new(admin["address"].as_str().unwrap().parse().unwrap(), port)
    }

    pub(crate) fn https_port(&self) -> u16 {
        self.ready["https"][0]["port"].as_u64().unwrap().try_into().unwrap()
    }

    /// Status and body of `GET /readyz`.
    pub(crate) fn readiness(&self) -> (u16, String) {
        let mut stream = std::net::TcpStream::connect(self.admin()).unwrap();
        stream.set_read_timeout(Some(WITHIN)).unwrap();
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.take(64 * 1024).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The next line of the log that holds `text`.
    pub(crate) fn wait_for_line(&self, text: &str) -> String {
        loop {
            let line = self
                .log
                .lock()
                .unwrap()
                .recv_timeout(WITHIN)
                .unwrap_or_else(|_| panic!("no line with {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        self.process.wait().unwrap()
    }

    /// SIGTERM, and the lines of the log that were not waited for.
    pub(crate) fn stop_for_log(mut self) -> Vec<String> {
        self.signal("-TERM");
        assert!(self.process.wait().unwrap().success());
        self.log.lock().unwrap().iter().collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // A test that failed midway leaves nothing running.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
