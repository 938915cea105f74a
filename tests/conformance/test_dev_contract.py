"""The contract of `harbormaster dev` with those who start it: output, files, ports, signals, exit codes."""

import base64
import contextlib
import json
import os
import re
import signal
import shutil
import socket
import ssl
import stat
import time

import pytest

from credentials import derived_key, fresh_id, fresh_key
from enrollments import fresh_keys, group, individual, symmetric
from raw_device import registers, subscribed
from raw_service import RawService, ask
from service import HTTPS_PORT, MQTT_PORT, free_address, may_bind

USAGE = 64


def contract_group(service):
    return service.contract["enrollmentGroups"][0]


def serves(service):
    """Whether a device of the sample group registers."""
    registration_id = fresh_id()
    return registers(service, registration_id, derived_key(contract_group(service)["primaryKey"], registration_id))


def manages(service):
    """Whether the owner of the connection string is let in."""
    return ask(service, "GET", "/enrollments/nobody").refused() == (404, 404201)


def refuses(process, *words):
    """Whether it exits 64 with nothing on standard output, saying all the words."""
    code, output = process.exited()
    said = process.log().lower()
    assert (code, output) == (USAGE, b""), process.log_tail()
    assert [word for word in words if word.lower() not in said] == [], process.log_tail()


@pytest.fixture
def busy():
    """A loopback address whose MQTT port is taken."""
    address = free_address()
    with socket.create_server((address, MQTT_PORT)):
        yield address


@pytest.fixture
def https_busy():
    """A loopback address and a port of it that is taken."""
    address = free_address()
    with socket.create_server((address, 0)) as taken:
        yield address, taken.getsockname()[1]


def test_the_first_line_is_the_contract_and_nothing_else_is_on_standard_output(start, tmp_path):
    """DPS-DEV-3, DPS-DEV-1, DPS-DEV-5, DPS-ID-3."""
    service = start(data_dir=tmp_path / "data")
    contract = service.contract
    assert re.fullmatch(r"0ne[0-9a-f]{8}", contract["idScope"], re.IGNORECASE)
    assert contract["host"] == "localhost"
    assert contract["mqtt"] == {"address": service.address, "port": MQTT_PORT}
    assert contract["https"]["address"] == service.address
    assert "BEGIN CERTIFICATE" in open(contract["caFile"]).read()
    assert contract["linkedHubs"] and all(isinstance(hub, str) for hub in contract["linkedHubs"])
    assert set(contract_group(service)) >= {"enrollmentGroupId", "primaryKey"}
    assert serves(service) and manages(service)
    assert service.stop() == (0, b"")


def test_the_contract_opens_the_service_api(start):
    """DPS-DEV-3, DPS-ACCESS-1: with the port in the connection string only where it is not the usual one."""
    service = start(https_port=0)
    host, policy, key = service.contract["serviceConnectionString"].split(";", 2)
    assert host == f"HostName=localhost:{service.https_port}"
    assert policy == "SharedAccessKeyName=provisioningserviceowner"
    assert len(base64.b64decode(key.removeprefix("SharedAccessKey="), validate=True)) == 64
    assert manages(service)
    assert key.removeprefix("SharedAccessKey=") not in service.log()


def test_https_is_on_443_where_the_system_allows_it(start):
    """DPS-DEV-4, DPS-DEV-3."""
    service = start()
    host, _ = service.contract["serviceConnectionString"].split(";", 1)
    if may_bind(HTTPS_PORT):
        assert (service.https_port, host) == (HTTPS_PORT, "HostName=localhost")
    else:
        assert service.https_port not in (0, HTTPS_PORT) and host == f"HostName=localhost:{service.https_port}"
        service.log_line("warn", "443")


def test_the_data_directory_is_used_again(start, tmp_path):
    """DPS-DEV-2."""
    first = start(data_dir=tmp_path / "data")
    before = kept_over_a_start(first)
    assert ask(first, "PUT", "/enrollments/kept", {"attestation": {"type": "symmetricKey"}}).status == 200
    assert first.stop()[0] == 0
    second = start(data_dir=tmp_path / "data", address=first.address)
    assert kept_over_a_start(second) == before
    assert ask(second, "GET", "/enrollments/kept").status == 200
    assert serves(second)


def kept_over_a_start(service):
    members = [service.contract[member] for member in ("idScope", "enrollmentGroups", "linkedHubs")]
    _, policy_and_key = service.service_connection_string.split(";", 1)
    return members, open(service.ca_file).read(), policy_and_key


def test_a_data_directory_serves_a_new_host_at_the_next_start(start, tmp_path):
    """DPS-DEV-2, DPS-DEV-6: the CA stays, so that devices which trust it need nothing new."""
    first = start(data_dir=tmp_path / "data")
    authority = open(first.ca_file).read()
    assert first.stop()[0] == 0
    second = start(data_dir=tmp_path / "data")
    assert second.address != first.address and open(second.ca_file).read() == authority
    assert serves(second)


