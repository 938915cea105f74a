"""Devices that are new to a hub outside, or come back to it: the official SDKs on both sides, unmodified."""

import pytest

import certificates
import sdk
from credentials import fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from instances import made
from linked_hubs import NORTH, SOUTH
from raw_service import enroll

TWIN = {"tags": {"line": 4}, "properties": {"desired": {"rate": {"hz": 1.5}, "names": ["a", "b"]}}}


@pytest.fixture
def hubs(link):
    return link(NORTH)


def authentication(hubs, device):
    return hubs.clients[NORTH].get(device)["authentication"]


def keys_at(hubs, device):
    found = authentication(hubs, device)
    assert found["type"] == "sas"
    return found["symmetricKey"]["primaryKey"], found["symmetricKey"]["secondaryKey"]


@pytest.mark.parametrize("run", [sdk.register, sdk.register_async, sdk.register_over_websocket])
def test_a_device_of_a_group_is_made_with_its_derived_keys_and_its_twin(hubs, run):
    """DPS-REG-40, DPS-REG-41, DPS-REG-17, DPS-HUB-12."""
    hubs.goes_to(NORTH, initialTwin=TWIN, capabilities={"iotEdge": True})
    device = fresh_id("Press")
    state = hubs.register(device, run=run)
    assert (state.assigned_hub, state.device_id, state.sub_status) == (NORTH, device, "initialAssignment")
    assert hubs.look(NORTH, device) == {
        "tags": TWIN["tags"],
        "desired": TWIN["properties"]["desired"],
        "reported": {},
        "iotEdge": True,
        "status": "enabled",
    }
    keys = hubs.keys(device)
    assert keys_at(hubs, device) == (keys.primary, keys.secondary)
    assert hubs.asked(NORTH, device)[0] == "POST /devices"
    assert hubs.shown(NORTH)["load"] == {"devices": 1, "assigning": 0, "cleanUps": 0}


def test_a_device_is_made_under_the_device_id_of_its_own_enrollment(hubs):
    """DPS-REG-41, DPS-REG-18, DPS-HUB-11."""
    registration_id, device_id, keys = fresh_id(), "Machine:7(2)", fresh_keys()
    entry = individual(registration_id, symmetric(keys), deviceId=device_id, initialTwin=TWIN)
    enroll(hubs.serving, entry)
    result = sdk.register(hubs.serving, registration_id, keys.primary)
    state = result.registration_state
    assert (result.status, state.assigned_hub, state.device_id) == ("assigned", NORTH, device_id)
    assert hubs.look(NORTH, device_id)["tags"] == TWIN["tags"] and hubs.look(NORTH, registration_id) is None
    assert keys_at(hubs, device_id) == (keys.primary, keys.secondary)


def test_a_device_with_a_certificate_is_made_with_its_thumbprint_and_gets_that_of_the_next(hubs, tmp_path):
    """DPS-REG-41, DPS-HUB-12, DPS-HUB-14."""
    authority, device = certificates.authority("Line root"), fresh_id()
    enroll(hubs.serving, group("line", certificates.by_signer(authority), initialTwin=TWIN))
    twin = None
    for _ in range(2):
        issued = certificates.device(device, authority)
        result = sdk.register_with_certificate(hubs.serving, device, issued.files(tmp_path))
        assert (result.status, result.registration_state.assigned_hub) == ("assigned", NORTH)
        found = authentication(hubs, device)
        assert found["type"] == "selfSigned" and issued.sha256 in found["x509Thumbprint"].values()
        assert twin in (None, hubs.look(NORTH, device))
        twin = hubs.look(NORTH, device)


def test_both_certificates_of_an_own_enrollment_are_good_at_the_hub(hubs, tmp_path):
    """DPS-REG-41, DPS-HUB-12."""
    device = fresh_id()
    pair = [certificates.device(device), certificates.device(device)]
    enroll(hubs.serving, individual(device, certificates.by_certificate(*pair)))
    result = sdk.register_with_certificate(hubs.serving, device, pair[1].files(tmp_path))
    assert result.status == "assigned"
    thumbprints = authentication(hubs, device)["x509Thumbprint"]
    assert sorted(thumbprints.values()) == sorted(one.sha256 for one in pair)


def test_a_device_that_comes_back_gets_renewed_keys_and_keeps_its_twin(hubs):
    """DPS-REG-41, DPS-REG-17, DPS-HUB-14."""
    device = fresh_id()
    enroll(hubs.serving, individual(device, symmetric(old := fresh_keys()), initialTwin=TWIN))
    assert sdk.register(hubs.serving, device, old.primary).status == "assigned"
    hubs.registries[NORTH].report(device, {"seen": 1})
    hubs.clients[NORTH].merge_twin(device, {"tags": {"by": "hand"}})
    before = hubs.look(NORTH, device)
    assert before["reported"] == {"seen": 1} and before["tags"] == {"line": 4, "by": "hand"}
    other = {"tags": {"line": 5}, "properties": {"desired": {}}}
    enroll(hubs.serving, individual(device, symmetric(new := fresh_keys()), initialTwin=other))
    assert keys_at(hubs, device) == (old.primary, old.secondary)
    state = sdk.register(hubs.serving, device, new.primary).registration_state
    assert (state.assigned_hub, state.sub_status) == (NORTH, "initialAssignment")
    assert keys_at(hubs, device) == (new.primary, new.secondary)
    assert hubs.look(NORTH, device) == before


