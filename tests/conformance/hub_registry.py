"""A running `hub-registry`: the registry of an Azure IoT Hub as far as provisioning asks it, on a loopback address of its own."""

import json
import os
import ssl
import subprocess
import urllib.request

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
        self.connection_string = contract["connectionString"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate(timeout=STOPPED_WITHIN)

    def plan(self, step, effect, times=1):
        """Has a step fail."""
        self._control("POST", {"step": step, "effect": effect, "times": times})

    def heal(self):
        """Nothing fails any more."""
        self._control("DELETE", None)

    def _control(self, method, body):
        context = ssl.create_default_context(cafile=self.ca_file)
        url = f"https://{self.host}/.control/faults"
        request = urllib.request.Request(url, data=json.dumps(body).encode(), method=method)
        with urllib.request.urlopen(request, timeout=10, context=context) as answer:
            assert answer.status == 200
