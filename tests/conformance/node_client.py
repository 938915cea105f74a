"""The official Node clients of the service API and of devices, unmodified, in a process of their own."""

import json
import os
import select
import subprocess
import time
from pathlib import Path

from service_clients import Refused

FOLDER = os.environ.get("HARBORMASTER_NODE_FOLDER", "")
DRIVERS = Path(__file__).with_name("node")
ANSWERED_WITHIN = 30.0


class Node:
    """A process that trusts one CA: `driver` is one of the folder `node`. Use as a context manager."""

    def __init__(self, ca_file, driver="driver.mjs"):
        self._read = b""
        self._process = subprocess.Popen(
            ["node", str(DRIVERS / driver), FOLDER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "NODE_EXTRA_CA_CERTS": ca_file},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.kill()
        self._process.communicate()

    def answer(self, **asked):
        """What the driver says to one line."""
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._line(time.monotonic() + ANSWERED_WITHIN))

    def ask(self, **asked):
        """What the driver makes of one call."""
        answer = self.answer(**asked)
        if refusal := answer.get("refusal"):
            raise Refused(refusal["status"], refusal["body"], answer["error"])
        assert "result" in answer, answer["error"]
        return answer["result"]

    def _line(self, until):
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._read:
            readable, _, _ = select.select([pipe], [], [], max(0.0, until - time.monotonic()))
            data = os.read(pipe, 65536) if readable else b""
            assert data, f"no answer of node but {self._read!r}"
            self._read += data
        line, self._read = self._read.split(b"\n", 1)
        return line


class NodeClient:
    """azure-iot-provisioning-service, with the calls of `service_clients`."""

    def __init__(self, node, connection_string):
        # It takes no port in the name of the host.
        host, rest = connection_string.split(";", 1)
        name, _, port = host.partition(":")
        self._ask = lambda **asked: node.ask(connectionString=f"{name};{rest}", port=int(port or 443), **asked)

    def put(self, kind, entry):
        return self._ask(call="put", kind=kind, entry=entry)

    def get(self, kind, name):
        return self._ask(call="get", kind=kind, name=name)

    def delete(self, kind, name, etag=None):
        self._ask(call="delete", kind=kind, name=name, etag=etag)

    def keys(self, kind, name):
        return self._ask(call="keys", kind=kind, name=name)

    def pages(self, kind, text, page_size):
        return self._ask(call="pages", kind=kind, text=text, pageSize=page_size)

    def bulk(self, kind, mode, entries):
        # It has no bulk operation for groups.
        return self._ask(call="bulk", kind=kind, mode=mode, entries=entries)

    def record(self, registration_id):
        return self._ask(call="get", kind="record", name=registration_id)

    def delete_record(self, registration_id, etag=None):
        self._ask(call="delete", kind="record", name=registration_id, etag=etag)

    def record_pages(self, group, page_size):
        return self._ask(call="pages", kind="record", name=group, pageSize=page_size)
