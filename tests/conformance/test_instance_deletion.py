"""A deleted service instance is gone at once for whoever asks, and leaves nothing but its audit, whatever happens meanwhile."""

import base64
import hashlib
import hmac
import json
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest

from admin import admin
from enrollments import fresh_keys, group, individual, symmetric
from https_device import HttpsDevice
from instances import OWNER, Instance, changes, made
from raw_device import register_packet, subscribed
from raw_service import API_VERSION, RawService, ask, enroll, service_token

# What outlives an instance: its audit, and the numbers by which readers know that they read something else before.
KEPT = {"audit", "enrollment_group_version", "ca_certificate_version"}


def device_token(instance, registration_id, key):
    """A token whose signature is not remembered: the search for thousands would take long."""
    resource, expiry = quote(f"{instance.id_scope}/registrations/{registration_id}", safe=""), int(time.time()) + 3600
    digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    return f"SharedAccessSignature sr={resource}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}"


def derived_key_of(group_key, registration_id):
    """The key of one device of a group, not remembered either."""
    return base64.b64encode(hmac.new(base64.b64decode(group_key), registration_id.encode(), hashlib.sha256).digest()).decode()


def fill(instance, entries, records=0):
    """Individual enrollments with one and the same key, and the records of the first of them. The key."""
    both, threads = fresh_keys(), 4

    def write(first):
        with RawService(instance) as connection:
            for at in range(first * 10, entries, threads * 10):
                some = [individual(f"d-{number}", symmetric(both)) for number in range(at, min(at + 10, entries))]
                answer = connection.ask("POST", "/enrollments", {"mode": "create", "enrollments": some}, token=token)
                assert answer.status == 200 and answer.json["isSuccessful"], answer.json

    def register(first):
        with HttpsDevice(instance, "") as device:
            for number in range(first, records, threads):
                name = f"d-{number}"
                device.path = f"/{instance.id_scope}/registrations/{name}"
                status, body = device.register({"registrationId": name}, device_token(instance, name, both.primary))
                assert status == 202, body

    token = service_token(instance.service_connection_string)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(threads)))
        list(pool.map(register, range(threads)))
    return both.primary


def left(data_dir, id_scope):
    """Rows of an ID scope by table, read from the files of a service that has ended."""
    with sqlite3.connect(f"file:{data_dir}/store.db?mode=ro", uri=True) as store:
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        columns = {table: [row[1] for row in store.execute(f"PRAGMA table_info({table})")] for table in tables}
        of_scope = [table for table in tables if "id_scope" in columns[table]]
        count = lambda table: store.execute(f"SELECT count(*) FROM {table} WHERE id_scope = ?", [id_scope.lower()]).fetchone()[0]
        assert {"instance", "registration", "individual_enrollment", "hub_device"} < set(of_scope)
        return {table: rows for table in of_scope if (rows := count(table))}


def is_empty(instance):
    """Whether an instance that was made again has nothing of the one before."""
    found = []
    for path in ("/enrollments/query", "/enrollmentGroups/query", "/registrations/fleet/query"):
        answer = ask(instance, "POST", path, {"query": "SELECT *"})
        assert answer.status == 200, answer.json
        found += answer.json
    for path in ("/hubs/hub.test/devices", "/certificates"):
        status, listed = admin(instance, "GET", f"{instance.path}{path}")
        assert status == 200, listed
        found += listed
    return not found and instance.record("d-0") is None


def begin(instance, connection, name):
    """Begins to write an entry: the service waits for the rest of its body, which is returned."""
    body = json.dumps(individual(name, {"type": "symmetricKey"})).encode()
    head = f"PUT /enrollments/{name}?{API_VERSION} HTTP/1.1\r\nHost: {instance.service_host}\r\n"
    head += f"Authorization: {service_token(instance.service_connection_string)}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
    connection.tls.sendall(head.encode())
    assert connection.tls.recv(4096).startswith(b"HTTP/1.1 100")
    return body


def is_served(instance):
    return admin(instance, "GET", instance.path)[0] == 200


