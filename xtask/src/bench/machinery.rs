//! The programs of the benchmark, and a folder for what they write.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::configuration::Configuration;
use super::process::{DRIVER_CORE, Precedence, Process, SERVER_CORE};
use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// ID scope of every instance that is measured.
pub(super) const ID_SCOPE: &str = "0ne0be9c400";

/// Where the certificate is of the CA of hubs outside, in the folder and so beside the configuration.
pub(super) const HUB_CA_FILE: &str = "hub-ca.pem";

/// Opens the service API of `serve`. No secret: it opens nothing but what this program starts.
const OWNER_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

const STEP: &str = "bench";

/// Built programs and a folder on disk; the folder is removed when this is dropped.
pub(super) struct Machinery {
    harbormaster: PathBuf,
    hub_registry: PathBuf,
    driver: PathBuf,
    folder: PathBuf,
}

/// A server under load.
pub(super) struct Server {
    /// The process.
    pub(super) process: Process,
    /// `ADDRESS:PORT` of MQTT over TLS.
    pub(super) address: String,
    /// `ADDRESS:PORT` of port 443's services; the floor has none.
    pub(super) https: Option<String>,
    /// Key of the sample group; the floor has none.
    pub(super) group_key: Option<String>,
    /// What opens its service API; the floor has none.
    management: Option<Management>,
}

/// How the service API is reached.
struct Management {
    connection_string: String,
    ca_file: String,
}

impl Machinery {
    /// Builds the service and the drivers as they are released.
    pub(super) fn build(workspace: &Workspace) -> Result<Self, Failure> {
        let mut service = workspace.cargo();
        service.args(["build", "--release", "--workspace", "--bins"]);
        step::run("build the service", &mut service, "Mend what the compiler names.")?;
        let mut driver = workspace.cargo();
        driver.args(["build", "--release", "--locked", "--manifest-path", "bench/Cargo.toml"]);
        step::run(
            "build the drivers",
            &mut driver,
            "Mend what the compiler names; after a new dependency, bench/Cargo.lock.",
        )?;
        for (tool, package) in [("taskset", "util-linux"), ("nice", "coreutils")] {
            let advice = |_| Failure::new(STEP, format!("needs `{tool}` (package {package}), on Linux"));
            step::output(STEP, Command::new(tool).arg("--version")).map_err(advice)?;
        }
        let release = workspace.target.join("release");
        // Not in /tmp, which often is memory and would make every fdatasync free.
        let folder = workspace.target.join("bench").join(std::process::id().to_string());
        fs::create_dir_all(&folder)
            .map_err(|why| Failure::new(STEP, format!("{}: {why}", folder.display())))?;
        Ok(Self {
            harbormaster: release.join("harbormaster"),
            hub_registry: release.join("hub-registry"),
            driver: release.join("harbormaster-bench"),
            folder,
        })
    }

    /// A data directory of that name; there may be nothing yet.
    pub(super) fn data_dir(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Fills the store of a data directory that is not in use.
    pub(super) fn fill(&self, data_dir: &Path, what: &str, count: u64) -> Result<(), Failure> {
        step::begin(&format!("write {count} {what}"));
        let mut command = Command::new(&self.driver);
        command.args(["fill", "--id-scope", ID_SCOPE, "--data-dir"]).arg(data_dir);
        step::output(STEP, command.arg(format!("--{what}")).arg(count.to_string())).map(drop)
    }

    /// `harbormaster dev` with its default settings, ready for devices.
    pub(super) fn harbormaster(&self, data_dir: &Path) -> Result<Server, Failure> {
        let fixed = [
            "dev",
            "--mqtt-port",
            "0",
            "--https-port",
            "0",
            "--output",
            "json",
            "--id-scope",
            ID_SCOPE,
            "--data-dir",
        ];
        let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
        arguments.push(data_dir.display().to_string());
        let log = self.folder.join("harbormaster.log");
        let mut process =
            Process::start(&self.harbormaster, &arguments, SERVER_CORE, Precedence::Normal, &log)?;
        let ready = process.line()?;
        let group_key = ready["enrollmentGroups"][0]["primaryKey"].as_str().map(str::to_owned);
        let https = Some(address(&ready["https"]));
        let text = |member: &str| ready[member].as_str().unwrap_or_default().to_owned();
        let management =
            Management { connection_string: text("serviceConnectionString"), ca_file: text("caFile") };
        let (address, management) = (address(&ready["mqtt"]), Some(management));
        Ok(Server { process, address, https, group_key, management })
    }

    /// `harbormaster serve` on a data directory that [`Machinery::harbormaster`] has had.
    pub(super) fn serve(&self, data_dir: &Path, configuration: &Configuration) -> Result<Server, Failure> {
        self.secret("owner.key", OWNER_KEY)?;
        let file = self.folder.join("serve.toml");
        fs::write(&file, configuration.text(data_dir)).map_err(|why| self.failed(&why))?;
        let arguments =
            ["serve", "--output", "json", "--config", &file.display().to_string()].map(str::to_owned);
        let log = self.folder.join("harbormaster.log");
        let mut process =
            Process::start(&self.harbormaster, &arguments, SERVER_CORE, Precedence::Normal, &log)?;
        let ready = process.line()?;
        let https = &ready["https"][0];
        let connection_string = format!(
            "HostName=localhost:{};SharedAccessKeyName=provisioningserviceowner;SharedAccessKey={OWNER_KEY}",
            https["port"]
        );
        let ca_file = data_dir.join("ca.pem").display().to_string();
        Ok(Server {
            process,
            address: address(&ready["mqtt"][0]),
            https: Some(address(https)),
            group_key: None,
            management: Some(Management { connection_string, ca_file }),
        })
    }

    /// A file of the folder that only this user can read.
    pub(super) fn secret(&self, name: &str, text: &str) -> Result<PathBuf, Failure> {
        let path = self.folder.join(name);
        let file = fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|why| self.failed(&why))?;
        Ok(path)
    }

