"""What the person who runs the service can see: explanations, numbers, health, the devices of the local hub."""

import json
import subprocess
import urllib.error
import urllib.request

import pytest

import packets
from credentials import derived_key, fresh_id, fresh_key, token, user_name
from raw_device import RawDevice, register_packet, registers, subscribed
from raw_service import ask, service_token
from service import BINARY


@pytest.fixture
def service(start):
    return start()


def group_key(service):
    return service.contract["enrollmentGroups"][0]["primaryKey"]


def get(service, path, admin_token=None):
    """Status and body of an admin path."""
    admin = service.contract["admin"]
    admin_token = open(admin["tokenFile"]).read() if admin_token is None else admin_token
    headers = {"Authorization": f"Bearer {admin_token}"}
    request = urllib.request.Request(f"http://{admin['address']}:{admin['port']}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def explain(service, *options, stdin=""):
    admin = service.contract["admin"]
    where = ["--admin", f"{admin['address']}:{admin['port']}", "--admin-token-file", admin["tokenFile"]]
    command = [BINARY, "explain", *options, *where]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=30)


def refused_with(service, registration_id, key):
    """Registers with a wrong key; what the device is told."""
    with subscribed(service, registration_id, key) as device:
        device.send(register_packet(qos=0))
        _, body = device.answer()
        return json.loads(body)


def test_a_refusal_is_explained_under_its_tracking_id(service):
    """DPS-EXPLAIN-2, DPS-EXPLAIN-3, DPS-EXPLAIN-5, DPS-SAS-9."""
    registration_id, wrong = fresh_id(), fresh_key()
    told = refused_with(service, registration_id, wrong)
    shown = explain(service, told["trackingId"])
    assert shown.returncode == 0, shown.stderr
    for words in (told["trackingId"], registration_id, "401002", "because", "not that of a key derived", "would work"):
        assert words in shown.stdout
    direct = refused_with(service, registration_id, group_key(service))
    found = json.loads(explain(service, "--registration-id", registration_id, "--output", "json").stdout)
    assert [one["trackingId"] for one in found] == [direct["trackingId"], told["trackingId"]]
    assert "dev-group itself" in found[0]["reason"] and "device-key derive" in found[0]["advice"]
    text = json.dumps(found) + shown.stdout + service.log()
    assert wrong not in text and group_key(service) not in text and "sig=" not in text


def test_a_refused_connect_is_explained_too(service):
    """DPS-EXPLAIN-4."""
    with RawDevice(service) as device:
        device.send(packets.connect("somebody-else", user_name(service.id_scope, fresh_id()), "no token"))
        device.is_closed()
    shown = explain(service, "--last")
    assert "CONNACK 2" in shown.stdout and "somebody-else" in shown.stdout, shown.stdout + shown.stderr


def test_a_refused_client_of_the_service_api_is_explained_too(service):
    """DPS-SERVICE-19, DPS-EXPLAIN-3, DPS-EXPLAIN-5: and the log has the same tracking id, and who wrote what."""
    wrong = fresh_key(64)
    token = service_token(service.service_connection_string, with_key=wrong)
    told = ask(service, "PUT", "/enrollments/Press7", {"attestation": {"type": "symmetricKey"}}, token=token)
    assert told.refused() == (401, 401002)
    tracking_id = told.json["trackingId"]
    shown = explain(service, tracking_id)
    assert shown.returncode == 0, shown.stderr
    for words in (tracking_id, "Press7", "401002", "provisioningserviceowner", "because", "would work", "Base64-decoded"):
        assert words in shown.stdout, shown.stdout
    service.log_line("service request refused", tracking_id, "401002", "Press7")
    written = ask(service, "PUT", "/enrollments/Press7", {"attestation": {"type": "symmetricKey"}})
    assert written.status == 200
    service.log_line("INFO", written.headers["x-ms-request-id"], "provisioningserviceowner", "write-entry", "Press7")
    text = shown.stdout + service.log()
    assert wrong not in text and token.split("&sig=")[1][:16] not in text


def test_an_unknown_tracking_id_is_said_to_be_unknown(service):
    """DPS-EXPLAIN-2."""
    shown = explain(service, "00000000-0000-0000-0000-000000000000")
    assert (shown.returncode, shown.stdout) == (1, "") and "no such refusal" in shown.stderr


