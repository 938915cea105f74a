"""The MQTT session, byte by byte: what must close, what must not, and in which order things are said."""

import contextlib
import json
import socket
import ssl
import time

import pytest

import malformed
import packets
from credentials import fresh_id, user_name
from raw_device import (
    ACCEPTED, WAIT, RawDevice, connect_packet, connected, context_for, register_packet, registers, subscribed,
)


@pytest.fixture
def fleet(enrollments):
    """A fresh registration id and its key."""

    def fleet():
        registration_id = fresh_id("raw")
        return registration_id, enrollments.group.of(registration_id).primary

    return fleet


def test_every_malformed_packet_closes_and_the_service_goes_on(harbor, fleet):
    """DPS-MQTT-1, DPS-MQTT-9, DPS-MQTT-16, DPS-MQTT-26, DPS-MQTT-28."""
    first, later = list(malformed.first_packets()), list(malformed.later_packets())
    assert len(first) + len(later) >= 100
    assert len({name for name, _ in first + later}) == len(first) + len(later)
    taken = []
    for name, data in first:
        with RawDevice(harbor) as device:
            device.send(data)
            if not closes(device):
                taken.append(name)
    registration_id, key = fleet()
    for name, data in later:
        with connected(harbor, registration_id, key) as device:
            device.send(data)
            if not closes(device):
                taken.append(name)
    assert taken == []
    assert registers(harbor, registration_id, key)


def closes(device):
    with contextlib.suppress(AssertionError):
        return device.is_closed()
    return False


def test_the_packets_next_to_the_malformed_ones_are_taken(harbor, fleet):
    """DPS-MQTT-7, DPS-MQTT-22, DPS-MQTT-28: what the table above bends is good when it is straight."""
    registration_id, key = fleet()
    with subscribed(harbor, registration_id, key) as device:
        device.send(packets.packet(0x40, b"\0\0") + packets.packet(0x40, b"\xff\xff"))
        device.send(packets.unsubscribe())
        assert device.next() == (0xB0, b"\x00\x02")
        two = packets.text("a") + b"\1" + packets.text(malformed.ANSWERS) + b"\0"
        device.send(packets.packet(0x82, b"\0\5" + two))
        assert device.next() == (0x90, b"\x00\x05\x80\x00")
        assert device.is_open()
    user = user_name(harbor.id_scope, registration_id)
    will = packets.text("topic") + packets.text(b"\xff\x00") + packets.text(user)
    for flags in (0x86, 0x8E, 0x96, 0xB6):
        with RawDevice(harbor) as device:
            device.send(packets.connect(registration_id, flags=flags, fields=will))
            assert device.next() == ACCEPTED, hex(flags)


@pytest.mark.parametrize("level", [3, 5, 0, 0x84])
def test_another_protocol_level_is_connack_1(harbor, level):
    """DPS-MQTT-1: an MQTT 5 client puts properties before the client id."""
    properties = b"\0" if level == 5 else b""
    content = packets.text("MQTT") + bytes([level, 0x02]) + packets.number(60) + properties + packets.text("dev")
    with RawDevice(harbor) as device:
        device.send(packets.packet(0x10, content))
        assert device.next() == (0x20, b"\x00\x01")
        assert device.is_closed()


@pytest.mark.parametrize("granted", [0, 1])
def test_puback_precedes_the_answer_in_the_same_write(harbor, fleet, granted):
    """DPS-MQTT-21: one TLS record holds both, and no third packet follows."""
    with connected(harbor, *fleet()) as device:
        device.send(packets.subscribe(qos=granted))
        assert device.next() == (0x90, bytes([0, 1, granted]))
        device.send(register_packet(packet_id=0x1234))
        record = device.tls.recv(65536)
        puback, rest = packets.split(record)
        assert puback == (0x40, b"\x12\x34")
        (first, content), rest = packets.split(rest)
        assert (first, rest) == (0x30 | granted << 1, b"")
        topic, payload = packets.published(content, granted)
        assert topic == "$dps/registrations/res/202/?$rid=1&retry-after=3"
        assert json.loads(payload)["status"] == "assigning"
        # No PUBACK was sent for the answer: it is not sent again all the same.
        assert device.is_open()


def test_everything_may_be_sent_ahead_in_one_write(harbor, fleet):
    """DPS-MQTT-24."""
    registration_id, key = fleet()
    ahead = connect_packet(harbor, registration_id, key) + packets.subscribe()
    ahead += register_packet("1", packet_id=7) + packets.PINGREQ + register_packet("2", packet_id=8)
    with RawDevice(harbor) as device:
        device.send(ahead)
        assert device.next() == ACCEPTED
        assert device.next() == (0x90, b"\x00\x01\x01")
        assert device.next() == (0x40, b"\x00\x07")
        assert "$rid=1&" in device.answer()[0]
        assert device.next() == (0xD0, b"")
        assert device.next() == (0x40, b"\x00\x08")
        assert "$rid=2&" in device.answer()[0]