def test_a_newer_client_is_told_that_its_device_stayed(hubs):
    """DPS-REG-41, DPS-BODY-7."""
    hubs.goes_to(NORTH)
    device = fresh_id()
    told = []
    for _ in range(2):
        status, state = hubs.begin(device).ended()
        told.append((status, state["assignedHub"], state["substatus"]))
    expected = ["initialAssignment", "reprovisionedToInitialAssignment"]
    assert told == [("assigned", NORTH, substatus) for substatus in expected]


def test_a_device_that_was_deleted_at_its_hub_is_made_anew(hubs):
    """DPS-REG-41."""
    hubs.goes_to(NORTH, initialTwin=TWIN)
    device = fresh_id()
    hubs.register(device)
    hubs.registries[NORTH].report(device, {"seen": 1})
    hubs.clients[NORTH].delete(device)
    assert hubs.look(NORTH, device) is None
    state = hubs.register(device)
    assert (state.assigned_hub, state.sub_status) == (NORTH, "initialAssignment")
    anew = hubs.look(NORTH, device)
    assert (anew["tags"], anew["reported"], anew["status"]) == (TWIN["tags"], {}, "enabled")


def test_a_device_that_was_at_its_hub_before_keeps_its_twin_and_gets_its_keys(hubs):
    """DPS-REG-41: whoever made it by hand."""
    device = fresh_id()
    made = hubs.clients[NORTH].create(device, iot_edge=True)
    hubs.clients[NORTH].merge_twin(device, {"tags": {"by": "hand"}})
    hubs.goes_to(NORTH, initialTwin=TWIN)
    assert hubs.register(device).sub_status == "initialAssignment"
    kept = hubs.clients[NORTH].get(device)
    assert kept["generationId"] == made["generationId"] and kept["capabilities"]["iotEdge"] is True
    assert hubs.look(NORTH, device)["tags"] == {"by": "hand"}
    assert keys_at(hubs, device)[0] == hubs.keys(device).primary


def test_a_device_that_was_disabled_at_its_hub_stays_so(hubs):
    """DPS-REG-41, DPS-HUB-14."""
    device = fresh_id()
    hubs.goes_to(NORTH)
    hubs.register(device)
    hubs.disable(NORTH, device)
    hubs.register(device)
    assert hubs.look(NORTH, device)["status"] == "disabled"


def test_devices_are_spread_over_hubs_by_weight_and_each_comes_back_to_its_own(link):
    """DPS-REG-16, DPS-REG-40."""
    hubs = link(NORTH, SOUTH)
    hubs.goes_to([])
    devices = [fresh_id() for _ in range(24)]
    for _ in range(2):
        ended = [operation.ended() for operation in [hubs.begin(device) for device in devices]]
        homes = {device: state["assignedHub"] for device, (_, state) in zip(devices, ended, strict=True)}
        assert set(homes.values()) == {NORTH, SOUTH}
    assert all(hubs.homes(device) == [home] for device, home in homes.items())


def test_hubs_are_linked_and_drained_by_the_command_line_in_an_instance_of_the_store(link):
    """DPS-INST-13, DPS-INST-14, DPS-CLI-33, DPS-REG-47."""
    hubs, id_scope = link(NORTH, SOUTH), "0neStored"
    instance = made(hubs.serving, id_scope, hubs=())
    for name in (NORTH, SOUTH):
        file = hubs.site.folder / f"{name}.key"
        create = ("linked-hub", "create", name, "--kind", "azureIotHub", "--connection-string-file", str(file))
        hubs.serving.command(*create, id_scope=id_scope)
    keys, device = fresh_keys(), fresh_id()
    enroll(instance, group("fleet", symmetric(keys), initialTwin=TWIN))
    register = lambda: sdk.register(instance, device, keys.of(device).primary, id_scope=id_scope)  # noqa: E731
    first = register().registration_state.assigned_hub
    [second] = {NORTH, SOUTH} - {first}
    hubs.registries[first].report(device, {"seen": 1})
    before = hubs.look(first, device)
    hubs.serving.command("linked-hub", "drain", first, id_scope=id_scope)
    state = register().registration_state
    assert (state.assigned_hub, state.sub_status) == (second, "deviceDataMigrated")
    assert hubs.only_at(second, device) == before
    listed = hubs.serving.command("linked-hub", "list", id_scope=id_scope)
    assert first in listed and second in listed