    /// The registry of a hub outside, which takes so long over each request, on the core of the drivers; and what it says of itself.
    pub(super) fn hub_registry(&self, answer_after_ms: u64) -> Result<(Process, Value), Failure> {
        let (ca_file, after) =
            (self.folder.join(HUB_CA_FILE).display().to_string(), answer_after_ms.to_string());
        let arguments = ["--host", "127.0.0.1", "--ca-file", &ca_file, "--answer-after-ms", &after];
        let arguments = arguments.map(str::to_owned);
        let log = self.driver_log();
        let mut process =
            Process::start(&self.hub_registry, &arguments, DRIVER_CORE, Precedence::Normal, &log)?;
        let contract = process.line()?;
        Ok((process, contract))
    }

    /// The floor, which answers as `harbormaster` just answered the device `number` of `fleet`.
    pub(super) fn floor(
        &self,
        harbormaster: &Server,
        data_dir: &Path,
        fleet: &str,
        number: u64,
    ) -> Result<Server, Failure> {
        let more = ["--fleet".to_owned(), fleet.to_owned(), "--device".to_owned(), number.to_string()];
        let answers = self.drive("capture", harbormaster, &more, Precedence::Normal)?.line()?;
        let data_dir = data_dir.display().to_string();
        let arguments = ["floor", "--data-dir", &data_dir, "--answers", &answers.to_string()];
        let mut arguments = arguments.map(str::to_owned).to_vec();
        if fleet.starts_with("certificates:") {
            arguments.extend(["--client-ca".to_owned(), format!("{data_dir}/device-ca.pem")]);
        }
        let mut process =
            Process::start(&self.driver, &arguments, SERVER_CORE, Precedence::Normal, &self.driver_log())?;
        let ready = process.line()?;
        Ok(Server {
            process,
            address: address(&ready["mqtt"]),
            https: None,
            group_key: None,
            management: None,
        })
    }

    /// Starts a driver against a server.
    pub(super) fn drive(
        &self,
        command: &str,
        server: &Server,
        more: &[String],
        precedence: Precedence,
    ) -> Result<Process, Failure> {
        // A transport other than MQTT over TLS has the other port.
        let is_mqtt = !more.iter().any(|option| option == "--transport");
        let address = server.https.as_ref().filter(|_| !is_mqtt).unwrap_or(&server.address);
        let fixed = [command, "--address", address, "--id-scope", ID_SCOPE];
        let mut arguments: Vec<String> = fixed.map(str::to_owned).into();
        arguments.extend_from_slice(more);
        Process::start(&self.driver, &arguments, DRIVER_CORE, precedence, &self.driver_log())
    }

    /// Starts a driver against the service API of a server that has one.
    pub(super) fn drive_service(
        &self,
        command: &str,
        server: &Server,
        options: &[(&str, String)],
    ) -> Result<Process, Failure> {
        let mut arguments = vec!["--transport".to_owned(), "https".to_owned()];
        arguments.extend(["--connection-string".to_owned(), server.management()?.connection_string.clone()]);
        arguments.extend(options.iter().flat_map(|(name, value)| [(*name).to_owned(), value.clone()]));
        self.drive(command, server, &arguments, Precedence::Normal)
    }

    /// Starts a command of `harbormaster` that manages a server.
    pub(super) fn manage(&self, server: &Server, command: &[&str]) -> Result<Process, Failure> {
        let Management { connection_string, ca_file } = server.management()?;
        let options = ["--connection-string", connection_string, "--ca-file", ca_file];
        let arguments: Vec<String> =
            command.iter().chain(&options).map(|argument| (*argument).to_owned()).collect();
        Process::start(&self.harbormaster, &arguments, DRIVER_CORE, Precedence::Normal, &self.driver_log())
    }

    /// A file of so many individual enrollments with their keys, to import.
    pub(super) fn entries(&self, count: u64) -> Result<PathBuf, Failure> {
        let file = self.folder.join("entries.jsonl");
        let mut command = Command::new(&self.driver);
        command.args(["entries", "--count", &count.to_string(), "--file"]).arg(&file);
        step::output(STEP, &mut command)?;
        Ok(file)
    }

    /// Fills the store of a new data directory with the entries of such a file, on the core of the servers, and says how long it took.
    pub(super) fn insert(&self, data_dir: &Path, count: u64) -> Result<Value, Failure> {
        let (data_dir, count) = (data_dir.display().to_string(), count.to_string());
        let arguments = ["insert", "--id-scope", ID_SCOPE, "--data-dir", &data_dir, "--count", &count];
        let arguments = arguments.map(str::to_owned);
        Process::start(&self.driver, &arguments, SERVER_CORE, Precedence::Normal, &self.driver_log())?.line()
    }

    fn driver_log(&self) -> PathBuf {
        self.folder.join("driver.log")
    }

    fn failed(&self, why: &std::io::Error) -> Failure {
        Failure::new(STEP, format!("{}: {why}", self.folder.display()))
    }
}

impl Server {
    fn management(&self) -> Result<&Management, Failure> {
        self.management.as_ref().ok_or_else(|| Failure::new(STEP, "this server has no service API"))
    }
}

impl Drop for Machinery {
    fn drop(&mut self) {
        // Drivers say there why they ended.
        eprint!("{}", fs::read_to_string(self.driver_log()).unwrap_or_default());
        // What cannot be removed lies in the target directory, where it does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn address(listener: &Value) -> String {
    format!("{}:{}", listener["address"].as_str().unwrap_or_default(), listener["port"])
}
