//! `cargo xtask conformance`: the black-box suite of tests/conformance against a running binary.
//!
//! Sets up what the suite needs: packages of Python and Node under the target directory, and Debian tools. A suite that
//! cannot be run fails; it is never skipped.

use std::env;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::earlier;
use crate::packages;
use crate::step::{self, Failure};
use crate::workspace::Workspace;

/// Processes that share the tests. Most of a test is waiting, because the SDK polls after two seconds.
const WORKERS: &str = "6";

/// Names the binary to test, for this command and for the suite.
const BINARY: &str = "HARBORMASTER_BINARY";

/// Names the registry that stands in for an IoT Hub.
const HUB_REGISTRY: &str = "HUB_REGISTRY_BINARY";

/// Names the binary of an earlier version.
const EARLIER: &str = "HARBORMASTER_EARLIER_BINARY";

/// Names the folder whose `node_modules` the suite uses.
const NODE_FOLDER: &str = "HARBORMASTER_NODE_FOLDER";

/// A thing the suite needs from the system, and the Debian package that has it.
struct Need {
    package: &'static str,
    program: &'static str,
    arguments: &'static [&'static str],
}

/// The oldest Node that the suite's packages run on.
const NODE: &str = "process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)";

const NEEDS: [Need; 12] = [
    Need { package: "faketime", program: "faketime", arguments: &["--version"] },
    Need { package: "haproxy", program: "haproxy", arguments: &["-v"] },
    Need { package: "openssl", program: "openssl", arguments: &["version"] },
    Need { package: "swtpm", program: "swtpm", arguments: &["--version"] },
    Need {
        package: "libtss2-tcti-swtpm0",
        program: "sh",
        arguments: &["-c", "ls /usr/lib/*/libtss2-tcti-swtpm.so.0"],
    },
    Need { package: "tpm2-tools", program: "tpm2_import", arguments: &["--version"] },
    Need {
        package: "rabbitmq-server",
        program: "sh",
        arguments: &[
            "-c",
            "ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server && epmd -help 2>&1 | grep -q port",
        ],
    },
    Need {
        package: "postgresql",
        program: "sh",
        arguments: &["-c", "ls /usr/lib/postgresql/*/bin/initdb && id postgres"],
    },
    Need { package: "strace", program: "strace", arguments: &["--version"] },
    Need { package: "python3-venv", program: "python3", arguments: &["-c", "import ensurepip, venv"] },
    Need { package: "nodejs", program: "node", arguments: &["-e", NODE] },
    Need { package: "npm", program: "npm", arguments: &["--version"] },
];

/// Runs the suite against the binary that `HARBORMASTER_BINARY` names, or else one that is built first.
///
/// # Errors
/// The step that does not pass.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<(), Failure> {
    let given = env::var_os(BINARY).map(PathBuf::from);
    // Before this version, whose binary takes its place.
    earlier::provide(workspace)?;
    let mut build = workspace.cargo();
    match &given {
        Some(_) => build.args(["build", "--package", "hub-registry"]),
        None => build.args(["build", "--workspace", "--bins"]),
    };
    step::run("build", &mut build, "Mend what the compiler names.")?;
    run_against(workspace, &given.unwrap_or_else(|| built_binary(workspace)), arguments)
}

/// Where a debug build leaves the binary.
pub(crate) fn built_binary(workspace: &Workspace) -> PathBuf {
    workspace.target.join("debug/harbormaster")
}