def wait_until_gone(instance, within=10.0):
    until = time.monotonic() + within
    while is_served(instance):
        assert time.monotonic() < until


def test_a_deleted_instance_is_refused_at_once_and_leaves_only_its_audit(start, tmp_path):
    """DPS-INST-8: with thousands of entries and records, an open connection of a device and one of a client."""
    service = start(data_dir=tmp_path / "data")
    instance, before = made(service, "0neGone1"), made(service, "0neStays1")
    key = fill(instance, entries=3000, records=1000)
    enroll(instance, group("fleet", symmetric(fresh_keys())))
    fill(before, entries=20, records=10)
    end = "-----END CERTIFICATE-----\n"
    certificate = Path(service.ca_file).read_text().split(end)[0] + end
    upload = {"certificate": certificate, "isVerified": True}
    assert admin(service, "PUT", f"{instance.path}/certificates/plant", upload)[0] == 200
    assert instance.record("d-999")["assignedHub"] == "hub.test" and not is_empty(instance)
    token = service_token(instance.service_connection_string)

    with subscribed(instance, "d-0", key) as device, RawService(instance) as client:
        assert client.ask("GET", "/enrollments/d-0", token=token).status == 200
        assert admin(service, "DELETE", instance.path) == (204, None)
        assert client.ask("GET", "/enrollments/d-0", token=token).refused()[0] == 404
        device.send(register_packet(qos=0))
        topic, body = device.answer()
        assert topic.startswith("$dps/registrations/res/401"), (topic, body)
        service.log_line("request refused", "d-0", json.loads(body)["trackingId"], "0neGone1")
    assert ask(instance, "GET", "/enrollments/d-0", token=token).refused()[0] == 404
    with HttpsDevice(instance, "d-0") as https:
        assert https.register({"registrationId": "d-0"}, device_token(instance, "d-0", key))[0] == 401
    assert admin(service, "DELETE", instance.path)[0] == 404
    for path in ("", "/hubs", "/shared-access-policies", "/certificates"):
        assert admin(service, "GET", f"{instance.path}{path}")[0] == 404, path

    audit = changes(service, instance.id_scope)
    assert len(audit) == 1000 and audit[-1] == ("deleted", "serviceInstance", "0neGone1")
    _, records = admin(service, "GET", f"{instance.path}/audit?limit=2")
    assert [record["principal"]["type"] for record in records] == ["admin", "admin"]
    _, [record] = admin(service, "GET", f"{instance.path}/audit?id=d-2999")
    assert record["principal"] == {"type": "sharedAccessPolicy", "name": OWNER}

    again = made(service, "0neGone1")
    assert is_empty(again)
    assert ask(again, "GET", "/enrollments/d-0", token=token).refused()[0] == 401, "the keys are others"
    assert before.record("d-9")["status"] == "assigned"
    assert admin(service, "DELETE", again.path)[0] == 204
    service.stop()
    assert set(left(tmp_path / "data", instance.id_scope)) <= KEPT
    of_other = left(tmp_path / "data", before.id_scope)
    assert (of_other["individual_enrollment"], of_other["registration"], of_other["hub_device"]) == (20, 10, 10)


@pytest.mark.parametrize("meanwhile", ["nothing", "its settings change", "another is deleted"])
def test_what_a_request_writes_that_began_before_is_deleted_too(start, tmp_path, meanwhile):
    """DPS-INST-1, DPS-INST-8: the request ends by the settings that it began with, and leaves nothing."""
    service = start(data_dir=tmp_path / "data")
    instance, other = made(service, "0neLate1"), made(service, "0neLate2")
    with ThreadPoolExecutor(1) as thread, RawService(instance) as connection:
        body = begin(instance, connection, "d-0")
        if meanwhile == "its settings change":
            instance.change(claimAcrossGroups="refuse")
        deletion = thread.submit(admin, service, "DELETE", instance.path)
        wait_until_gone(instance)
        if meanwhile == "another is deleted":
            assert admin(service, "DELETE", other.path)[0] == 204
        assert not deletion.done()
        status, refused = admin(service, "PUT", instance.path, {})
        assert status == 409 and "is being deleted" in refused["message"], refused
        connection.tls.sendall(body)
        assert connection.answer().status == 200
        assert deletion.result() == (204, None)
    assert is_empty(made(service, "0neLate1"))
    assert admin(service, "DELETE", instance.path)[0] == 204
    service.stop()
    assert set(left(tmp_path / "data", instance.id_scope)) <= KEPT


