"""Devices that register again, and where they live then: the official SDK, unmodified, and hubs that come and go."""

import pytest

import sdk
from admin import admin
from credentials import derived_key, fresh_id
from enrollments import fresh_keys, group, symmetric
from instances import Instance, made
from raw_device import registers
from raw_service import enroll

MIGRATE = {"updateHubAssignment": True, "migrateDeviceData": True}
RESET = {"updateHubAssignment": True, "migrateDeviceData": False}
NEVER = {"updateHubAssignment": False, "migrateDeviceData": False}


@pytest.fixture
def service(start):
    return start()


@pytest.fixture
def instance(service):
    return made(service, "0neMove1", hubs=[("north.test", "local"), ("south.test", "local")])


class Fleet:
    """A group whose devices go to one hub, with a twin that says which."""

    def __init__(self, instance):
        self.instance, self.keys = instance, fresh_keys()

    def goes_to(self, hub, policy=None):
        members = {"reprovisionPolicy": policy} if policy else {}
        twin = {"tags": {"from": hub}, "properties": {"desired": {"unit": 1}}}
        enroll(self.instance, group("fleet", symmetric(self.keys), iotHubs=[hub], initialTwin=twin, **members))

    def key(self, registration_id):
        return derived_key(self.keys.primary, registration_id)


def twin_at(instance, hub, device_id):
    """The tag of the device's twin at a hub; None where there is no such device."""
    status, device = admin(instance.service, "GET", f"{instance.path}/hubs/{hub}/devices/{device_id}")
    return device["twin"]["tags"]["from"] if status == 200 else None


@pytest.mark.parametrize(
    "policy, hub, twin, told",
    [
        (MIGRATE, "south.test", "north.test", "deviceDataMigrated"),
        (RESET, "south.test", "south.test", "deviceDataReset"),
        # Its api-version is too old for "reprovisionedToInitialAssignment".
        (NEVER, "north.test", "north.test", "initialAssignment"),
        (None, "south.test", "north.test", "deviceDataMigrated"),
    ],
    ids=["migrate", "reset", "never", "none"],
)
@pytest.mark.parametrize("run", [sdk.register, sdk.register_over_websocket], ids=["mqtt", "websocket"])
def test_the_sdk_is_told_where_its_device_lives_now(instance, run, policy, hub, twin, told):
    """DPS-REG-22, DPS-REG-23, DPS-BODY-7."""
    fleet, device = Fleet(instance), fresh_id()
    fleet.goes_to("north.test")
    first = run(instance.service, device, fleet.key(device), id_scope=instance.id_scope).registration_state
    assert (first.assigned_hub, first.sub_status) == ("north.test", "initialAssignment")
    fleet.goes_to("south.test", policy)
    again = run(instance.service, device, fleet.key(device), id_scope=instance.id_scope).registration_state
    assert (again.assigned_hub, again.device_id, again.sub_status) == (hub, device, told)
    other = {"north.test": "south.test", "south.test": "north.test"}[hub]
    assert (twin_at(instance, hub, device), twin_at(instance, other, device)) == (twin, None)


def test_a_client_from_before_devices_moved_keeps_its_hub_where_no_policy_says_otherwise(instance):
    """DPS-REG-22."""
    fleet, device = Fleet(instance), fresh_id()
    fleet.goes_to("north.test")
    assert registers(instance, device, fleet.key(device))
    fleet.goes_to("south.test")
    assert registers(instance, device, fleet.key(device), api_version="2018-04-01")
    assert instance.record(device)["assignedHub"] == "north.test"
    assert registers(instance, device, fleet.key(device), api_version="2018-11-01")
    assert instance.record(device)["assignedHub"] == "south.test"


def test_what_moved_is_there_after_the_service_was_killed(start, tmp_path):
    """DPS-REG-23, DPS-STORE-2."""
    options = ("--data-dir", str(tmp_path / "data"))
    service = start(*options)
    instance = made(service, "0neMove2", hubs=[("north.test", "local"), ("south.test", "local")])
    fleet, device = Fleet(instance), fresh_id()
    fleet.goes_to("north.test")
    assert registers(instance, device, fleet.key(device))
    fleet.goes_to("south.test")
    assert registers(instance, device, fleet.key(device))
    service.kill()
    again = Instance(start(*options), "0neMove2", instance.service_host)
    assert again.record(device)["assignedHub"] == "south.test"
    assert (twin_at(again, "south.test", device), twin_at(again, "north.test", device)) == ("north.test", None)


def test_the_allocation_policy_by_networks_sends_a_device_to_the_hub_around_it(instance):
    """DPS-REG-24, DPS-REG-25: all devices here are on loopback."""
    hub = f"{instance.path}/hubs"
    local = {"kind": "local", "networks": ["127.0.0.0/8", "::1/128"]}
    assert admin(instance.service, "PUT", f"{hub}/south.test", local, if_match="*")[0] == 200
    spare = {"kind": "local", "allocationWeight": 1000, "applyAllocationPolicy": False}
    assert admin(instance.service, "PUT", f"{hub}/spare.test", spare)[0] == 200
    keys = fresh_keys()
    enroll(instance, group("near", symmetric(keys), allocationPolicy="geoLatency"))
    for _ in range(4):
        device = fresh_id()
        assert registers(instance, device, derived_key(keys.primary, device))
        assert instance.record(device)["assignedHub"] == "south.test"
    enroll(instance, group("near", symmetric(keys), allocationPolicy="hashed"))
    hubs = set()
    for _ in range(16):
        device = fresh_id()
        assert registers(instance, device, derived_key(keys.primary, device))
        hubs.add(instance.record(device)["assignedHub"])
    assert hubs == {"north.test", "south.test"}
