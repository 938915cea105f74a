"""A running `hub-registry`: the registry of an Azure IoT Hub as far as provisioning asks it, on a loopback address of its own."""

import json
import os
import signal
import ssl
import subprocess
import urllib.request
from urllib.parse import quote

import leaks
from service import HTTPS_PORT, free_address, may_bind

BINARY = os.environ.get("HUB_REGISTRY_BINARY", "")
STOPPED_WITHIN = 20.0


class HubRegistry:
    """One process. Use as a context manager. SDKs know port 443 only; where this user may not listen there, `port` is another."""

    def __init__(self, folder, *options):
        assert os.path.isfile(BINARY), "HUB_REGISTRY_BINARY must name the binary; see `cargo xtask conformance`"
        self.ca_file = str(folder / "hub-ca.pem")
        port = HTTPS_PORT if may_bind(HTTPS_PORT) else 0
        command = [BINARY, "--bind", f"{free_address()}:{port}", "--ca-file", self.ca_file, *options]
        # It ends with its standard input, and so with this process at the latest.
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self._process.stdout.readline()
        assert line, "hub-registry ended at its start"
        contract = json.loads(line)
        self.host, self.port = contract["host"], contract["port"]
        self._accept(contract["connectionString"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.thaw()
        self._process.communicate(timeout=STOPPED_WITHIN)

    def plan(self, step, effect, times=1, device_id=None, after=0):
        """Has a step fail: for one device or for all, after it went well that often."""
        fault = {"step": step, "effect": effect, "times": times, "deviceId": device_id, "after": after}
        self._control("POST", "faults", fault)

    def heal(self):
        """Nothing fails any more."""
        self._control("DELETE", "faults")

    def requests(self):
        """What it was asked, in its order: `line`, `ifMatch`, `body`, `atMilliseconds`."""
        return self._control("GET", "requests")

    def report(self, device_id, reported):
        """The device reports properties."""
        self._control("POST", f"reported/{quote(device_id, safe='')}", reported)

    def renew_key(self):
        """From now on another connection string counts."""
        self._accept(self._control("POST", "renew-key")["connectionString"])

    def freeze(self):
        """Connections come about, and nothing is said any more; from the return on."""
        self._process.send_signal(signal.SIGSTOP)
        _, status = os.waitpid(self._process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status), f"hub-registry ended: {status}"

    def thaw(self):
        self._process.send_signal(signal.SIGCONT)

    def _accept(self, connection_string):
        self.connection_string = connection_string
        leaks.made.add_base64("the key of a hub", connection_string.split("SharedAccessKey=")[1])

    def _control(self, method, resource, body=None):
        context = ssl.create_default_context(cafile=self.ca_file)
        url = f"https://{self.host}/.control/{resource}"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            return json.loads(answer.read())