/// Runs the suite against `binary`; `arguments` go to pytest.
///
/// # Errors
/// The step that does not pass.
pub(crate) fn run_against(workspace: &Workspace, binary: &Path, arguments: &[String]) -> Result<(), Failure> {
    let suite = workspace.root.join("tests/conformance");
    provide_tools()?;
    let python = packages::of_python(&suite, &workspace.target.join("conformance-venv"))?;
    let node = workspace.target.join("conformance/node");
    packages::of_node(&suite.join("node"), &node)?;
    // The suite runs in its own folder, so a relative path has to be settled here.
    let binary = std::path::absolute(binary)
        .map_err(|error| Failure::new("conformance", format!("{}: {error}", binary.display())))?;
    let mut pytest = if may_bind_443() { Command::new(python) } else { in_a_network_of_its_own(&python)? };
    pytest.args(["-m", "pytest", "-n", WORKERS, "--basetemp"]).arg(workspace.target.join("conformance-tmp"));
    pytest.args(arguments).current_dir(&suite);
    pytest
        .env(BINARY, binary)
        .env(EARLIER, earlier::provide(workspace)?)
        .env(HUB_REGISTRY, workspace.target.join("debug/hub-registry"))
        .env(NODE_FOLDER, node)
        .env("CARGO_TARGET_DIR", &workspace.target)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    step::run("conformance", &mut pytest, "`cargo xtask conformance -k NAME -n 0 -x` runs one test alone.")
}

/// Whether this user may listen on the port that the SDKs know for WebSockets and HTTPS.
fn may_bind_443() -> bool {
    let bound = TcpListener::bind((Ipv4Addr::new(127, 99, 99, 98), 443));
    !matches!(bound, Err(why) if why.kind() == io::ErrorKind::PermissionDenied)
}

/// A user and network namespace, in which an ordinary user may bind any port and nothing but loopback is reached.
fn in_a_network_of_its_own(program: &Path) -> Result<Command, Failure> {
    const ENTER: [&str; 4] = ["--user", "--map-root-user", "--net", "--"];
    const LOOPBACK_UP: &str = "ip link set lo up && exec \"$@\"";
    let enter = |program: &Path| {
        let mut command = Command::new("unshare");
        command.args(ENTER).args(["sh", "-c", LOOPBACK_UP, "sh"]).arg(program);
        command
    };
    let step = "a network of the suite's own";
    step::output(step, &mut enter(Path::new("true"))).map_err(|why| {
        let advice = "port 443 is kept from this user, and so are user namespaces: sudo sysctl net.ipv4.ip_unprivileged_port_start=443, \
                      or install util-linux and iproute2 and allow unprivileged user namespaces";
        Failure::new(step, format!("{advice}\n({})", why.advice))
    })?;
    Ok(enter(program))
}

/// Installs the tools that are missing, where this user may.
pub(crate) fn provide_tools() -> Result<(), Failure> {
    let missing: Vec<&str> = NEEDS.iter().filter(|need| !works(need)).map(|need| need.package).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let step = "tools for conformance";
    if !may_install() {
        return Err(Failure::new(step, advice(&missing)));
    }
    let quiet = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        // What comes as a service is not started: the suite runs its own, on ports of their own.
        command.env("SYSTEMD_OFFLINE", "1").env("RUNLEVEL", "1");
        command
    };
    step::run(step, &mut quiet(&["-qq", "update"]), &advice(&missing))?;
    let install = [&["-qq", "install", "-y", "--no-install-recommends"], missing.as_slice()].concat();
    step::run(step, &mut quiet(&install), &advice(&missing))?;
    match NEEDS.iter().find(|need| !works(need)) {
        Some(need) => {
            Err(Failure::new(step, format!("{} still does not run after its installation", need.program)))
        }
        None => Ok(()),
    }
}

fn works(need: &Need) -> bool {
    let mut command = Command::new(need.program);
    command.args(need.arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Whether this is root on a system with apt.
fn may_install() -> bool {
    let user = step::output("id", Command::new("id").arg("-u"));
    user.is_ok_and(|user| user.trim() == "0")
        && step::output("apt", Command::new("apt-get").arg("--version")).is_ok()
}

fn advice(missing: &[&str]) -> String {
    let missing = missing.join(" ");
    format!("The suite needs {missing}: sudo apt-get install --no-install-recommends {missing}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_is_found_missing_and_the_advice_names_it() {
        assert!(!works(&Need { package: "x", program: "/nonexistent/tool", arguments: &[] }));
        assert!(!works(&Need { package: "x", program: "false", arguments: &[] }));
        assert!(works(&Need { package: "x", program: "true", arguments: &[] }));
        let advice = advice(&["faketime", "strace"]);
        assert!(advice.ends_with("apt-get install --no-install-recommends faketime strace"), "{advice}");
    }
}
