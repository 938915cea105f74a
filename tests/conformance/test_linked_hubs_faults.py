"""Hubs outside that fail at some step, and devices that end where they should all the same."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import sdk
from admin import admin
from credentials import fresh_id
from linked_hubs import NORTH, SOUTH, until

# A call is given up after ten seconds.
LATE = {"late": {"milliseconds": 12_000}}


def refusal(status, code, retry_after=None):
    return {"refuse": {"status": status, "code": code, "retryAfter": retry_after}}


EFFECTS = {
    "500": refusal(500, "ServerError"),
    "503": refusal(503, "ServiceUnavailable"),
    "stall": "stall",
    "stall after": "stallAfter",
    "cut": "cut",
    "cut after": "cutAfter",
    "cut midway": "cutMidway",
    "garble": "garble",
    "late": LATE,
}
ON_THE_WAY = 90.0
TWIN = {"tags": {"line": 4}, "properties": {"desired": {"rate": 2}}}
CHANGED = {"tags": {"by": "hand"}, "properties": {"desired": {"rate": 3}}}


def at_once(call, devices):
    """What a call makes of each device, all at one time."""
    with ThreadPoolExecutor(max_workers=len(devices)) as pool:
        return list(pool.map(call, devices))


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_a_first_assignment_outlives_a_fault_at_each_step(link, effect):
    """DPS-REG-41, DPS-REG-45, DPS-HUB-19: the device polls, and is assigned when the fault has passed."""
    hubs = link(NORTH)
    hubs.goes_to(NORTH, initialTwin=TWIN)
    new, read, written = devices = [fresh_id() for _ in range(3)]
    # By hand, so that a device that is there is given its keys.
    for device in (read, written):
        hubs.clients[NORTH].create(device)
        hubs.clients[NORTH].merge_twin(device, CHANGED)
    before = hubs.look(NORTH, read)
    steps = dict(zip(devices, ("bulk", "readIdentity", "writeIdentity"), strict=True))
    for device, step in steps.items():
        hubs.registries[NORTH].plan(step, effect, device_id=device)
    operations = [hubs.begin(device) for device in devices]
    for state in at_once(hubs.register, devices):
        assert (state.assigned_hub, state.sub_status) == (NORTH, "initialAssignment")
    assert [operation.poll()[0] for operation in operations] == ["assigned"] * 3
    for device in devices:
        line = hubs.serving.log_line("device placed", device)
        assert "tries=1 " not in line, "the fault came about"
        keys = hubs.clients[NORTH].get(device)["authentication"]["symmetricKey"]
        assert keys["primaryKey"] == hubs.keys(device).primary
    assert hubs.look(NORTH, new)["tags"] == TWIN["tags"]
    assert [hubs.look(NORTH, device) for device in (read, written)] == [before, before]


@pytest.mark.parametrize("effect", EFFECTS.values(), ids=EFFECTS)
def test_a_move_outlives_a_fault_at_each_step(link, effect):
    """DPS-REG-42, DPS-REG-43, DPS-REG-44, DPS-REG-45: in the end the device is at one hub, with its twin."""
    hubs = link(NORTH, SOUTH)
    # Where, at which step, and how often that goes well before; what is left at the new hub has to be read and deleted.
    steps = [
        (NORTH, "readIdentity", 0),
        (NORTH, "readTwin", 0),
        (SOUTH, "bulk", 0),
        (SOUTH, "readIdentity", 0),
        (SOUTH, "deleteIdentity", 0),
        (NORTH, "readIdentity", 1),
        (NORTH, "deleteIdentity", 0),
    ]
    devices = {fresh_id(): step for step in steps}
    hubs.goes_to(NORTH, initialTwin=TWIN, capabilities={"iotEdge": True})
    before = {}
    for operation in [hubs.begin(device) for device in devices]:
        assert operation.ended()[0] == "assigned"
    for device, (hub, step, after) in devices.items():
        hubs.registries[NORTH].report(device, {"of": device})
        hubs.clients[NORTH].merge_twin(device, CHANGED)
        before[device] = hubs.look(NORTH, device)
        if (hub, step) in ((SOUTH, "readIdentity"), (SOUTH, "deleteIdentity")):
            hubs.clients[SOUTH].create(device)
        hubs.registries[hub].plan(step, effect, device_id=device, after=after)
    hubs.goes_to(SOUTH)
    for state in at_once(hubs.register, list(devices)):
        assert (state.assigned_hub, state.sub_status) == (SOUTH, "deviceDataMigrated")
    for device in devices:
        assert hubs.only_at(SOUTH, device, within=ON_THE_WAY) == before[device]
        assert hubs.record(device)["assignedHub"] == SOUTH


@pytest.mark.parametrize("effect", ["stall", "cut"])
def test_a_hub_whose_connections_come_to_nothing_is_connected_to_again(link, effect):
    """DPS-REG-45, DPS-HUB-19."""
    hubs = link(NORTH)
    hubs.goes_to(NORTH)
    hubs.registries[NORTH].plan("connect", effect)
    device = fresh_id()
    assert hubs.register(device).assigned_hub == NORTH
    assert "tries=2 " in hubs.serving.log_line("device placed", device)


def test_a_hub_that_wants_to_be_left_alone_is_left_alone_for_as_long(link):
    """DPS-REG-45, DPS-INST-14: for all its devices, and no other hub's."""
    hubs = link(NORTH, SOUTH)
    hubs.goes_to(NORTH, name="north")
    hubs.goes_to(SOUTH, name="south")
    throttled = refusal(429, "ThrottlingException", retry_after=6)
    first, *others = devices = [fresh_id() for _ in range(4)]
    hubs.registries[NORTH].plan("bulk", throttled, device_id=first)
    operations = [hubs.begin(first, name="north")]
    until(lambda: hubs.shown(NORTH)["health"]["pausedForSeconds"], "a pause", 5)
    assert 1 <= hubs.shown(NORTH)["health"]["pausedForSeconds"] <= 6
    operations += [hubs.begin(device, name="north") for device in others]
    elsewhere = hubs.register(fresh_id(), name="south")
    assert elsewhere.assigned_hub == SOUTH
    assert [operation.poll()[0] for operation in operations] == ["assigning"] * 4
    assert [operation.ended()[0] for operation in operations] == ["assigned"] * 4
    asked, then, *_ = [request["atMilliseconds"] for request in hubs.registries[NORTH].requests()]
    assert 6_000 <= then - asked <= 12_000
    assert hubs.shown(NORTH)["health"] == {"state": "healthy", "since": None, "reason": None, "pausedForSeconds": None}
    assert all(hubs.homes(device) == [NORTH] for device in devices)


