"""The log: a line for each thing that happened, with the fields of docs/logs.md."""

import re
import socket
from pathlib import Path

import pytest

import packets
from credentials import derived_key, fresh_id, fresh_key, user_name
from raw_device import RawDevice, connected, register_packet, registers, subscribed
from raw_service import ask

PAGE = Path(__file__).parents[2] / "docs" / "logs.md"
LINE = re.compile(r"^\S+ +(?P<level>[A-Z]+) (?P<message>.*?)(?P<fields>(?: [a-z_]+=.*)?)$")
FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|.*?(?= [a-z_]+=|$))')


def documented():
    """Level, fields and optional fields of each line, by its first words."""
    rows = {}
    for row in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        if len(cells) == 3 and cells[1] in ("info", "warn", "debug"):
            always, _, sometimes = cells[2].partition("(")
            names = [set(re.findall("`([a-z_]+)`", part)) for part in (always, sometimes)]
            rows[cells[0].strip("`")] = (cells[1].upper(), *names)
    return rows


@pytest.fixture
def service(start):
    return start(environment={"HARBORMASTER_LOG": "debug,rustls=off"})


def test_every_line_about_a_connection_is_documented_and_has_its_fields(service):
    """DPS-EXPLAIN-4, DPS-EXPLAIN-5, DPS-SERVICE-19."""
    registration_id = fresh_id()
    key = derived_key(service.contract["enrollmentGroups"][0]["primaryKey"], registration_id)
    assert registers(service, registration_id, key)
    with subscribed(service, registration_id, fresh_key()) as stranger:
        stranger.send(register_packet(qos=0))
        stranger.answer()
    with connected(service, registration_id, key) as unsubscribed:
        unsubscribed.send(register_packet(qos=0))
        assert unsubscribed.is_open()
    with RawDevice(service) as device:
        device.send(packets.connect("somebody-else", user_name(service.id_scope, fresh_id()), "no token"))
        assert device.next() == (0x20, b"\x00\x02")
    with RawDevice(service) as device:
        device.send(packets.PINGREQ)
        assert device.is_closed()
    enrolled = fresh_id()
    assert ask(service, "PUT", f"/enrollments/{enrolled}", {"attestation": {"type": "symmetricKey"}}).status == 200
    assert ask(service, "POST", f"/enrollments/{enrolled}/attestationmechanism").status == 200
    assert ask(service, "GET", f"/enrollments/{registration_id}").status == 404
    with socket.create_connection((service.address, service.port), timeout=10) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
        plain.recv(100)

    expected = documented()
    for words in ("device registered", "service request refused", "request refused", "no answer sent", "TLS handshake failed", "connection ended"):
        service.log_line(words)
    service.log_line("connection closed", "CONNACK 2")
    service.log_line("INFO service request", "registration_id=", enrolled, "read-keys")
    seen = set()
    for line in service.log().splitlines():
        found = LINE.match(line)
        fields = dict(FIELD.findall(found["fields"])) if found else {}
        if "connection" not in fields:
            continue
        [name] = [name for name in expected if re.match(re.escape(name) + r"\b(?! refused)", found["message"])]
        level, always, sometimes = expected[name]
        assert found["level"] == level, line
        assert always <= fields.keys() <= always | sometimes, line
        seen.add(name)
    assert seen >= {
        "device registered",
        "service request",
        "service request refused",
        "request refused",
        "no answer sent",
        "connection closed",
        "connection ended",
        "TLS handshake failed",
        "service request refused",
    }


def test_a_register_and_a_refusal_have_one_line_each(service):
    """DPS-EXPLAIN-3."""
    registration_id = fresh_id()
    key = derived_key(service.contract["enrollmentGroups"][0]["primaryKey"], registration_id)
    assert registers(service, registration_id, key)
    with subscribed(service, registration_id, fresh_key()) as stranger:
        stranger.send(register_packet(qos=0))
        stranger.answer()
    service.log_line("request refused")
    lines = [line for line in service.log().splitlines() if registration_id in line and "DEBUG" not in line]
    assert [words for line in lines for words in ("device registered", "request refused") if words in line] == [
        "device registered",
        "request refused",
    ]
    assert len(lines) == 2, lines