def test_a_token_is_judged_without_a_device_as_it_is_judged_with_one(service):
    """DPS-EXPLAIN-6, DPS-EXPLAIN-7, DPS-EXPLAIN-9."""
    registration_id = fresh_id("Tried")
    good = token(service.id_scope, registration_id, derived_key(group_key(service), registration_id))
    tried = explain(service, "--sas", "-", "--registration-id", registration_id, stdin=good + "\n")
    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert "be admitted" in tried.stdout and service.hub in tried.stdout and "dev-group" in tried.stdout
    devices = f"/admin/v1/id-scopes/{service.id_scope}/hubs/{service.hub}/devices"
    assert json.loads(get(service, devices)[1]) == [], "nothing is written"

    wrong = fresh_key()
    told = refused_with(service, registration_id, wrong)
    bad = token(service.id_scope, registration_id, wrong)
    as_json = ("--output", "json", "--id-scope", service.id_scope)
    tried = explain(service, "--sas", bad, "--registration-id", registration_id, *as_json)
    assert tried.returncode == 77, tried.stdout + tried.stderr
    judged = json.loads(tried.stdout)
    [real] = json.loads(explain(service, "--registration-id", registration_id, "--output", "json").stdout)
    assert (judged["outcome"], judged["told"]) == ("refused", str(told["errorCode"]))
    assert (judged["told"], judged["reason"], judged["advice"]) == (real["told"], real["reason"], real["advice"])
    service.log_line("tried without a device", registration_id, "refused")


def test_a_body_that_the_dry_run_cannot_read_is_refused_without_repeating_it(service):
    """DPS-EXPLAIN-7, DPS-DEV-11."""
    admin = service.contract["admin"]
    for body, status in ((b'{"registrationId":"d","sasToken":["s3cret"]}', 400), (b" " * 70_000, 413)):
        request = urllib.request.Request(
            f"http://{admin['address']}:{admin['port']}/admin/v1/explanations/dry-run",
            data=body,
            headers={"Authorization": f"Bearer {open(admin['tokenFile']).read()}"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=10)
        assert refused.value.code == status and "s3cret" not in refused.value.read().decode()
    assert get(service, "/admin/v1/explanations/dry-run")[0] == 405


def test_the_devices_of_the_local_hub_can_be_looked_at(service):
    """DPS-DEV-10, DPS-REG-17."""
    registration_id = fresh_id("Seen")
    key = derived_key(group_key(service), registration_id)
    assert registers(service, registration_id, key)
    devices = f"/admin/v1/id-scopes/{service.id_scope}/hubs/{service.hub}/devices"
    status, text = get(service, f"{devices}/{registration_id}")
    assert status == 200
    device = json.loads(text)
    assert device["deviceId"] == registration_id and len(device["authentication"]["primaryKeySha256"]) == 16
    assert key not in text
    assert [one["deviceId"] for one in json.loads(get(service, devices)[1])] == [registration_id]
    assert get(service, f"{devices}/nobody")[0] == 404
    status, text = get(service, devices.replace(service.hub, "other.hub"))
    assert status == 404 and f"there are {service.hub}" in text
    status, text = get(service, devices.replace(service.id_scope, "0neFFFFFFFF"))
    assert status == 404 and service.id_scope in text
    assert get(service, devices, admin_token="wrong")[0] == 401


def test_numbers_and_health_are_served(service):
    """DPS-METRICS-1, DPS-METRICS-2, DPS-METRICS-4, DPS-METRICS-5."""
    registration_id = fresh_id()
    assert registers(service, registration_id, derived_key(group_key(service), registration_id))
    refused_with(service, registration_id, fresh_key())
    status, text = get(service, "/metrics")
    assert status == 200 and text.endswith("# EOF\n")
    assert 'harbormaster_registrations_total{status="assigned",transport="mqtt"} 1' in text
    assert 'harbormaster_attestation_attempts_total{outcome="Refused",transport="mqtt"} 1' in text
    assert 'harbormaster_registrations_total{status="refused",transport="mqtt"} 1' in text
    assert f'hub="{service.hub}",substatus="initialAssignment",transport="mqtt"}} 1' in text
    committed = next(line for line in text.splitlines() if line.startswith("harbormaster_store_commit_seconds_count"))
    assert int(committed.split()[1]) >= 1
    assert "harbormaster_store_writes_waiting 0" in text and "harbormaster_build_info{" in text
    assert registration_id not in text
    assert [get(service, path)[0] for path in ("/livez", "/readyz", "/elsewhere")] == [200, 200, 404]
