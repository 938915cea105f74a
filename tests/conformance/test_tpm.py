"""TPM attestation over HTTPS, with a software TPM that speaks for itself."""

import base64
import subprocess
import time

import pytest

from credentials import fresh_id
from enrollments import individual
from https_device import HttpsDevice
from raw_service import ask, enroll
from service import Harbormaster
from tpm import SRK_ATTRIBUTES, Tpm


@pytest.fixture(scope="module")
def tpm():
    with Tpm() as made:
        yield made


def enroll_tpm(service, registration_id, tpm, **members):
    attestation = {"type": "tpm", "tpm": {"endorsementKey": base64.b64encode(tpm.endorsement_key).decode()}}
    enroll(service, individual(registration_id, attestation, **members))


def challenged(device, tpm, **members):
    """Presents the TPM and takes in the key that is told."""
    status, told = device.register({"tpm": tpm.body, **members})
    assert status == 401, told
    assert sorted(told) == ["authenticationKey", "keyName", "message"] and told["keyName"] == "registration"
    tpm.import_key(told["authenticationKey"])


def assert_unauthorized(answer):
    status, told = answer
    assert (status, told.get("errorCode")) == (401, 401002) and "authenticationKey" not in told, told


def assigned(device, token, operation_id):
    """The state of a device that is assigned at once or soon."""
    for _ in range(10):
        status, told = device.poll(operation_id, token)
        if status == 200:
            return told
        assert status == 202, told
        time.sleep(0.5)
    raise AssertionError("still assigning")


def test_a_device_activates_imports_signs_and_is_assigned(harbor, tpm):
    """DPS-TPM-1, DPS-TPM-3, DPS-TPM-7, DPS-HTTPS-3: the token of the register polls too, and the key for the hub is the TPM's."""
    registration_id = fresh_id("press")
    enroll_tpm(harbor, registration_id, tpm)
    with HttpsDevice(harbor, registration_id) as device:
        challenged(device, tpm, registrationId=registration_id)
        token = tpm.token(harbor.id_scope, registration_id)
        status, told = device.register({"registrationId": registration_id, "tpm": tpm.body}, token)
        assert (status, told["status"]) == (202, "assigning"), told
        told = assigned(device, token, told["operationId"])
    state = told["registrationState"]
    assert (told["status"], state["assignedHub"], state["deviceId"]) == ("assigned", harbor.hub, registration_id)
    tpm.import_key(state["tpm"]["authenticationKey"])
    first = tpm.sign(b"to the hub")
    # It is the same key when it is told again, differently wrapped.
    with HttpsDevice(harbor, registration_id) as device:
        again = device.poll(told["operationId"], token)[1]["registrationState"]["tpm"]["authenticationKey"]
    assert again != state["tpm"]["authenticationKey"]
    tpm.import_key(again)
    assert tpm.sign(b"to the hub") == first


def test_a_device_may_come_back_on_another_connection_and_with_the_token_alone(harbor, tpm):
    """DPS-TPM-8: as iot-identity-service does."""
    registration_id = fresh_id("edge")
    enroll_tpm(harbor, registration_id, tpm)
    with HttpsDevice(harbor, registration_id) as device:
        challenged(device, tpm)
    token = tpm.token(harbor.id_scope, registration_id, expires_in=30)
    with HttpsDevice(harbor, registration_id) as device:
        status, told = device.register({"registrationId": registration_id}, token)
        assert status == 202, told
        assert assigned(device, token, told["operationId"])["status"] == "assigned"


def test_another_endorsement_key_is_not_challenged(harbor, tpm):
    """DPS-TPM-5."""
    registration_id = fresh_id("press")
    with Tpm() as other:
        enroll_tpm(harbor, registration_id, other)
        with HttpsDevice(harbor, registration_id) as device:
            assert_unauthorized(device.register({"tpm": tpm.body}))
        with HttpsDevice(harbor, registration_id) as device:
            challenged(device, other)


