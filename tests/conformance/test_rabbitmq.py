"""RabbitMQ as a hub: devices connect with what they were told, and each is confined to its own topics."""

import base64
import hashlib
import hmac
import queue
import ssl
import time
from urllib.parse import quote

import paho.mqtt.client as mqtt
import pytest
from azure.iot.device import IoTHubDeviceClient, Message

import certificates
import leaks
import sdk
from admin import admin
from credentials import derived_key, fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from rabbitmq import PASSWORD, USER, RabbitMq
from raw_service import ask, enroll
from service import Harbormaster

pytestmark = pytest.mark.timeout(300)

WAIT = 10.0
QUIET = 0.7
REFUSED = 0x80
# Bad user name or password, and not authorised, as RabbitMQ tells them.
NOT_LET_IN = (4, 5)
API_VERSION = "?api-version=2019-10-01&DeviceClientType=azure-iot-device%2F2.14.0%20%28python%3A3%29"


@pytest.fixture(scope="module")
def dev(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broker")
    with_broker = Harbormaster(folder / "log", "--broker-port", "0", data_dir=folder / "data").ready()
    yield with_broker
    code, _ = with_broker.stop()
    assert code == 0, with_broker.log_tail()


@pytest.fixture(scope="module")
def device_ca():
    return certificates.authority(fresh_id("Devices"))


@pytest.fixture(scope="module")
def broker(dev, device_ca):
    with RabbitMq(dev, device_ca) as node:
        yield node
        processes = node.processes()
        assert len(processes) >= 3, "the node, its helpers and epmd"
    assert node.processes() == [] and not node.folder.exists()


def hub_token(hub, device_id, key, expires_in=3600):
    """What a device shows its hub."""
    resource = quote(f"{hub}/devices/{device_id}", safe="")
    expiry = int(time.time()) + expires_in
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    leaks.made.add(f"a signature of {device_id} for its hub", digest)
    return f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"


class Client:
    """One MQTT connection to the broker. Use as a context manager."""

    def __init__(self, broker, client_id, user=None, password=None, files=None):
        self.broker = broker
        self.client = mqtt.Client(client_id=client_id, clean_session=True, protocol=mqtt.MQTTv311)
        if user is not None:
            self.client.username_pw_set(user, password)
        context = ssl.create_default_context(cafile=broker.ca_file)
        if files:
            context.load_cert_chain(files.chain, files.key)
        self.client.tls_set_context(context)
        self.client.reconnect_delay_set(3600)
        self.events = {name: queue.Queue() for name in ("connack", "suback", "puback", "message", "closed")}
        self.client.on_connect = lambda c, u, flags, code: self.events["connack"].put(code)
        self.client.on_subscribe = lambda c, u, mid, granted: self.events["suback"].put(granted[0])
        self.client.on_publish = lambda c, u, mid: self.events["puback"].put(mid)
        self.client.on_message = lambda c, u, message: self.events["message"].put((message.topic, message.payload))
        self.client.on_disconnect = lambda c, u, code: self.events["closed"].put(code)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.disconnect()
        self.client.loop_stop()

    def connect(self):
        """The return code of the CONNACK."""
        self.client.connect(self.broker.address, 8883, keepalive=60)
        self.client.loop_start()
        return self.get("connack")

    def subscribe(self, topic):
        """The granted QoS, or 0x80; RabbitMQ may close the connection instead."""
        self.client.subscribe(topic, 1)
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            for name, told in (("suback", None), ("closed", REFUSED)):
                try:
                    event = self.events[name].get(timeout=0.02)
                    return event if told is None else told
                except queue.Empty:
                    pass
        raise AssertionError(f"neither granted nor refused within {WAIT} s")

    def publish(self, topic, body, retain=False):
        """Whether the broker takes it: it acknowledges, or ends the connection."""
        # paho would refuse a topic with a wildcard itself.
        self.client._send_publish(self.client._mid_generate(), topic.encode(), body, 1) if set("+#") & set(topic) else (
            self.client.publish(topic, body, 1, retain)
        )
        until = time.monotonic() + WAIT
        while time.monotonic() < until:
            for name, taken in (("puback", True), ("closed", False)):
                try:
                    self.events[name].get(timeout=0.02)
                    return taken
                except queue.Empty:
                    pass
        raise AssertionError(f"neither acknowledged nor closed within {WAIT} s")

    def get(self, name):
        try:
            return self.events[name].get(timeout=WAIT)
        except queue.Empty:
            raise AssertionError(f"no {name} within {WAIT} s\n{self.broker.log_tail()}") from None

    def silent(self):
        try:
            self.events["message"].get(timeout=QUIET)
            return False
        except queue.Empty:
            return True


class Device:
    """A device of a group, and what it was told."""

    def __init__(self, dev, prefix="press"):
        self.dev = dev
        self.registration_id = fresh_id(prefix)
        self.key = derived_key(dev.contract["enrollmentGroups"][0]["primaryKey"], self.registration_id)
        state = sdk.register(dev, self.registration_id, self.key).registration_state
        self.hub, self.id = state.assigned_hub, state.device_id
        assert self.hub == dev.hub

    def at(self, broker, client_id=None, user=None, password=None):
        user = user or f"{self.hub}/{self.id}/{API_VERSION}"
        return Client(broker, client_id or self.id, user, password or hub_token(self.hub, self.id, self.key))

    def set(self, status):
        path = f"/id-scopes/{self.dev.id_scope}/hubs/{self.hub}/devices/{self.id}/status"
        answer = admin(self.dev, "PUT", path, {"status": status})
        assert answer[0] == 200 and answer[1]["status"] == status, answer


def own_topic(device_id):
    return f"devices/{device_id}/messages/events/"


@pytest.fixture
def listener(broker):
    """A service of the broker's own, which hears all devices."""
    with Client(broker, fresh_id("service"), USER, PASSWORD) as service:
        assert service.connect() == 0
        assert service.subscribe("devices/#") == 1
        yield service


def explained(dev, registration_id):
    status, found = admin(dev, "GET", f"/explanations?registrationId={registration_id}&limit=1")
    assert status == 200 and found and found[0]["step"] == "broker" and found[0]["told"] == "deny", found
    assert found[0]["advice"] and dev.log_line(found[0]["trackingId"], "broker told no", registration_id)
    return found[0]["reason"]


def test_the_socket_is_there_where_it_is_asked_for_and_on_loopback(dev, harbor):
    """DPS-BROKER-1, DPS-BROKER-15"""
    assert "broker" not in harbor.contract
    assert dev.contract["broker"]["address"] == "127.0.0.1" and dev.contract["broker"]["port"] != 0


def test_a_device_provisions_and_lives_at_the_broker_with_what_it_was_told(dev, broker, listener):
    """DPS-BROKER-4, DPS-BROKER-7, DPS-BROKER-9: it publishes, hears what it is sent, and nobody else does."""
    mine, theirs = Device(dev), Device(dev)
    plain = f"{theirs.hub}/{theirs.id}"
    with mine.at(broker) as one, theirs.at(broker, user=plain) as other:
        assert one.connect() == 0 and other.connect() == 0
        for device, client in ((mine, one), (theirs, other)):
            assert client.subscribe(f"devices/{device.id}/messages/devicebound/#") == 1
            body = f"from {device.id}".encode()
            assert client.publish(own_topic(device.id) + "a=b", body)
            assert listener.get("message") == (own_topic(device.id) + "a=b", body)
        assert listener.publish(f"devices/{mine.id}/messages/devicebound/a=b", b"for you")
        assert one.get("message") == (f"devices/{mine.id}/messages/devicebound/a=b", b"for you")
        assert other.silent()


def test_the_official_device_sdk_sends_and_receives(dev, broker, listener):
    """DPS-BROKER-4, DPS-BROKER-7, DPS-BROKER-9: unmodified, with the hub that the device was told and its key."""
    device = Device(dev, "mac:00:11")
    # The name of the hub leads nowhere on this machine; a gateway is how the SDK is led to the broker.
    connection_string = (
        f"HostName={device.hub};DeviceId={device.id};SharedAccessKey={device.key};GatewayHostName={broker.address}"
    )
    client = IoTHubDeviceClient.create_from_connection_string(
        connection_string, server_verification_cert=broker.ca_file.read_text()
    )
    received = queue.Queue()
    try:
        client.connect()
        client.on_message_received = received.put
        message = Message("telemetry")
        message.custom_properties["temperature"] = "hot"
        client.send_message(message)
        topic, body = listener.get("message")
        assert body == b"telemetry" and topic.startswith(own_topic(device.id)) and "temperature=hot" in topic
        assert listener.publish(f"devices/{device.id}/messages/devicebound/urgency=high", b"to the device")
        heard = received.get(timeout=WAIT)
        assert (heard.data, heard.custom_properties) == (b"to the device", {"urgency": "high"})
    finally:
        client.shutdown()


def test_a_device_is_refused_on_every_topic_that_is_not_its_own(dev, broker, listener):
    """DPS-BROKER-9, DPS-BROKER-10, DPS-BROKER-13"""
    mine, theirs = Device(dev), Device(dev)
    for topic in (
        own_topic(theirs.id),
        own_topic(f"{mine.id}.{theirs.id}"),
        own_topic(f"{mine.id}/{theirs.id}"),
        own_topic("+"),
        own_topic("#"),
        own_topic("*"),
        own_topic(""),
        own_topic(mine.id.upper()),
        f"devices/{mine.id}/messages/devicebound/",
        f"devices/{theirs.id}/messages/devicebound/",
        "$iothub/twin/PATCH/properties/reported/?$rid=1",
        "elsewhere",
    ):
        with mine.at(broker) as client:
            assert client.connect() == 0
            assert not client.publish(topic, b"not mine"), topic
        assert "topic" in explained(dev, mine.registration_id), topic
    assert listener.silent()
    # Kept by the broker for whoever subscribes later.
    assert listener.publish(f"devices/{theirs.id}/messages/devicebound/", b"kept for another", retain=True)
    for pattern in (
        f"devices/{theirs.id}/messages/devicebound/",
        f"devices/{theirs.id}/messages/devicebound/#",
        "devices/+/messages/devicebound/#",
        "devices/#",
        "#",
        "+/+/+/+/+",
        f"devices/{mine.id}/#",
        f"devices/{mine.id}/messages/events/#",
        "$iothub/methods/POST/#",
    ):
        with mine.at(broker) as client:
            assert client.connect() == 0
            assert client.subscribe(pattern) == REFUSED, pattern
            listener.publish(f"devices/{theirs.id}/messages/devicebound/", b"not for you")
            assert client.silent(), pattern
    with mine.at(broker) as client:
        assert client.connect() == 0 and client.publish(own_topic(mine.id), b"mine")


def test_what_does_not_prove_the_device_is_not_let_in(dev, broker):
    """DPS-BROKER-4 to DPS-BROKER-7, DPS-BROKER-13"""
    mine, theirs = Device(dev), Device(dev)
    my_token, my_name = hub_token(mine.hub, mine.id, mine.key), f"{mine.hub}/{mine.id}"
    for client_id, user, password, reason in (
        (theirs.id, f"{theirs.hub}/{theirs.id}", my_token, "the token is for"),
        (theirs.id, f"{theirs.hub}/{theirs.id}", hub_token(theirs.hub, theirs.id, mine.key), "neither of the device's keys"),
        (theirs.id, my_name, my_token, "client id"),
        (mine.id.upper(), my_name, my_token, "client id"),
        (mine.id, my_name, hub_token(mine.hub, mine.id, mine.key, expires_in=-301), "expired"),
        (mine.id, my_name, hub_token("other.example", mine.id, mine.key), "the token is for"),
        (mine.id, my_name, "hunter2", "no SAS token"),
        (mine.id, f"other.example/{mine.id}", my_token, "no service instance links"),
        (mine.id, f"{my_name}/module/{API_VERSION}", my_token, "goes on after the device id"),
        (mine.id, mine.id, my_token, "names no hub"),
    ):
        with Client(broker, client_id, user, password) as client:
            assert client.connect() in NOT_LET_IN, reason
        named = theirs.registration_id if user.startswith(f"{theirs.hub}/{theirs.id}") else mine.registration_id
        if "module" in user:
            assert dev.log_line("broker told no", reason)
        else:
            assert reason in explained(dev, named)
    with mine.at(broker) as client:
        assert client.connect() == 0


@pytest.mark.parametrize("device_id", ["+", "#", "*", "a.b", "press.7"])
def test_an_id_that_means_something_in_topics_is_refused_when_it_registers(dev, broker, listener, device_id):
    """DPS-BROKER-11: it gains nothing at the broker either, and neither does a device that takes such an id for its own."""
    registration_id, keys = fresh_id("odd"), fresh_keys()
    enroll(dev, individual(registration_id, symmetric(keys), deviceId=device_id))
    error, cause = sdk.refusal(sdk.register, dev, registration_id, keys.primary)
    assert "400004" in f"{error} {cause}" or "failed" in f"{error} {cause}", (error, cause)
    state = ask(dev, "GET", f"/registrations/{registration_id}").json
    assert (state["status"], state["errorCode"]) == ("failed", 400004), state
    status, _ = admin(dev, "GET", f"/id-scopes/{dev.id_scope}/hubs/{dev.hub}/devices/{quote(device_id, safe='')}")
    assert status == 404
    with Client(broker, device_id, f"{dev.hub}/{device_id}", hub_token(dev.hub, device_id, keys.primary)) as client:
        assert client.connect() in NOT_LET_IN
    honest = Device(dev)
    with Client(broker, device_id, f"{dev.hub}/{device_id}", hub_token(honest.hub, honest.id, honest.key)) as client:
        assert client.connect() in NOT_LET_IN


def test_a_disabled_device_is_refused_until_it_is_enabled_again(dev, broker):
    """DPS-BROKER-12: registering again changes nothing, and the audit says who did it."""
    device = Device(dev)
    with device.at(broker) as client:
        assert client.connect() == 0
    device.set("disabled")
    with device.at(broker) as client:
        assert client.connect() in NOT_LET_IN
    assert "disabled" in explained(dev, device.registration_id)
    assert sdk.register(dev, device.registration_id, device.key).status == "assigned"
    with device.at(broker) as client:
        assert client.connect() in NOT_LET_IN
    device.set("enabled")
    with device.at(broker) as client:
        assert client.connect() == 0 and client.publish(own_topic(device.id), b"back")
    status, records = admin(dev, "GET", f"/id-scopes/{dev.id_scope}/audit?id={device.hub}/{device.id}")
    subject = {"type": "hubDevice", "id": f"{device.hub}/{device.id}"}
    assert status == 200
    assert [(record["action"], record["subject"]) for record in records] == [("enabled", subject), ("disabled", subject)]


def test_a_device_logs_in_with_its_certificate_alone(dev, broker, device_ca, listener, tmp_path):
    """DPS-BROKER-8: by the name in it, which the broker has judged; keys let nobody in who was assigned by certificate, nor the
    other way round."""
    enroll(dev, group(fresh_id("line"), certificates.by_signer(device_ca)))
    registration_id = fresh_id("press")
    files = certificates.for_clients(registration_id, device_ca).files(tmp_path)
    assert sdk.register_with_certificate(dev, registration_id, files).status == "assigned"
    other = Device(dev)
    with Client(broker, registration_id, files=files) as client:
        assert client.connect() == 0
        assert client.publish(own_topic(registration_id), b"by certificate")
        assert listener.get("message") == (own_topic(registration_id), b"by certificate")
        assert not client.publish(own_topic(other.id), b"not mine")
    with Client(broker, other.id, files=files) as client:
        assert client.connect() in NOT_LET_IN, "a client id of another"
    stranger = certificates.for_clients(other.id, device_ca).files(tmp_path)
    with Client(broker, other.id, files=stranger) as client:
        assert client.connect() in NOT_LET_IN, "that device has keys"
    name = f"{dev.hub}/{registration_id}"
    with Client(broker, registration_id, name, hub_token(dev.hub, registration_id, other.key)) as client:
        assert client.connect() in NOT_LET_IN
