"""SIGKILL while devices are brought to hubs outside: whatever moment it is, each ends at one hub, with its twin."""

import random
import time

import pytest

from credentials import fresh_id
from linked_hubs import AFTER_A_LEASE, HOME, NORTH, SOUTH, until

# What is asked for is done while the service is down, after it has started again, or when another worker has gone on.
LATE, LATER, VERY_LATE = ({"late": {"milliseconds": milliseconds}} for milliseconds in (9_000, 20_000, 68_000))
DOWN = 9.5
DONE = ("stall", "stallAfter", LATE, LATER, VERY_LATE)
TWIN = {"tags": {"line": 4}, "properties": {"desired": {"rate": 2}}}
FROM_NOWHERE = {"tags": {"new": True}, "properties": {"desired": {"rate": 1}}}
NEW = {"tags": {"new": True}, "desired": {"rate": 1}, "reported": {}, "iotEdge": False, "status": "enabled"}

# From where to where; the hub and the step at which the service is killed, and how often that goes well before; whether the new hub
# has an old device of that id.
FIRST = [
    *((None, SOUTH, SOUTH, "bulk", 0, False, effect) for effect in DONE),
    (None, SOUTH, SOUTH, "readIdentity", 0, True, "stall"),
    *((None, SOUTH, SOUTH, "writeIdentity", 0, True, effect) for effect in DONE),
]
MOVES = [
    (NORTH, SOUTH, NORTH, "readIdentity", 0, False, "stall"),
    (NORTH, SOUTH, NORTH, "readTwin", 0, False, "stall"),
    *((NORTH, SOUTH, SOUTH, "bulk", 0, False, effect) for effect in DONE),
    (NORTH, SOUTH, SOUTH, "readIdentity", 0, True, "stall"),
    *((NORTH, SOUTH, SOUTH, "deleteIdentity", 0, True, effect) for effect in DONE),
    (NORTH, SOUTH, SOUTH, "bulk", 1, True, "stallAfter"),
    *((HOME, SOUTH, SOUTH, "bulk", 0, False, effect) for effect in DONE),
    (NORTH, HOME, NORTH, "readTwin", 0, False, "stall"),
]
# Four of these are under way at one time.
CLEAN_UPS = [
    (NORTH, SOUTH, NORTH, "readIdentity", 1, False, "stall"),
    (NORTH, SOUTH, NORTH, "deleteIdentity", 0, False, "stall"),
    (NORTH, HOME, NORTH, "deleteIdentity", 0, False, "stallAfter"),
    (NORTH, SOUTH, NORTH, "deleteIdentity", 0, False, VERY_LATE),
]
LINES = {
    "bulk": "POST /devices",
    "readIdentity": "GET /devices",
    "writeIdentity": "PUT /devices",
    "deleteIdentity": "DELETE /devices",
    "readTwin": "GET /twins",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("cases", [FIRST, MOVES, CLEAN_UPS], ids=["first", "moves", "clean-ups"])
def test_a_service_that_is_killed_at_any_step_leaves_each_device_at_one_hub(link, cases):
    """DPS-REG-42, DPS-REG-43, DPS-REG-44, DPS-REG-32."""
    hubs = link(NORTH, SOUTH, local=[HOME])
    devices = {fresh_id(): case for case in cases}
    before = settled(hubs, devices)
    for device, (start, _, hub, step, after, has_old, effect) in devices.items():
        if has_old:
            hubs.clients[SOUTH].create(device)
            hubs.clients[SOUTH].merge_twin(device, {"tags": {"old": device}})
            if start is None:
                before[device] = hubs.look(SOUTH, device)
        # Where the machine is slow, a call may be given up before the service is killed: the next one gets no further.
        hubs.registries[hub].plan(step, effect, times=4, device_id=device, after=after)
    since = {hub: len(registry.requests()) for hub, registry in hubs.registries.items()}
    for device, (start, end, *_) in devices.items():
        hubs.goes_to(end, name=group_of(start, end), initialTwin=FROM_NOWHERE)
    for device, (start, end, *_) in devices.items():
        hubs.begin(device, name=group_of(start, end))
    until(lambda: all_are_stuck(hubs, devices, since), "every device to be stuck", 30)
    began = time.monotonic()
    hubs.serving.kill()
    time.sleep(DOWN)
    for registry in hubs.registries.values():
        registry.heal()
    hubs.start()
    for device, (start, end, *_) in devices.items():
        hubs.assigned([device], group_of(start, end), end, AFTER_A_LEASE)
        found = hubs.only_at(end, device, within=AFTER_A_LEASE)
        assert found == before.get(device, NEW), devices[device]
        # It was the service that started anew which brought it to its end.
        ended = "device gone from a hub" if cases is CLEAN_UPS else "device placed"
        assert "tries=1 " not in hubs.serving.log_line(ended, device) + " "
    # Nothing comes late any more.
    time.sleep(max(0.0, began + 70 - time.monotonic()))
    assert all(hubs.homes(device) == [end] for device, (_, end, *_) in devices.items())


def group_of(start, end):
    return f"{start}-{end}"


def settled(hubs, devices):
    """Devices where they begin, with a twin that only that place could give them."""
    operations = []
    for device, (start, end, *_) in devices.items():
        if start is not None:
            hubs.goes_to(start, name=group_of(start, end), initialTwin=TWIN, capabilities={"iotEdge": True})
            operations.append(hubs.begin(device, name=group_of(start, end)))
    assert all(operation.ended()[0] == "assigned" for operation in operations)
    for device, (start, *_) in devices.items():
        if start == NORTH:
            hubs.registries[NORTH].report(device, {"of": device})
    return {device: hubs.look(start, device) for device, (start, *_) in devices.items() if start is not None}


def all_are_stuck(hubs, devices, since):
    """Whether the step that each device is stuck at was asked for, so often that it is stuck."""
    asked = {hub: registry.requests()[since[hub] :] for hub, registry in hubs.registries.items()}

    def times(device, hub, step):
        def is_it(request):
            names = [item["id"] for item in request["body"] or [] if isinstance(item, dict)] if step == "bulk" else []
            line = request["line"]
            return line.startswith(LINES[step]) and (line.endswith(f"/{device}") or device in names)

        return sum(is_it(request) for request in asked[hub])

    return all(times(device, hub, step) > after for device, (_, _, hub, step, after, *_) in devices.items())


@pytest.mark.timeout(400)
def test_a_service_that_is_killed_again_and_again_leaves_each_device_at_one_hub(link):
    """DPS-REG-42, DPS-REG-43, DPS-REG-44: at moments that nobody chose."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    hubs = link(NORTH, SOUTH)
    hubs.goes_to(NORTH, initialTwin=TWIN)
    devices = [fresh_id() for _ in range(60)]
    for device in devices:
        hubs.begin(device)
    hubs.assigned(devices, "fleet", NORTH, 60)
    for device in devices:
        hubs.registries[NORTH].report(device, {"of": device})
    for registry in hubs.registries.values():
        for step in LINES:
            registry.plan(step, {"late": {"milliseconds": 400}}, times=1_000_000)
    hubs.goes_to(SOUTH, initialTwin=FROM_NOWHERE)
    for batch in range(0, len(devices), 12):
        for device in devices[batch : batch + 12]:
            hubs.begin(device)
        # The first of them are done by then, and the last have three calls before them.
        time.sleep(chance.uniform(0.0, 1.0))
        hubs.serving.kill()
        hubs.start()
    for registry in hubs.registries.values():
        registry.heal()
    hubs.assigned(devices, "fleet", SOUTH, AFTER_A_LEASE)
    for device in devices:
        found = hubs.only_at(SOUTH, device, within=AFTER_A_LEASE)
        assert (found["tags"], found["reported"]) == (TWIN["tags"], {"of": device}), f"seed {seed}"
    again = [line for line in hubs.serving.log().splitlines() if "device placed" in line and "tries=1 " not in line]
    assert again, f"the service was killed while it did nothing, seed {seed}"