@pytest.mark.parametrize("when", ["before the first step", "in the middle"])
def test_a_deletion_that_a_crash_cut_off_is_ended_at_the_next_start(start, tmp_path, when):
    """DPS-INST-8."""
    service = start(data_dir=tmp_path / "data")
    instance = made(service, "0neCrash1")
    fill(instance, entries=5000, records=100)
    with ThreadPoolExecutor(1) as thread, RawService(instance) as connection:
        if when == "before the first step":
            # As long as this goes on, nothing is deleted.
            begin(instance, connection, "late")
        deletion = thread.submit(admin, service, "DELETE", instance.path)
        wait_until_gone(instance)
        service.kill()
        # An answer, or none.
        assert deletion.exception() is not None or deletion.result()[0] == 204
    rows = left(tmp_path / "data", instance.id_scope)
    if when == "before the first step":
        assert (rows["individual_enrollment"], rows["registration"]) == (5000, 100)

    service = start(data_dir=tmp_path / "data", address=service.address)
    instance = Instance(service, instance.id_scope, instance.service_host)
    assert not is_served(instance)
    assert changes(service, instance.id_scope)[-1] == ("deleted", "serviceInstance", "0neCrash1")
    assert is_empty(made(service, "0neCrash1"))
    assert admin(service, "DELETE", instance.path)[0] == 204
    service.stop()
    assert set(left(tmp_path / "data", instance.id_scope)) <= KEPT


def test_nothing_is_left_however_much_is_written_while_it_is_deleted(start, tmp_path):
    """DPS-INST-8: devices register, a client writes entries, the admin uploads certificates, all until they are refused."""
    service = start(data_dir=tmp_path / "data")
    end = "-----END CERTIFICATE-----\n"
    upload = {"certificate": Path(service.ca_file).read_text().split(end)[0] + end, "isVerified": True}

    def register(instance, key, worker):
        with HttpsDevice(instance, "") as device:
            for number in range(100_000):
                name = f"r-{worker}-{number}"
                device.path = f"/{instance.id_scope}/registrations/{name}"
                token = device_token(instance, name, derived_key_of(key, name))
                status, body = device.register({"registrationId": name}, token)
                if status != 202:
                    return status, number

    def write(instance, token):
        with RawService(instance) as client:
            for number in range(100_000):
                entry = individual(f"e-{number}", {"type": "symmetricKey"})
                answer = client.ask("PUT", f"/enrollments/e-{number}", entry, token=token)
                if answer.status != 200:
                    return answer.status, number

    def certify(instance):
        for number in range(100_000):
            status, _ = admin(service, "PUT", f"{instance.path}/certificates/c-{number % 20}", upload, if_match="*")
            if status != 200:
                return status, number

    with ThreadPoolExecutor(5) as threads:
        for pause in (0.1, 0.2, 0.3, 0.4):
            instance, both = made(service, "0neBusy1"), fresh_keys()
            assert is_empty(instance)
            enroll(instance, group("fleet", symmetric(both)))
            token = service_token(instance.service_connection_string)
            devices = [threads.submit(register, instance, both.primary, worker) for worker in range(3)]
            others = [threads.submit(write, instance, token), threads.submit(certify, instance)]
            time.sleep(pause)
            assert admin(service, "DELETE", instance.path) == (204, None)
            ended = [one.result() for one in (*devices, *others)]
            assert [status for status, _ in ended] == [401, 401, 401, 404, 404], ended
            assert sum(number for _, number in ended) > 5, ended
        instance = made(service, "0neBusy1")
        assert is_empty(instance)
        assert admin(service, "DELETE", instance.path) == (204, None)
    service.stop()
    assert set(left(tmp_path / "data", "0neBusy1")) <= KEPT