def test_a_device_may_write_one_byte_at_a_time(harbor, fleet):
    """DPS-MQTT-24, DPS-MQTT-27."""
    registration_id, key = fleet()
    everything = connect_packet(harbor, registration_id, key) + packets.subscribe() + register_packet()
    with RawDevice(harbor) as device:
        for byte in everything:
            device.send(bytes([byte]))
        assert [device.next()[0] for _ in range(3)] == [0x20, 0x90, 0x40]
        assert device.answer()[0].startswith("$dps/registrations/res/202/")


def test_nothing_is_read_after_disconnect(harbor, fleet):
    """DPS-MQTT-10."""
    with subscribed(harbor, *fleet()) as device:
        device.send(packets.DISCONNECT + register_packet())
        assert device.is_closed()


def test_nothing_is_said_that_was_not_asked_for(harbor, fleet):
    """DPS-MQTT-25."""
    with subscribed(harbor, *fleet()) as device:
        device.send(register_packet())
        assert device.next()[0] == 0x40
        device.answer()
        with pytest.raises(TimeoutError):
            device.next(within=1.0)


def test_a_register_of_90_kilobytes_is_taken_and_one_of_97_closes(harbor, fleet):
    """DPS-MQTT-26: as the first register, before anything was attested."""
    frame = len(json.dumps({"payload": {"x": ""}}))
    for size, taken in ((90 * 1000, True), (96 * 1024, True), (97 * 1024, False), (200 * 1024, False)):
        payload = json.dumps({"payload": {"x": "y" * (size - frame)}}).encode()
        assert len(payload) == size
        with subscribed(harbor, *fleet()) as device:
            with contextlib.suppress(OSError):
                # A service that closes at the header does not wait for the rest.
                device.send(register_packet(payload=payload))
            if taken:
                assert device.next()[0] == 0x40, size
                assert "/res/202/" in device.answer()[0], size
            else:
                assert device.is_closed(), size


def test_a_silent_device_is_closed_after_one_and_a_half_keepalives(harbor, fleet):
    """DPS-MQTT-8."""
    with connected(harbor, *fleet(), keepalive=1) as device:
        began = time.monotonic()
        assert device.is_closed(within=5.0)
        assert 1.3 < time.monotonic() - began < 3.0


def test_pings_keep_a_connection_open_and_keepalive_0_needs_none(harbor, fleet):
    """DPS-MQTT-8."""
    with connected(harbor, *fleet(), keepalive=1) as pinging, connected(harbor, *fleet(), keepalive=0) as quiet:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                pinging.next(within=1.0)
            assert pinging.is_open()
        assert quiet.is_open()


def test_half_open_connections_disturb_nobody(harbor, fleet):
    """DPS-MQTT-27: silent before TLS, silent after TLS, and silent in the middle of CONNECT."""
    registration_id, key = fleet()
    with contextlib.ExitStack() as stack:
        for count in range(20):
            plain = stack.enter_context(socket.create_connection((harbor.address, harbor.port), timeout=WAIT))
            if count % 2:
                plain.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
            tls = stack.enter_context(RawDevice(harbor))
            if count % 2:
                tls.send(connect_packet(harbor, registration_id, key)[:-5])
        began = time.monotonic()
        assert registers(harbor, registration_id, key)
        assert time.monotonic() - began < 5.0


@pytest.mark.parametrize("data", [packets.connect("dev", "u"), b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", bytes(64)], ids=["mqtt", "http", "zeros"])
def test_what_is_no_tls_handshake_is_refused_at_once(harbor, data):
    """DPS-DEV-8."""
    with socket.create_connection((harbor.address, harbor.port), timeout=1.0) as plain:
        plain.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            # A TLS alert may come before the end.
            while received := plain.recv(4096):
                assert received[0] == 0x15, received


def test_nothing_listens_where_mqtt_would_be_plain(harbor):
    """DPS-DEV-8."""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((harbor.address, 1883), timeout=1.0)


RSA, EC = bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a8648ce3d0201")


def tls(service, version, ciphers=None):
    context = context_for(service)
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_tls_1_2_and_1_3_are_served_with_an_ecdsa_certificate(harbor, fleet, version):
    """DPS-DEV-6: ca.pem is all that the client trusts, and it checks the address."""
    with subscribed(harbor, *fleet(), context=tls(harbor, version)) as device:
        assert device.tls.version() == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
        certificate = device.tls.getpeercert(binary_form=True)
        assert EC in certificate and RSA not in certificate
        device.send(register_packet())
        assert device.next()[0] == 0x40


def test_a_client_that_knows_rsa_alone_gets_an_rsa_certificate_that_verifies(harbor, fleet):
    """DPS-DEV-6."""
    context = tls(harbor, ssl.TLSVersion.TLSv1_2, "ECDHE-RSA-AES128-GCM-SHA256")
    with subscribed(harbor, *fleet(), context=context) as device:
        assert device.tls.cipher()[0] == "ECDHE-RSA-AES128-GCM-SHA256"
        assert RSA in device.tls.getpeercert(binary_form=True)
        device.send(register_packet())
        assert device.next()[0] == 0x40


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_no_tls_session_is_resumed(harbor, fleet, version):
    """DPS-DEV-6."""
    context = tls(harbor, version)
    with connected(harbor, *fleet(), context=context) as first:
        session = first.tls.session
    with RawDevice(harbor, context, session=session) as second:
        assert not second.tls.session_reused
        assert session is None or not session.has_ticket
