"""Devices that register again, and where they live then, where hubs are outside: the official SDKs on both sides."""

import pytest

import sdk
from credentials import fresh_id
from linked_hubs import HOME, NORTH, SOON, SOUTH, until
from raw_device import registers
from serving import ID_SCOPE

MIGRATE = {"updateHubAssignment": True, "migrateDeviceData": True}
RESET = {"updateHubAssignment": True, "migrateDeviceData": False}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}
NEVER_WITH_DATA = {"updateHubAssignment": False, "migrateDeviceData": True}

# Each with whether the device moves, whether its data does, and what a client of 2019-03-31 is told.
POLICIES = {
    "migrate": (MIGRATE, True, True, "deviceDataMigrated"),
    "reset": (RESET, True, False, "deviceDataReset"),
    "never": (NEVER, False, True, "initialAssignment"),
    "never, with data": (NEVER_WITH_DATA, False, True, "initialAssignment"),
    "none": (None, True, True, "deviceDataMigrated"),
}
WAYS = {"outside": (NORTH, SOUTH), "outwards": (HOME, NORTH), "inwards": (NORTH, HOME)}


@pytest.fixture
def hubs(link):
    return link(NORTH, SOUTH, local=[HOME])


def twin_of(hub):
    return {"tags": {"from": hub}, "properties": {"desired": {"unit": {"of": hub}, "keep": True}}}


def lives_at(hubs, hub, device, run=sdk.register, **members):
    """Its life there: what it reported, what its operator wrote, and all that the hub has of it."""
    hubs.goes_to(hub, initialTwin=twin_of(hub), capabilities={"iotEdge": True}, **members)
    assert hubs.register(device, run=run).assigned_hub == hub
    if hub in hubs.registries:
        hubs.registries[hub].report(device, {"temperature": 21.5, "nested": {"a": [1, "b"]}})
        hubs.clients[hub].merge_twin(device, {"tags": {"by": "hand"}, "properties": {"desired": {"keep": False}}})
    return hubs.only_at(hub, device)


def is_to_go(hubs, hub, policy, iot_edge=False):
    policy = {"reprovisionPolicy": policy} if policy else {}
    hubs.goes_to(hub, initialTwin=twin_of(hub), capabilities={"iotEdge": iot_edge}, **policy)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("policy, moves, keeps, told", POLICIES.values(), ids=POLICIES)
def test_each_policy_takes_a_device_where_it_says_with_what_it_says(hubs, way, policy, moves, keeps, told):
    """DPS-REG-22, DPS-REG-23, DPS-REG-42, DPS-REG-43, DPS-BODY-7."""
    start, end = way
    device = fresh_id()
    before = lives_at(hubs, start, device)
    home = end if moves else start
    # A device that stays at a local hub has the capability of its entry.
    is_to_go(hubs, end, policy, iot_edge=home == HOME and not moves)
    state = hubs.register(device)
    assert (state.assigned_hub, state.device_id, state.sub_status) == (home, device, told)
    twin = twin_of(end)
    anew = {"tags": twin["tags"], **twin["properties"], "reported": {}, "iotEdge": False, "status": "enabled"}
    assert hubs.only_at(home, device) == (before if keeps else anew)
    if moves and start in hubs.registries:
        assert f"id_scope={ID_SCOPE} " in hubs.serving.log_line("device gone from a hub", device)
    assert hubs.record(device)["assignedHub"] == home


def test_versions_of_a_twin_that_moved_are_those_that_the_service_gives(hubs):
    """DPS-REG-42: one thing reported, version 2, as Azure's live test asserts."""
    device = fresh_id()
    hubs.goes_to(NORTH)
    hubs.register(device)
    hubs.registries[NORTH].report(device, {"count": 1})
    is_to_go(hubs, SOUTH, MIGRATE)
    hubs.register(device)
    reported = hubs.clients[SOUTH].twin(device)["properties"]["reported"]
    assert (reported["count"], reported["$version"]) == (1, 2)
    is_to_go(hubs, NORTH, RESET)
    hubs.register(device)
    hubs.only_at(NORTH, device)
    reported = hubs.clients[NORTH].twin(device)["properties"]["reported"]
    assert ("count" not in reported, reported["$version"]) == (True, 1)


@pytest.mark.parametrize("end", [SOUTH, HOME])
def test_a_device_that_is_disabled_at_its_hub_is_so_at_the_next(hubs, end):
    """DPS-REG-42."""
    device = fresh_id()
    lives_at(hubs, NORTH, device)
    hubs.disable(NORTH, device)
    is_to_go(hubs, end, MIGRATE)
    assert hubs.register(device).sub_status == "deviceDataMigrated"
    found = hubs.only_at(end, device)
    assert (found["status"], found["tags"]) == ("disabled", {"from": NORTH, "by": "hand"})


