"""Running processes of `harbormaster`, each on a loopback address of its own: `dev` here, `serve` in serving.py."""

import atexit
import errno
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import leaks

BINARY = os.environ.get("HARBORMASTER_BINARY", "")
# Of a version beside which nodes of this one have to run.
EARLIER_BINARY = os.environ.get("HARBORMASTER_EARLIER_BINARY", "")
MQTT_PORT = 8883
HTTPS_PORT = 443
READY_WITHIN = 60.0
STOPPED_WITHIN = 20.0

_addresses = itertools.count(1)
_running = []


def free_address():
    """A loopback address where nothing of this suite, and nothing else, listens on the ports that SDKs know."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    for number in itertools.islice(_addresses, 250):
        address = f"127.{100 + worker}.{1 + os.getpid() % 250}.{1 + number % 250}"
        if is_free(address, MQTT_PORT) and (not may_bind(HTTPS_PORT) or is_free(address, HTTPS_PORT)):
            return address
    raise RuntimeError(f"none of 250 loopback addresses has a free port {MQTT_PORT}")


def is_free(address, port):
    """Whether this user could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True


def may_bind(port):
    """Whether this user can listen on the port of some loopback address. The system may keep it for root, or something may
    listen on every address of this machine; then `dev` serves HTTPS on another port."""
    try:
        return is_free("127.99.99.99", port)
    except PermissionError:
        return False


class Process:
    """A running `harbormaster` whose first line on standard output, its contract, says where it is."""

    def __init__(self, folder, command, environment=None, binary=BINARY):
        folder.mkdir(parents=True, exist_ok=True)
        self.log_path = folder / f"stderr-{len(list(folder.iterdir()))}.log"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [binary, *(str(argument) for argument in command)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # A service that is killed cannot remove its temporary directory, or what it announced; the test's folder goes as a
                # whole.
                env={**os.environ, "TMPDIR": str(folder), "XDG_RUNTIME_DIR": str(folder), **(environment or {})},
            )
        _running.append(self)
        self.contract = None

    def ready(self):
        """Waits for the contract."""
        line = self._first_line(time.monotonic() + READY_WITHIN)
        try:
            self.contract = json.loads(line)
        except ValueError:
            self.kill()
            raise AssertionError(f"no contract on standard output but {line!r}\n{self.log_tail()}") from None
        self.remember_secrets()
        return self

    def remember_secrets(self):
        """Adds what it made for itself to what the search for secrets looks for."""
        raise NotImplementedError

    @property
    def service_host(self):
        """Where clients of the service API find it; as in the connection string, the usual port goes without saying."""
        return self.address if self.https_port == HTTPS_PORT else f"{self.address}:{self.https_port}"

    def send(self, number):
        self.process.send_signal(number)

    def stop(self, number=signal.SIGTERM):
        """Asks it to stop. Its exit code, and what it had written to standard output after the contract."""
        if self.process.poll() is None:
            self.record()
            self.send(number)
        return self.exited()

    def exited(self):
        """Waits for its end. Its exit code, and the rest of its standard output."""
        try:
            rest, _ = self.process.communicate(timeout=STOPPED_WITHIN)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running after {STOPPED_WITHIN} s\n{self.log_tail()}") from None
        return self.process.returncode, rest

    def kill(self):
        """Ends it as a crash would."""
        self.process.kill()
        self.process.communicate()

    def record(self):
        """Keeps what its admin listener shows, for the search for secrets."""
        for suffix, path in ((".explanations", "/admin/v1/explanations?limit=1000"), (".metrics", "/metrics")):
            admin = self.contract["admin"]
            request = urllib.request.Request(
                f"http://{admin['address']}:{admin['port']}{path}",
                headers={"Authorization": f"Bearer {Path(admin['tokenFile']).read_text()}"},
            )
            with urllib.request.urlopen(request, timeout=10) as answer:
                self.log_path.with_suffix(suffix).write_bytes(answer.read())

    def log(self):
        return self.log_path.read_text(errors="replace")

    def log_tail(self):
        return f"-- {self.log_path}\n" + "\n".join(self.log().splitlines()[-40:])

    def log_line(self, *words, within=3.0):
        """The line of the log that has all the words. The log may be written a moment after the answer."""
        until = time.monotonic() + within
        while True:
            for line in self.log().splitlines():
                if all(word.lower() in line.lower() for word in words):
                    return line
            if time.monotonic() > until:
                raise AssertionError(f"no line with {words}\n{self.log_tail()}")
            time.sleep(0.02)

    def _first_line(self, until):
        line, pipe = b"", self.process.stdout.fileno()
        while not line.endswith(b"\n"):
            readable, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            # A byte at a time: what follows the line is for `exited`.
            byte = os.read(pipe, 1) if readable else b""
            if not byte:
                break
            line += byte
        return line


class Harbormaster(Process):
    """A running `harbormaster dev`."""

    def __init__(
        self,
        folder,
        *options,
        address=None,
        data_dir=None,
        mqtt_port=MQTT_PORT,
        https_port=None,
        environment=None,
    ):
        self.address = address or free_address()
        command = ["dev", "--output", "json", "--bind", self.address]
        command += ["--host", "localhost", "--host", self.address]
        if mqtt_port is not None:
            command += ["--mqtt-port", mqtt_port]
        if https_port is not None:
            command += ["--https-port", https_port]
        if data_dir is not None:
            command += ["--data-dir", data_dir]
        super().__init__(folder, [*command, *options], environment)

    @property
    def port(self):
        return self.contract["mqtt"]["port"]

    @property
    def https_port(self):
        return self.contract["https"]["port"]

    @property
    def service_connection_string(self):
        """The connection string of the contract. The name that it has leads to 127.0.0.1, so it gets the address."""
        _, rest = self.contract["serviceConnectionString"].split(";", 1)
        return f"HostName={self.service_host};{rest}"

    @property
    def id_scope(self):
        return self.contract["idScope"]

    @property
    def ca_file(self):
        return self.contract["caFile"]

    @property
    def hub(self):
        return self.contract["linkedHubs"][0]

    def remember_secrets(self):
        """What it made for itself: in its contract, and in the key files beside its CA file."""
        for group in self.contract["enrollmentGroups"]:
            for member in ("primaryKey", "secondaryKey"):
                leaks.made.add_base64(f"the {member} of {group['enrollmentGroupId']}", group[member])
        data_dir = Path(self.ca_file).parent
        for path in [*data_dir.glob("*.key"), data_dir / "admin-token"]:
            if path.read_bytes().startswith(b"-----BEGIN"):
                leaks.made.add_base64(path.name, "".join(path.read_text().splitlines()[1:-1]))
            else:
                leaks.made.add(path.name, path.read_bytes())


def running():
    """Every process of this suite that has not ended."""
    return [service for service in _running if service.process.poll() is None]


@atexit.register
def _end_all():
    for service in running():
        service.kill()
