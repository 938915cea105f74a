"""The official SDK for Node, unmodified, as a device over each of its transports: success, and every refusal it can meet."""

import json

import pytest

import certificates
from credentials import fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from node_client import Node
from raw_service import enroll

TRANSPORTS = ["mqtt", "mqtt-ws", "https"]


@pytest.fixture(scope="module")
def node(harbor):
    with Node(harbor.ca_file, "device.mjs") as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def register(request, harbor, node):
    """Registers over one transport; `key` or `files` prove the device."""

    def run(registration_id, key=None, files=None, **more):
        proof = {"key": key} if key else {"certificate": {"cert": files.chain.read_text(), "key": files.key.read_text()}}
        asked = {"host": harbor.address, "idScope": harbor.id_scope, "registrationId": registration_id, **proof, **more}
        return node.answer(transport=request.param, **asked)

    run.transport = request.param
    return run


def assert_assigned(answer, hub, device_id):
    assert "result" in answer, answer
    assert (answer["result"]["assignedHub"], answer["result"]["deviceId"]) == (hub, device_id)


def assert_unauthorized(answer):
    """The SDK has a class for 401, and hands on the body."""
    assert answer.get("error") == "UnauthorizedError", answer


def test_a_device_of_a_group_registers(harbor, enrollments, register):
    """DPS-HTTPS-4, DPS-HTTPS-5, DPS-WS-1, DPS-WS-4, DPS-SAS-7."""
    registration_id = fresh_id()
    key = enrollments.group.of(registration_id).primary
    assert_assigned(register(registration_id, key), harbor.hub, registration_id)
    assert_assigned(register(registration_id, key, payload={"modelId": "dtmi:a:b;1"}), harbor.hub, registration_id)


def test_a_device_with_its_own_enrollment_registers_with_either_key(harbor, enrollments, register):
    """DPS-REG-1, DPS-HTTPS-3."""
    own = enrollments.individual
    for key in (own.keys.primary, own.keys.secondary):
        assert_assigned(register(own.registration_id, key), harbor.hub, own.registration_id)


def test_an_id_with_a_colon_is_one_in_a_path(harbor, enrollments, register):
    """DPS-HTTPS-1: the SDK does not encode it."""
    registration_id = fresh_id("line:4.robot")
    assert_assigned(register(registration_id, enrollments.group.of(registration_id).primary), harbor.hub, registration_id)


def test_devices_with_certificates_register(harbor, tmp_path, register):
    """DPS-X509-4, DPS-X509-7, DPS-HTTPS-3."""
    root = certificates.authority(fresh_id("Root"))
    issuing = certificates.authority(fresh_id("Issuing"), root, path_length=0)
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(root)))
    member = fresh_id("press")
    files = certificates.for_clients(member, issuing).files(tmp_path, issuing)
    assert_assigned(register(member, files=files), harbor.hub, member)
    own = fresh_id("own")
    certificate = certificates.device(own)
    enroll(harbor, individual(own, certificates.by_certificate(certificate)))
    assert_assigned(register(own, files=certificate.files(tmp_path)), harbor.hub, own)


def test_a_wrong_key_is_unauthorized(enrollments, register):
    """DPS-REG-1, DPS-HTTPS-7, DPS-BODY-9."""
    registration_id = fresh_id()
    assert_unauthorized(register(registration_id, enrollments.group.of("another").primary))
    assert_unauthorized(register(enrollments.individual.registration_id, fresh_keys().primary))


def test_an_unknown_id_scope_is_refused(enrollments, register):
    """DPS-MQTT-4, DPS-HTTPS-7."""
    registration_id = fresh_id()
    answer = register(registration_id, enrollments.group.of(registration_id).primary, idScope="0ne000FFFFF")
    assert "result" not in answer
    assert answer["error"] in ("UnauthorizedError", "Error"), answer


def test_certificates_that_admit_nobody_are_unauthorized(harbor, tmp_path, register):
    """DPS-X509-3, DPS-X509-7, DPS-X509-14."""
    root = certificates.authority(fresh_id("Root"))
    stranger = fresh_id("stranger")
    assert_unauthorized(register(stranger, files=certificates.for_clients(stranger, root).files(tmp_path, root)))
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(root)))
    other = certificates.for_clients(fresh_id("other"), root).files(tmp_path, root)
    assert_unauthorized(register(fresh_id("press"), files=other))


def test_a_disabled_enrollment_is_told(harbor, register):
    """DPS-REG-5, DPS-REG-20, DPS-HTTPS-4: the SDK takes the status for an error."""
    registration_id, keys = fresh_id(), fresh_keys()
    enroll(harbor, {**individual(registration_id, symmetric(keys)), "provisioningStatus": "disabled"})
    answer = register(registration_id, keys.primary)
    assert answer.get("error") == "SyntaxError" or "disabled" in json.dumps(answer), answer
    assert "result" not in answer