def test_a_device_that_begins_anew_is_enabled(hubs):
    """DPS-REG-42."""
    device = fresh_id()
    lives_at(hubs, NORTH, device)
    hubs.disable(NORTH, device)
    is_to_go(hubs, SOUTH, RESET)
    hubs.register(device)
    assert hubs.only_at(SOUTH, device)["status"] == "enabled"


def test_a_client_from_before_devices_moved_keeps_its_hub_where_no_policy_says_otherwise(hubs):
    """DPS-REG-22."""
    device = fresh_id()
    before = lives_at(hubs, NORTH, device)
    key = hubs.keys(device).primary

    def register_as_of_2018():
        etag = hubs.record(device)["etag"]
        assert registers(hubs.serving, device, key, api_version="2018-04-01")

        def ended():
            record = hubs.record(device)
            return record if record["etag"] != etag and record["status"] == "assigned" else None

        return until(ended, f"{device} to be assigned", SOON)

    is_to_go(hubs, SOUTH, None)
    assert register_as_of_2018()["assignedHub"] == NORTH
    assert hubs.only_at(NORTH, device) == before
    is_to_go(hubs, SOUTH, MIGRATE)
    assert register_as_of_2018()["assignedHub"] == SOUTH
    assert hubs.only_at(SOUTH, device) == before


def test_what_a_device_left_at_a_hub_long_ago_counts_no_more(hubs):
    """DPS-REG-42: made by hand, or left where a hub was unlinked."""
    device = fresh_id()
    before = lives_at(hubs, NORTH, device)
    old = hubs.clients[SOUTH].create(device)
    hubs.clients[SOUTH].merge_twin(device, {"tags": {"old": True}})
    is_to_go(hubs, SOUTH, MIGRATE)
    assert hubs.register(device).sub_status == "deviceDataMigrated"
    assert hubs.only_at(SOUTH, device) == before
    assert hubs.clients[SOUTH].get(device)["generationId"] != old["generationId"]
    deleted = [one for one in hubs.registries[SOUTH].requests() if one["line"].startswith("DELETE")]
    assert deleted and all(one["ifMatch"] not in (None, "*", '"*"') for one in deleted)


def test_a_device_that_is_gone_from_its_hub_begins_anew_at_the_next(hubs):
    """DPS-REG-42."""
    device = fresh_id()
    lives_at(hubs, NORTH, device)
    hubs.clients[NORTH].delete(device)
    is_to_go(hubs, SOUTH, MIGRATE)
    assert hubs.register(device).sub_status == "deviceDataReset"
    assert hubs.only_at(SOUTH, device)["tags"] == {"from": SOUTH}


def test_a_device_goes_there_and_back_with_all_that_it_has(hubs):
    """DPS-REG-42, DPS-REG-43."""
    device = fresh_id()
    before = lives_at(hubs, NORTH, device)
    for hub in (SOUTH, NORTH, HOME, NORTH):
        is_to_go(hubs, hub, MIGRATE)
        assert hubs.register(device).sub_status == "deviceDataMigrated"
        assert hubs.only_at(hub, device) == before


def test_a_hub_that_is_no_longer_linked_is_asked_for_nothing(hubs):
    """DPS-REG-42, DPS-INST-9: its devices begin anew elsewhere, and what was to be removed is, once it is linked again."""
    stays, moved = fresh_id("stays"), fresh_id("moved")
    for device in (stays, moved):
        lives_at(hubs, NORTH, device)
    unavailable = {"refuse": {"status": 503, "code": "ServiceUnavailable", "retryAfter": None}}
    hubs.registries[NORTH].plan("deleteIdentity", unavailable, times=1_000)
    is_to_go(hubs, SOUTH, MIGRATE)
    assert hubs.register(moved).sub_status == "deviceDataMigrated"
    hubs.serving.log_line("device still at a hub that it has left", moved)
    unlinked = hubs.tables.pop(NORTH)
    hubs.reload()
    hubs.registries[NORTH].heal()
    asked = len(hubs.registries[NORTH].requests())
    state = hubs.register(stays)
    assert (state.assigned_hub, state.sub_status) == (SOUTH, "deviceDataReset")
    assert hubs.look(SOUTH, stays)["tags"] == {"from": SOUTH}
    hubs.serving.log_line("device still at a hub that it has left", "the hub is not linked", within=40.0)
    assert len(hubs.registries[NORTH].requests()) == asked
    hubs.tables[NORTH] = unlinked
    hubs.reload()
    hubs.only_at(SOUTH, moved, within=90)