def test_a_token_of_another_id_or_for_another_storage_root_key_is_refused(harbor, tpm):
    """DPS-TPM-4."""
    mine, theirs = fresh_id("mine"), fresh_id("theirs")
    enroll_tpm(harbor, mine, tpm)
    enroll_tpm(harbor, theirs, tpm)
    with HttpsDevice(harbor, theirs) as device:
        challenged(device, tpm)
    # The right key for another id, and another id in the token.
    for token in (tpm.token(harbor.id_scope, mine), tpm.token(harbor.id_scope, theirs)):
        with HttpsDevice(harbor, mine) as device:
            assert_unauthorized(device.register({"tpm": tpm.body}, token))
    with Tpm() as other:
        enroll_tpm(harbor, mine, other)
        with HttpsDevice(harbor, mine) as device:
            challenged(device, other)
        token = other.token(harbor.id_scope, mine)
        before = other.body
        other.make_storage_root_key(f"{SRK_ATTRIBUTES}|noda")
        assert other.body["storageRootKey"] != before["storageRootKey"]
        with HttpsDevice(harbor, mine) as device:
            assert_unauthorized(device.register({"tpm": other.body}, token))
        with HttpsDevice(harbor, mine) as device:
            assert device.register({"tpm": before}, token)[0] == 202


def test_an_unknown_id_is_challenged_alike_and_told_failed_only_then(harbor, tpm):
    """DPS-TPM-6."""
    registration_id = fresh_id("nobody")
    with HttpsDevice(harbor, registration_id) as device:
        challenged(device, tpm)
        token = tpm.token(harbor.id_scope, registration_id)
        status, told = device.register({"tpm": tpm.body}, token)
    assert (status, told["operationId"], told["status"]) == (202, "", "failed"), told
    state = told["registrationState"]
    assert (state["status"], state["errorCode"], state["errorMessage"]) == ("failed", 404201, "Enrollment not found")
    assert ask(harbor, "GET", f"/registrations/{registration_id}").status == 404


def test_a_disabled_enrollment_is_told_after_the_proof(harbor, tpm):
    """DPS-TPM-5, DPS-REG-20."""
    registration_id = fresh_id("retired")
    enroll_tpm(harbor, registration_id, tpm, provisioningStatus="disabled")
    with HttpsDevice(harbor, registration_id) as device:
        challenged(device, tpm)
        status, told = device.register({"tpm": tpm.body}, tpm.token(harbor.id_scope, registration_id))
    assert (status, told["operationId"], told["status"]) == (202, "", "disabled"), told


def test_what_is_no_key_of_a_tpm_is_refused(harbor, tpm):
    """DPS-TPM-1, DPS-TPM-2, DPS-TPM-9."""
    registration_id = fresh_id("press")
    enroll_tpm(harbor, registration_id, tpm)
    short = base64.b64encode(tpm.storage_root_key[:-1]).decode()
    for body, code in [
        ({"tpm": {**tpm.body, "storageRootKey": short}}, 401002),
        ({"tpm": {**tpm.body, "endorsementKey": short}}, 401002),
        ({"tpm": {**tpm.body, "storageRootKey": "*"}}, 400000),
        ({"tpm": {"endorsementKey": tpm.body["endorsementKey"]}}, 400000),
        ({"tpm": 7}, 400000),
        ({}, 401002),
    ]:
        with HttpsDevice(harbor, registration_id) as device:
            status, told = device.register(body)
            assert (status, told["errorCode"]) == (code // 1000, code), body
    attestation = {"type": "tpm", "tpm": {"endorsementKey": short}}
    answer = ask(harbor, "PUT", f"/enrollments/{registration_id}-2", json_body=individual(f"{registration_id}-2", attestation))
    assert answer.refused() == (400, 400004) and "endorsementKey" in answer.json["message"]


def test_a_challenge_outlives_a_restart_and_ends_with_the_window_after_its_own(tmp_path, tpm):
    """DPS-TPM-4: nothing of it is kept anywhere."""
    registration_id = fresh_id("press")

    preload = subprocess.run(
        ["faketime", "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
    ).stdout.strip()

    def started(minutes):
        clock = {"LD_PRELOAD": preload, "FAKETIME": f"+{minutes}m", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        folder = tmp_path / f"after-{minutes}"
        return Harbormaster(folder, data_dir=tmp_path / "data", environment=clock if minutes else None).ready()

    service = started(0)
    enroll_tpm(service, registration_id, tpm)
    with HttpsDevice(service, registration_id) as device:
        challenged(device, tpm)
    token = tpm.token(service.id_scope, registration_id, expires_in=7200)
    service.stop()
    for minutes, status in ((4, 202), (11, 401)):
        service = started(minutes)
        with HttpsDevice(service, registration_id) as device:
            answer = device.register({"tpm": tpm.body}, token)
            assert answer[0] == status, answer
        service.stop()
