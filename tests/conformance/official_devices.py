"""Devices with official SDKs that come one after the other, and begin anew where a connection or an answer was lost."""

import base64
import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import certificates
import sdk
from credentials import fresh_id
from linked_hubs import until
from node_client import Node

AGAIN_AFTER = 0.5
ASSIGNED_WITHIN = 180.0


@dataclass(frozen=True)
class Provisioned:
    """What a device was told at last. Its hub knows it by the fingerprint of its key, or by the thumbprint of its certificate."""

    kind: str
    hub: str
    device_id: str
    known_by: str
    setbacks: int


class Python:
    """azure-iot-device."""

    def __init__(self, service, websockets):
        self.service, self.websockets = service, websockets

    def register(self, device, proof):
        """Hub and device id; whatever the SDK raises where there is none."""
        if isinstance(proof, str):
            run = sdk.register_over_websocket if self.websockets else sdk.register
            result = run(self.service, device, proof)
        else:
            result = sdk.register_with_certificate(self.service, device, proof, websockets=self.websockets)
        assert result.status == "assigned", result
        return result.registration_state.assigned_hub, result.registration_state.device_id

    def end(self):
        pass


class JavaScript:
    """azure-iot-provisioning-device, in a process of its own that is started anew where it does not answer."""

    def __init__(self, service, transport):
        self.service, self.transport, self.node = service, transport, None

    def register(self, device, proof):
        if isinstance(proof, str):
            proof = {"key": proof}
        else:
            proof = {"certificate": {"cert": proof.chain.read_text(), "key": proof.key.read_text()}}
        self.node = self.node or Node(self.service.ca_file, "device.mjs")
        asked = {"host": self.service.address, "idScope": self.service.id_scope, "registrationId": device}
        try:
            answer = self.node.answer(transport=self.transport, **asked, **proof)
        except AssertionError:
            self.end()
            raise
        if "result" not in answer:
            raise ConnectionError(answer)
        return answer["result"]["assignedHub"], answer["result"]["deviceId"]

    def end(self):
        if self.node is not None:
            self.node.__exit__()
            self.node = None


SDKS = {
    "Python, MQTT": lambda service: Python(service, websockets=False),
    "Python, WebSocket": lambda service: Python(service, websockets=True),
    "Node, MQTT": lambda service: JavaScript(service, "mqtt"),
    "Node, WebSocket": lambda service: JavaScript(service, "mqtt-ws"),
    "Node, HTTPS": lambda service: JavaScript(service, "https"),
}


class Fleet:
    """Each SDK over each transport, with keys of a group and with certificates of another: a device of each is on its way all the
    time. Use as a context manager, in which what goes wrong is made to."""

    def __init__(self, service, folder, keys, issuer):
        self.service, self.folder, self.keys, self.issuer = service, folder, keys, issuer
        self._is_over, self._lines = threading.Event(), {}
        # By id.
        self.provisioned = {}

    def __enter__(self):
        self._pool = ThreadPoolExecutor(2 * len(SDKS))
        for name, made in SDKS.items():
            for proof in (self._key, self._certificate):
                kind = f"{name}, {proof.__name__[1:]}"
                self._lines[kind] = self._pool.submit(self._line, kind, made, proof)
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for line in self._lines.values():
            line.result()
        self._pool.shutdown()

    @property
    def setbacks(self):
        return sum(one.setbacks for one in self.provisioned.values())

    def one_more_of_each_kind(self, within):
        """Waits until a device of each was assigned from now on."""
        before = self._counts()
        until(lambda: all(now > then for now, then in zip(self._counts(), before)), "a device of each kind to be assigned", within)

    def _counts(self):
        kinds = [one.kind for one in self.provisioned.copy().values()]
        return [kinds.count(kind) for kind in self._lines]

    def _key(self, device):
        key = self.keys.of(device).primary
        return key, hashlib.sha256(base64.b64decode(key)).hexdigest()[:16]

    def _certificate(self, device):
        own = certificates.for_clients(device, self.issuer)
        return own.files(self.folder, self.issuer), own.sha256

    def _line(self, kind, made, prove):
        device_sdk = made(self.service)
        try:
            while not self._is_over.is_set():
                device = fresh_id("press")
                proof, known_by = prove(device)
                (hub, device_id), setbacks = _insist(lambda: device_sdk.register(device, proof), f"{device} with {kind}")
                self.provisioned[device] = Provisioned(kind, hub, device_id, known_by, setbacks)
        finally:
            device_sdk.end()


def _insist(register, who):
    """Begins anew until it works; what came of it, and how often it did not."""
    began, setbacks = time.monotonic(), 0
    while True:
        try:
            return register(), setbacks
        except Exception as why:
            if time.monotonic() > began + ASSIGNED_WITHIN:
                raise AssertionError(f"{who} was not assigned") from why
            setbacks += 1
            time.sleep(AGAIN_AFTER)