def test_a_hub_that_does_not_say_for_how_long_is_left_alone_twice_as_long_each_time(link):
    """DPS-REG-45."""
    hubs = link(NORTH)
    hubs.goes_to(NORTH)
    hubs.registries[NORTH].plan("bulk", refusal(429, "ThrottlingException"), times=3)
    assert hubs.register(fresh_id()).assigned_hub == NORTH
    times = [request["atMilliseconds"] for request in hubs.registries[NORTH].requests()]
    pauses = [later - earlier for earlier, later in zip(times[:-1], times[1:], strict=True)][:3]
    assert all(pause >= least for pause, least in zip(pauses, (1_000, 2_000, 4_000), strict=True)), pauses


def is_unhealthy(hubs):
    """As the admin API and the command line show it."""
    health = hubs.shown(NORTH)["health"]
    assert health["state"] == "unhealthy" and health["since"] and "401" in health["reason"], health
    [line] = [line for line in hubs.serving.command("linked-hub", "list").splitlines() if NORTH in line]
    assert "unhealthy" in line
    told = json.loads(hubs.serving.command("linked-hub", "show", NORTH, "--output", "json"))
    assert told["health"]["state"] == "unhealthy"
    return True


def test_a_hub_that_does_not_accept_its_connection_string_fails_devices_with_what_it_says_until_it_does(link):
    """DPS-REG-45, DPS-REG-46, DPS-HUB-17, DPS-REG-11."""
    hubs = link(NORTH)
    hubs.goes_to(NORTH)
    old, new = fresh_id("old"), fresh_id("new")
    hubs.register(old)
    for step in ("bulk", "readIdentity"):
        hubs.registries[NORTH].plan(step, refusal(401, "IotHubUnauthorizedAccess"), times=1_000)
    for device in (new, old):
        status, state = hubs.begin(device).ended()
        assert (status, state["errorCode"]) == ("failed", 401002)
        said = json.loads(state["errorMessage"])
        assert said["Message"] == "ErrorCode:IotHubUnauthorizedAccess;on command" and "ExceptionMessage" in said
    _, cause = sdk.refusal(hubs.register, new)
    assert "failed registration status" in str(cause), repr(cause)
    assert hubs.record(old)["assignedHub"] == NORTH and "assignedHub" not in hubs.record(new)
    assert is_unhealthy(hubs)
    hubs.serving.log_line("hub unhealthy", NORTH)
    explained = admin(hubs.serving, "GET", f"/explanations?registrationId={new}")[1]
    assert {(one["step"], one["told"]) for one in explained} == {("allocation", "401002")}
    hubs.registries[NORTH].heal()
    # Nobody registers meanwhile.
    hubs.healthy(NORTH, within=45)
    for device in (old, new):
        assert hubs.register(device).assigned_hub == NORTH
    assert all(hubs.homes(device) == [NORTH] for device in (old, new))


