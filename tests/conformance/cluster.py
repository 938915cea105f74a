"""Three nodes of `harbormaster serve` on one database, and HAProxy before them, by the files of dist/nodes."""

import secrets
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import certificates
import leaks
from credentials import fresh_key
from instances import OWNER
from postgres import Postgres
from service import BINARY, HTTPS_PORT, MQTT_PORT, Process, free_address, is_free

DIST = Path(__file__).parents[2] / "dist/nodes"
ID_SCOPE = "0ne00C0FFEE"
HUB = "hub.example"
ACCEPTS_WITHIN = 10.0


class Cluster:
    """What devices see at the balancer's address. Use as a context manager."""

    id_scope, port, https_port = ID_SCOPE, MQTT_PORT, HTTPS_PORT

    def __init__(self, folder, binary=BINARY):
        folder.mkdir(parents=True)
        self.folder, self._binary, self._open = folder, binary, ExitStack()
        self.address, *self.node_addresses = self.addresses = [free_address() for _ in range(4)]
        self.owner_key = fresh_key()
        self.nodes = []

    def __enter__(self):
        try:
            self.database = self._open.enter_context(Postgres())
            # Not below the folder that is searched for secrets.
            self.credentials = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            self._write_files()
            self.nodes = [ServingNode(self, number, self._binary) for number in range(3)]
            for node in self.nodes:
                node.ready()
            self._open.enter_context(self._balancer())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        running = [node for node in self.nodes if node.process.poll() is None]
        try:
            for node in running:
                if node.contract is not None:
                    node.record()
            if running:
                self.database.dump(self.folder / "database.sql")
        finally:
            for node in running:
                node.kill()
            self._open.close()

    @property
    def ca_file(self):
        return str(self.folder / "ca.pem")

    def kill_node(self, number):
        """SIGKILL: nothing can be finished."""
        self.nodes[number].kill()

    def start_node(self, number, binary=BINARY):
        """Starts one that has ended; returns when it accepts."""
        self.nodes[number] = ServingNode(self, number, binary).ready()

    def _write_files(self):
        authority = certificates.authority(f"authority of {self.address}")
        files = certificates.for_host(self.address, authority, *self.node_addresses).files(self.credentials)
        (self.folder / "server.pem").write_text(files.chain.read_text())
        for name in ("ca.pem", "database-ca.pem"):
            (self.folder / name).write_text(authority.pem)
        credentials = {
            "admin-token": secrets.token_hex(32),
            "database-url": self.database.url,
            "owner-key": self.owner_key,
            "sealing": fresh_key(),
            "server-key": files.key.read_text(),
        }
        for name, text in credentials.items():
            path = self.credentials / name
            path.touch(mode=0o600)
            path.write_text(text)
        # Each connection takes two of the files that an ordinary user may have open.
        balancer = (DIST / "haproxy.cfg").read_text().replace("maxconn 60000", "maxconn 400")
        (self.folder / "haproxy.cfg").write_text(self._own(balancer))
        node = (DIST / "harbormaster.toml").read_text().replace("connections = 16\n", "connections = 4\n")
        # Each of them is asked by clients of the service API, too.
        node = node.replace('"dps.example"', ", ".join(f'"{address}"' for address in self.addresses))
        for number in range(3):
            own = self._own(node.replace("10.0.0.11:", f"10.0.0.1{number + 1}:"))
            (self.folder / f"node-{number}.toml").write_text(own)

    def _own(self, text):
        """A file of dist/nodes with the addresses and the folder of this test."""
        for number, address in enumerate(self.addresses):
            text = text.replace(f"10.0.0.1{number}", address)
        assert "10.0.0." not in text, text
        return text.replace("/etc/harbormaster", str(self.folder))

    def _balancer(self):
        stack = ExitStack()
        log = stack.enter_context(open(self.folder / "haproxy.log", "wb"))
        command = ["haproxy", "-db", "-f", self.folder / "haproxy.cfg"]
        balancer = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        stack.callback(balancer.communicate)
        stack.callback(balancer.kill)
        end = time.monotonic() + ACCEPTS_WITHIN
        while any(is_free(self.address, port) for port in (MQTT_PORT, HTTPS_PORT)):
            said = (self.folder / "haproxy.log").read_text
            if balancer.poll() is not None or time.monotonic() > end:
                stack.close()
                raise AssertionError(f"HAProxy does not accept: {said()}")
            time.sleep(0.05)
        return stack


class ServingNode(Process):
    """One of the nodes, as those see it who ask it itself."""

    id_scope, port, https_port = ID_SCOPE, MQTT_PORT, HTTPS_PORT

    def __init__(self, cluster, number, binary):
        self.cluster, self.address = cluster, cluster.node_addresses[number]
        command = ["serve", "--output", "json", "--config", cluster.folder / f"node-{number}.toml"]
        environment = {"CREDENTIALS_DIRECTORY": str(cluster.credentials)}
        super().__init__(cluster.folder / f"log-{number}", command, environment, binary)

    @property
    def ca_file(self):
        return self.cluster.ca_file

    @property
    def service_connection_string(self):
        return f"HostName={self.service_host};SharedAccessKeyName={OWNER};SharedAccessKey={self.cluster.owner_key}"

    def remember_secrets(self):
        path = self.cluster.credentials / "admin-token"
        # The configuration names it, so the contract does not.
        self.contract["admin"]["tokenFile"] = str(path)
        leaks.made.add(path.name, path.read_bytes())
