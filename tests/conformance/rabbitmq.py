"""RabbitMQ as Debian has it, set up as docs/broker.md says: one node in a temporary directory, with an epmd of its own."""

import glob
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import certificates
from service import free_address

DOCUMENT = Path(__file__).parent / "../../docs/broker.md"
PROGRAMS = "/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server"
STARTED_WITHIN = 90.0
ENDED_WITHIN = 10.0
# The broker's own user, of its internal backend.
USER, PASSWORD = "guest", "guest"


def blocks(language):
    """The texts of docs/broker.md in that language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


class RabbitMq:
    """A node at an address of its own that asks the broker socket of `service`. Use as a context manager."""

    def __init__(self, service, device_ca):
        self._home = tempfile.TemporaryDirectory(prefix="harbormaster-rabbitmq-")
        self.folder = Path(self._home.name)
        self.address = free_address()
        self.epmd = self.node = None
        try:
            self._configure(service, device_ca)
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _configure(self, service, device_ca):
        authority = certificates.authority("Broker CA")
        files = certificates.for_host(self.address, authority).files(self.folder)
        self.ca_file = self.folder / "ca.pem"
        self.ca_file.write_text(authority.pem)
        (self.folder / "device-ca.pem").write_text(device_ca.pem)
        with_tokens, with_certificates = blocks("ini")
        asked = service.contract["broker"]
        text = with_tokens + with_certificates
        for documented, here in (
            ("127.0.0.1:9884", f"{asked['address']}:{asked['port']}"),
            ("127.0.0.1:5672", f"{self.address}:5672"),
            ("0.0.0.0:8883", f"{self.address}:8883"),
            ("/etc/rabbitmq/server.pem", str(files.chain)),
            ("/etc/rabbitmq/server.key", str(files.key)),
            ("/etc/rabbitmq/device-ca.pem", str(self.folder / "device-ca.pem")),
        ):
            assert documented in text, documented
            text = text.replace(documented, here)
        (self.folder / "rabbitmq.conf").write_text(text)
        plugins, advanced, _ = blocks("erlang")
        (self.folder / "enabled_plugins").write_text(plugins)
        (self.folder / "advanced.config").write_text(advanced)

    def _start(self):
        (program,) = glob.glob(PROGRAMS)
        epmd_port, folder = free_port(), self.folder
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))},
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"harbormaster-{os.getpid()}@localhost",
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(folder / "feature_flags"),
            # Two cores are enough, and none of them waits busily.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1} "
            "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }
        # As the start of a node finds it, no node starts one that would outlive it.
        self.epmd = subprocess.Popen(
            ["epmd", "-port", str(epmd_port), "-address", "127.0.0.1"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        until = time.monotonic() + STARTED_WITHIN
        self._await_port("127.0.0.1", epmd_port, self.epmd, until)
        with open(folder / "output", "wb") as output:
            self.node = subprocess.Popen(
                [program], env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        for port in (5672, 8883):
            self._await_port(self.address, port, self.node, until)

    def _await_port(self, address, port, process, until):
        while True:
            try:
                socket.create_connection((address, port), timeout=1).close()
                return
            except OSError:
                assert process.poll() is None and time.monotonic() < until, f"RabbitMQ does not start\n{self.log_tail()}"
                time.sleep(0.1)

    def log_tail(self):
        texts = [path.read_text(errors="replace") for path in (self.folder / "output", *self.folder.glob("log/*.log")) if path.exists()]
        return "\n".join("\n".join(text.splitlines()[-30:]) for text in texts)

    def close(self):
        """Ends every process of the node by its id, and takes the directory away."""
        own = [process for process in (self.node, self.epmd) if process is not None]
        until = time.monotonic() + ENDED_WITHIN
        while processes := self.processes():
            assert time.monotonic() < until, f"still running: {processes}"
            # The script that started the node ends with it, and takes its leave of it; it goes by itself where it can.
            started = [process.pid for process in own if process.poll() is None]
            for pid in [pid for pid in processes if pid not in started] or started:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.05)
        for process in own:
            process.wait()
        self._home.cleanup()

    def processes(self):
        """The ids of all that runs with this directory as its home, be it a child or not."""
        home, found = f"HOME={self.folder}".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and home in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                # Another user's, or gone.
                pass
        return found
