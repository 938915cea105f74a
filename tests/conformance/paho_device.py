"""A device with paho-mqtt: each of its calls waits for what the service sends back."""

import json
import queue
import re
import ssl
from dataclasses import dataclass

import paho.mqtt.client as mqtt

from credentials import ANSWERS, POLL, REGISTER, token, user_name

WAIT = 10.0
QUIET = 0.7


@dataclass(frozen=True)
class Answer:
    """One answer; `topic` and `text` are as received."""

    topic: str
    text: bytes
    qos: int
    retain: bool

    @property
    def status(self):
        return int(re.fullmatch(r"\$dps/registrations/res/(\d+)/\?.*", self.topic, re.DOTALL)[1])

    @property
    def body(self):
        return json.loads(self.text)


class PahoDevice:
    """One connection. Use as a context manager: it is closed at the end."""

    def __init__(self, service, client_id, user, password, clean_session=True):
        self.service = service
        self.client = mqtt.Client(client_id=client_id, clean_session=clean_session, protocol=mqtt.MQTTv311)
        if user is not None:
            self.client.username_pw_set(user, password)
        context = ssl.create_default_context(cafile=service.ca_file)
        self.client.tls_set_context(context)
        self.client.reconnect_delay_set(3600)
        self.events = {name: queue.Queue() for name in ("connack", "suback", "unsuback", "puback", "answer", "closed")}
        self.client.on_connect = lambda c, u, flags, rc: self._put("connack", (flags["session present"], rc))
        self.client.on_subscribe = lambda c, u, mid, granted: self._put("suback", granted)
        self.client.on_unsubscribe = lambda c, u, mid: self._put("unsuback", mid)
        self.client.on_publish = lambda c, u, mid: self._put("puback", mid)
        self.client.on_message = lambda c, u, m: self._put("answer", Answer(m.topic, m.payload, m.qos, m.retain))
        self.client.on_disconnect = lambda c, u, rc: self._put("closed", rc)

    @classmethod
    def of(cls, service, registration_id, key, **options):
        """A device as the documentation says it should be."""
        user = user_name(service.id_scope, registration_id)
        return cls(service, registration_id, user, token(service.id_scope, registration_id, key), **options)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def connect(self):
        """Session-present flag and return code of the CONNACK."""
        self.client.connect(self.service.address, self.service.port, keepalive=60)
        self.client.loop_start()
        return self._get("connack")

    def subscribe(self, topic=ANSWERS, qos=1):
        """The granted QoS, or 0x80."""
        self.client.subscribe(topic, qos)
        return self._get("suback")[0]

    def unsubscribe(self, topic=ANSWERS):
        self.client.unsubscribe(topic)
        self._get("unsuback")

    def publish(self, topic, body=b"", qos=1, retain=False):
        self.client.publish(topic, body, qos=qos, retain=retain)

    def ask(self, topic, body=b"", qos=1, retain=False, rid="1", operation_id=""):
        """Publishes, waits for the PUBACK where there is one, and gives the answer."""
        self.publish(topic.format(rid=rid, operation_id=operation_id), body, qos=qos, retain=retain)
        self._get("puback")
        return self._get("answer")

    def register(self, body=b"", **options):
        return self.ask(REGISTER, body, **options)

    def poll(self, operation_id, **options):
        return self.ask(POLL, b" ", operation_id=operation_id, **options)

    def acknowledged(self):
        """Waits for one PUBACK."""
        self._get("puback")

    def closed(self):
        """Waits until the service closes the connection."""
        assert self._get("closed") != 0

    def silent(self):
        """Whether no answer arrives for a while."""
        try:
            self.events["answer"].get(timeout=QUIET)
            return False
        except queue.Empty:
            return True

    def is_open(self):
        """Whether the connection still carries a SUBSCRIBE there and its SUBACK back."""
        return self.events["closed"].empty() and self.subscribe() in (0, 1)

    def _put(self, name, event):
        self.events[name].put(event)

    def _get(self, name):
        try:
            return self.events[name].get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError(f"no {name} within {WAIT} s") from None