def test_a_renewed_key_of_a_hub_counts_once_the_configuration_was_read_again(link):
    """DPS-REG-46, DPS-SERVE-15, DPS-SERVE-17."""
    hubs = link(NORTH)
    hubs.goes_to(NORTH)
    device = fresh_id()
    hubs.registries[NORTH].renew_key()
    _, cause = sdk.refusal(hubs.register, device)
    assert "failed registration status" in str(cause), repr(cause)
    assert is_unhealthy(hubs)
    hubs.link(NORTH, hubs.registries[NORTH].connection_string)
    hubs.reload()
    assert hubs.register(device).assigned_hub == NORTH
    assert hubs.shown(NORTH)["health"]["state"] == "healthy" and hubs.homes(device) == [NORTH]


def test_a_hub_that_takes_no_more_devices_says_so_to_the_device_and_is_healthy(link):
    """DPS-REG-45, DPS-HUB-16, DPS-HUB-17."""
    hubs = link(NORTH, registry_options=("--devices-max", "1"))
    hubs.goes_to(NORTH)
    first, second = fresh_id(), fresh_id()
    hubs.register(first)
    status, state = hubs.begin(second).ended()
    assert (status, state["errorCode"]) == ("failed", 401002)
    assert "allocated quota of 1" in state["errorMessage"]
    assert hubs.shown(NORTH)["health"]["state"] == "healthy"
    hubs.clients[NORTH].delete(first)
    assert hubs.register(second).assigned_hub == NORTH


@pytest.mark.timeout(240)
@pytest.mark.parametrize("instead", ["fail", "reset"])
def test_a_hub_that_cannot_be_read_for_a_minute_keeps_its_device_or_loses_its_data(link, instead):
    """DPS-REG-42."""
    hubs = link(NORTH, SOUTH, when_source_unavailable=instead)
    hubs.goes_to(NORTH, initialTwin=TWIN)
    device = fresh_id()
    hubs.register(device)
    hubs.clients[NORTH].merge_twin(device, CHANGED)
    before = hubs.look(NORTH, device)
    hubs.goes_to(SOUTH, initialTwin=TWIN)
    hubs.registries[NORTH].freeze()
    began = time.monotonic()
    status, state = hubs.begin(device).ended(within=150)
    assert time.monotonic() - began > 59
    hubs.registries[NORTH].thaw()
    if instead == "fail":
        assert (status, state["errorCode"]) == ("failed", 503000)
        assert hubs.record(device)["assignedHub"] == NORTH and hubs.homes(device) == [NORTH]
        assert hubs.register(device).sub_status == "deviceDataMigrated"
        assert hubs.only_at(SOUTH, device) == before
    else:
        assert (status, state["assignedHub"], state["substatus"]) == ("assigned", SOUTH, "deviceDataReset")
        assert hubs.only_at(SOUTH, device, within=ON_THE_WAY)["tags"] == TWIN["tags"]
