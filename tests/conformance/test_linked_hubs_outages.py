"""Hubs that are dead, unhealthy or on their way out, and the devices of all others."""

import json
import time

import pytest

import sdk
from credentials import fresh_id, fresh_key
from linked_hubs import NORTH, SOUTH, until
from service import free_address

REFUSED = "refused.test"
TWIN = {"tags": {"line": 4}, "properties": {"desired": {"rate": 2}}}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}
FLEET = 200


def took(hubs, name, hub, within):
    """How long it is until many new devices of a group are assigned."""
    devices = [fresh_id() for _ in range(FLEET)]
    began = time.monotonic()
    for device in devices:
        hubs.begin(device, name=name)
    hubs.assigned(devices, name, hub, within)
    return time.monotonic() - began, devices


@pytest.mark.timeout(360)
def test_devices_of_a_hub_that_answers_wait_for_none_that_does_not(link):
    """DPS-REG-40, DPS-REG-45, DPS-REG-46: one refuses connections, one takes them and says nothing."""
    hubs = link(NORTH, SOUTH)
    hubs.link(REFUSED, f"HostName={free_address()};SharedAccessKeyName=iothubowner;SharedAccessKey={fresh_key()}")
    hubs.reload()
    groups = {"live": NORTH, "still-live": NORTH, "silent": SOUTH, "refused": REFUSED}
    for name, hub in groups.items():
        hubs.goes_to(hub, name=name, initialTwin=TWIN)
    alone, _ = took(hubs, "live", NORTH, within=60)
    hubs.registries[SOUTH].freeze()
    waiting = {name: [hubs.begin(fresh_id(), name=name) for _ in range(40)] for name in ("silent", "refused")}
    beside_dead_ones, devices = took(hubs, "still-live", NORTH, within=60)
    assert beside_dead_ones < 2 * alone + 5, f"{beside_dead_ones:.1f} s, and {alone:.1f} s without them"
    placed = [line for line in hubs.serving.log().splitlines() if "device placed" in line and "tries=1 " in line]
    assert all(any(device in line for line in placed) for device in devices)
    for hub in (SOUTH, REFUSED):
        until(lambda: hubs.shown(hub)["health"]["state"] == "unhealthy", f"{hub} to be unhealthy", 60)
        assert hubs.shown(hub)["load"] == {"devices": 0, "assigning": 40, "cleanUps": 0}
    assert hubs.shown(NORTH)["health"]["state"] == "healthy"
    for operations in waiting.values():
        assert {operation.poll()[0] for operation in operations} == {"assigning"}
    hubs.registries[SOUTH].thaw()
    # It is asked again within half a minute, and then for all of them.
    hubs.healthy(SOUTH, within=60)
    for operation in waiting["silent"]:
        status, state = operation.ended(within=60)
        assert (status, state["assignedHub"]) == ("assigned", SOUTH)
        assert hubs.homes(operation.device) == [SOUTH]
    assert {operation.poll()[0] for operation in waiting["refused"]} == {"assigning"}


def test_new_devices_pass_over_a_hub_that_is_unhealthy_and_those_that_are_there_stay(link):
    """DPS-REG-46."""
    hubs = link(NORTH, SOUTH, pass_over_unhealthy_hubs=True)
    hubs.goes_to([NORTH, SOUTH], initialTwin=TWIN)
    old = one_that_chooses(hubs, NORTH)
    hubs.registries[NORTH].report(old, {"seen": 1})
    before = hubs.look(NORTH, old)
    hubs.registries[NORTH].renew_key()
    # It is there, and is not sent elsewhere.
    _, cause = sdk.refusal(hubs.register, old)
    assert "failed registration status" in str(cause), repr(cause)
    assert hubs.record(old)["assignedHub"] == NORTH
    assert hubs.shown(NORTH)["health"]["state"] == "unhealthy"
    for operation in [hubs.begin(fresh_id("new")) for _ in range(12)]:
        status, state = operation.ended()
        assert (status, state["assignedHub"]) == ("assigned", SOUTH)
    hubs.link(NORTH, hubs.registries[NORTH].connection_string)
    hubs.reload()
    assert hubs.register(old).assigned_hub == NORTH
    assert hubs.only_at(NORTH, old) == before
    assert hubs.shown(NORTH)["health"]["state"] == "healthy"
    one_that_chooses(hubs, NORTH)


def one_that_chooses(hubs, hub):
    """A new device that the hash sends to this hub, which is one of two."""
    for _ in range(32):
        status, state = hubs.begin(device := fresh_id("spread")).ended()
        assert status == "assigned"
        if state["assignedHub"] == hub:
            return device
    raise AssertionError(f"none of 32 devices was sent to {hub}")


def test_a_hub_that_does_not_pass_over_lets_new_devices_wait(link):
    """DPS-REG-46: as Azure does, where the instance does not say otherwise."""
    hubs = link(NORTH, SOUTH)
    hubs.goes_to([NORTH, SOUTH])
    hubs.registries[NORTH].freeze()
    operations = [hubs.begin(fresh_id()) for _ in range(24)]
    until(lambda: hubs.shown(NORTH)["health"]["state"] == "unhealthy", "the hub to be unhealthy", 60)
    operations += [hubs.begin(fresh_id()) for _ in range(24)]
    time.sleep(3)
    states = [operation.poll() for operation in operations]
    assert {status for status, _ in states} == {"assigning", "assigned"}
    assert all(state["assignedHub"] == SOUTH for status, state in states if status == "assigned")


def test_a_hub_that_is_draining_takes_no_device_that_may_go_elsewhere(link):
    """DPS-REG-47, DPS-REG-42, DPS-CLI-33."""
    hubs = link(NORTH, SOUTH)
    moving, staying, bound = (fresh_id(kind) for kind in ("moving", "staying", "bound"))
    policies = {"moving": {}, "staying": {"reprovisionPolicy": NEVER}, "bound": {}}
    devices = {"moving": moving, "staying": staying, "bound": bound}
    for name, members in policies.items():
        hubs.goes_to(NORTH, name=name, initialTwin=TWIN, **members)
        hubs.register(devices[name], name=name)
        hubs.registries[NORTH].report(devices[name], {"seen": 1})
    before = hubs.look(NORTH, moving)
    hubs.tables[NORTH]["draining"] = True
    hubs.reload()
    for name in ("moving", "staying"):
        hubs.goes_to([NORTH, SOUTH], name=name, initialTwin={"tags": {"new": True}}, **policies[name])
    new = [hubs.begin(fresh_id("new"), name="moving") for _ in range(12)]
    assert {state["assignedHub"] for _, state in (operation.ended() for operation in new)} == {SOUTH}
    state = hubs.register(moving, name="moving")
    assert (state.assigned_hub, state.sub_status) == (SOUTH, "deviceDataMigrated")
    assert hubs.only_at(SOUTH, moving) == before
    for name in ("staying", "bound"):
        assert hubs.register(devices[name], name=name).assigned_hub == NORTH
        assert hubs.look(NORTH, devices[name])["reported"] == {"seen": 1}
    # Nowhere else to go, and new.
    _, state = hubs.begin(fresh_id(), name="bound").ended()
    assert state["errorCode"] == 401001
    until(lambda: hubs.shown(NORTH)["load"] == {"devices": 2, "assigning": 0, "cleanUps": 0}, "two to be left", 20)
    assert json.loads(hubs.serving.command("linked-hub", "show", NORTH, "--output", "json"))["draining"] is True
    del hubs.tables[NORTH]["draining"]
    hubs.reload()
    assert hubs.register(fresh_id(), name="bound").assigned_hub == NORTH