def test_only_their_owner_reads_what_is_in_the_data_directory(start, tmp_path):
    """DPS-STORE-8."""
    data = tmp_path / "data"
    service = start(data_dir=data)
    assert serves(service)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [data, *data.rglob("*")]}
    assert len(modes) > 2
    assert {str(p): oct(m) for p, m in modes.items() if m != (0o700 if p.is_dir() else 0o600)} == {}


def test_without_a_data_directory_nothing_is_left_behind(start, tmp_path):
    """DPS-DEV-2."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    service = start(environment={"TMPDIR": str(scratch)})
    assert str(scratch) in service.ca_file and list(scratch.iterdir())
    assert service.stop()[0] == 0
    assert list(scratch.iterdir()) == []


def test_a_data_directory_in_use_is_refused(start, tmp_path):
    """DPS-STORE-8."""
    first = start(data_dir=tmp_path / "data")
    refuses(start(data_dir=tmp_path / "data", ready=False), str(tmp_path / "data"), "use")
    assert serves(first)


def test_an_asked_for_port_that_is_taken_is_an_error_that_says_what_to_do(start, tmp_path, busy):
    """DPS-DEV-4."""
    refuses(start(data_dir=tmp_path / "data", address=busy, ready=False), "8883", "--mqtt-port")


def test_a_default_port_that_is_taken_is_replaced_with_a_warning(start, busy):
    """DPS-DEV-4."""
    service = start(address=busy, mqtt_port=None)
    assert service.port not in (0, MQTT_PORT)
    service.log_line("warn", "8883")
    assert serves(service)


def test_an_asked_for_https_port_that_is_taken_is_an_error_that_says_what_to_do(start, tmp_path, https_busy):
    """DPS-DEV-4."""
    address, port = https_busy
    refuses(start(address=address, https_port=port, ready=False), str(port), "--https-port")


def test_443_that_cannot_be_bound_is_replaced_with_a_warning(start):
    """DPS-DEV-4: it is taken, or this user may not have it anyway."""
    address = free_address()
    with socket.create_server((address, HTTPS_PORT)) if may_bind(HTTPS_PORT) else contextlib.nullcontext():
        service = start(address=address)
        assert service.https_port not in (0, HTTPS_PORT)
        service.log_line("warn", "443")
        assert manages(service)


def test_port_0_picks_a_free_port(start):
    """DPS-DEV-4."""
    service = start(mqtt_port=0, https_port=0)
    assert service.port not in (0, MQTT_PORT) and service.https_port not in (0, HTTPS_PORT)
    assert serves(service) and manages(service)


def test_id_scope_and_group_key_may_be_those_of_the_firmware(start):
    """DPS-DEV-1, DPS-ID-2, DPS-ID-3."""
    key = fresh_key(64)
    service = start("--id-scope", "0ne00C0FFEE", "--group-key", key)
    assert (service.id_scope, contract_group(service)["primaryKey"]) == ("0ne00C0FFEE", key)
    assert serves(service)


BAD_OPTIONS = [("--id-scope", "a b"), ("--id-scope", "abc"), ("--id-scope", "enrollments"), ("--group-key", "short"),
               ("--group-key", "AAAA"), ("--mqtt-port", "88833"), ("--https-port", "x"), ("--no-such-option", "1")]


@pytest.mark.parametrize("option, value", BAD_OPTIONS)
def test_an_option_that_cannot_be_used_is_named(start, option, value):
    """DPS-DEV-4, DPS-ID-3, DPS-SAS-10."""
    refuses(start(option, value, mqtt_port=None, ready=False), option)


def bad_enrollments():
    """(name, text of the file, words of the error)."""
    keys = symmetric(fresh_keys())
    good = individual("good", keys)

    def row(name, entry, *words):
        return pytest.param(json.dumps([good, entry]), words, id=name)

    yield pytest.param("{", ("not JSON",), id="no JSON")
    yield pytest.param(json.dumps({"a": 1}), ("array",), id="no array")
    yield row("no object", 7, "1")
    yield row("no id", {"attestation": keys}, "registrationId", "enrollmentGroupId")
    yield row("bad registration id", individual("a b", keys), "registrationId", "a b")
    yield row("bad group id", group("a b", keys), "enrollmentGroupId", "a b")
    yield row("no attestation", {"registrationId": "dev-7"}, "dev-7", "attestation")
    yield row("unknown attestation", individual("dev-7", {"type": "magic"}), "dev-7", "attestation.type", "magic")
    short = {"type": "symmetricKey", "symmetricKey": {"primaryKey": "AAAA", "secondaryKey": fresh_key()}}
    yield row("short key", individual("dev-7", short), "dev-7", "attestation.symmetricKey.primaryKey")
    yield row("status", individual("dev-7", keys, provisioningStatus="off"), "dev-7", "provisioningStatus")
    misspelt = individual("dev-7", keys, provisioningstatus="disabled")
    yield row("misspelt member", misspelt, "dev-7", "provisioningstatus", "did you mean provisioningStatus?")
    yield row("device id", individual("dev-7", keys, deviceId="a/b"), "dev-7", "deviceId")
    tpm = {"type": "tpm", "tpm": {}}
    yield row("no endorsement key", individual("dev-7", tpm), "dev-7", "attestation.tpm.endorsementKey")
    yield row("TPM group", group("fleet-7", tpm), "fleet-7", "attestation.type")


@pytest.mark.parametrize("text, words", list(bad_enrollments()))
def test_a_bad_enrollment_is_named_before_a_port_opens(start, tmp_path, busy, text, words):
    """DPS-DEV-9: the port is taken, and yet it is the enrollments that are complained about."""
    path = tmp_path / "enrollments.json"
    path.write_text(text)
    process = start("--enrollments", path, address=busy, ready=False)
    refuses(process, str(path), *words)
    assert "--mqtt-port" not in process.log()


def test_a_key_in_a_bad_enrollment_is_not_told(start, tmp_path):
    """DPS-DEV-9, DPS-SAS-10."""
    secret = fresh_key(128)
    attestation = {"type": "symmetricKey", "symmetricKey": {"primaryKey": secret, "secondaryKey": fresh_key()}}
    path = tmp_path / "enrollments.json"
    path.write_text(json.dumps([individual("dev-7", attestation)]))
    process = start("--enrollments", path, ready=False)
    refuses(process, "dev-7", "primaryKey")
    assert secret not in process.log()


def test_a_missing_enrollments_file_is_named(start, tmp_path):
    """DPS-DEV-9."""
    refuses(start("--enrollments", tmp_path / "none.json", ready=False), "none.json")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_it_stops_with_devices_connected_and_exits_0(start, number):
    """DPS-DEV-5."""
    service = start()
    registration_id = fresh_id()
    key = derived_key(contract_group(service)["primaryKey"], registration_id)
    with subscribed(service, registration_id, key) as device:
        with RawService(service) as idle, RawService(service) as silent:
            assert idle.ask("GET", "/enrollments/nobody").status == 404
            assert service.stop(number) == (0, b"")
            assert device.is_closed() and idle.is_closed() and silent.is_closed()


def test_sighup_reads_the_certificates_again_and_open_connections_stay(start, tmp_path):
    """DPS-DEV-7."""
    service = start(data_dir=tmp_path / "data")
    registration_id = fresh_id()
    key = derived_key(contract_group(service)["primaryKey"], registration_id)
    with subscribed(service, registration_id, key) as device:
        service.send(signal.SIGHUP)
        service.log_line("certificates")
        assert device.is_open()
        assert serves(service)
        assert device.is_open()
    assert service.stop()[0] == 0


def test_the_temporary_directory_is_private_and_gone_at_exit(start):
    """DPS-DEV-2, DPS-STORE-8."""
    service = start()
    folder = os.path.dirname(service.ca_file)
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert service.stop()[0] == 0
    assert not os.path.exists(folder)


def served_certificates(service):
    """The leaf that a client with TLS 1.3 is shown on each port, DER."""
    context = ssl.create_default_context(cafile=service.ca_file)
    shown = []
    for port in (service.port, service.https_port):
        with socket.create_connection((service.address, port), timeout=10) as plain:
            with context.wrap_socket(plain, server_hostname="localhost") as tls:
                shown.append(tls.getpeercert(binary_form=True))
    return shown


def test_sighup_serves_the_certificate_that_lies_there_now(start, tmp_path):
    """DPS-DEV-7, DPS-METRICS-6: on every port."""
    service = start(data_dir=tmp_path / "data")
    before = served_certificates(service)
    for ending in ("pem", "key"):
        shutil.copy(tmp_path / "data" / f"server-rsa.{ending}", tmp_path / "data" / f"server-ecdsa.{ending}")
    assert served_certificates(service) == before
    service.send(signal.SIGHUP)
    service.log_line("certificates read again")
    other = ssl.PEM_cert_to_DER_cert((tmp_path / "data" / "server-rsa.pem").read_text())
    assert other not in before and served_certificates(service) == [other, other]

    def days_left():
        service.record()
        shown = service.log_path.with_suffix(".metrics").read_text()
        name = 'harbormaster_server_certificate_expiry_timestamp_seconds{certificate="preferred"}'
        return (float(shown.split(name)[1].split()[0]) - time.time()) / 86_400

    assert 390 < days_left() < 400
    for ending in ("pem", "key"):
        # Of the first kind again, or the one with RSA would count with it and expire first.
        shutil.copy(tmp_path / "data" / f"ca-ecdsa.{ending}", tmp_path / "data" / f"server-ecdsa.{ending}")
    service.send(signal.SIGHUP)
    until = time.monotonic() + 10
    while days_left() < 3_000:
        assert time.monotonic() < until, service.log_tail()
        time.sleep(0.05)
