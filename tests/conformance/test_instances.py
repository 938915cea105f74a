"""Service instances are made and changed while the service runs, and are still there after it was killed."""

import re
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from admin import admin
from credentials import derived_key, fresh_id, fresh_key
from enrollments import fresh_keys, group, individual, symmetric
from instances import OWNER, RIGHTS, Instance, all_instances, connection_string, keys, made, policies, renewed
from raw_device import register_packet, registers, subscribed
from raw_service import RawService, ask, enroll, service_token
from service_clients import INDIVIDUAL, PythonBetaClient, PythonClient, trusted

# What a hub has where nothing is said of it.
LINKED = {"allocationWeight": 1, "applyAllocationPolicy": True, "networks": [], "draining": False}


@pytest.fixture
def service(start):
    return start()


def fresh_group(instance, **members):
    """A group of the instance; its primary key."""
    both = fresh_keys()
    enroll(instance, group("fleet", symmetric(both), **members))
    return both.primary


def hub_of(instance, registration_id, group_key):
    """The hub that a device of the group is assigned to when it registers now."""
    assert registers(instance, registration_id, derived_key(group_key, registration_id))
    return instance.record(registration_id)["assignedHub"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_new_instance_serves_devices_and_clients_at_once(service, method):
    """DPS-INST-1, DPS-INST-5: under a host of its own, with a policy of its own."""
    path = "/id-scopes" if method == "POST" else "/id-scopes/0neNew1"
    body = {"serviceHosts": ["new.test"], "linkedHubs": [{"name": "Hub.test", "kind": "local"}]}
    status, shown = admin(service, method, path, body)
    assert status == {"POST": 201, "PUT": 200}[method], shown
    assert re.fullmatch("0ne[0-9A-F]{8}" if method == "POST" else "0neNew1", shown["idScope"])
    [owner] = shown["sharedAccessPolicies"]
    assert (owner["name"], owner["rights"]) == (OWNER, RIGHTS)
    assert shown["linkedHubs"] == [{**LINKED, "name": "Hub.test", "kind": "local"}]
    assert (shown["defaultAllocationPolicy"], shown["claimAcrossGroups"]) == ("hashed", "allow")

    instance, registration_id, own = Instance(service, shown["idScope"], "new.test"), fresh_id(), fresh_keys()
    enroll(instance, individual(registration_id, symmetric(own)))
    assert registers(instance, registration_id, own.primary)
    record = instance.record(registration_id)
    assert (record["status"], record["assignedHub"]) == ("assigned", "Hub.test")
    status, devices = admin(service, "GET", f"{instance.path}/hubs/hub.TEST/devices")
    assert (status, [device["deviceId"] for device in devices]) == (200, [registration_id])


def test_what_one_instance_has_is_unknown_in_the_other(service):
    """DPS-INST-1, DPS-STORE-1."""
    one, other = made(service, "0neOne1"), made(service, "0neOther1")
    dev = Instance(service, service.id_scope, service.service_host)
    registration_id, own = fresh_id(), fresh_keys()
    enroll(one, individual(registration_id, symmetric(own)))
    assert ask(one, "GET", f"/enrollments/{registration_id}").status == 200
    for elsewhere in (other, dev):
        assert ask(elsewhere, "GET", f"/enrollments/{registration_id}").refused()[0] == 404
        with subscribed(elsewhere, registration_id, own.primary) as device:
            device.send(register_packet(qos=0))
            topic, _ = device.answer()
            assert topic.startswith("$dps/registrations/res/40"), topic
        assert elsewhere.record(registration_id) is None
    # Nor is there a hub of one in the other.
    assert admin(service, "GET", f"{other.path}/hubs/{service.hub}")[0] == 404


@pytest.mark.parametrize("kind", [PythonClient, PythonBetaClient])
def test_the_official_clients_manage_a_new_instance_unmodified(service, kind):
    """DPS-INST-1, DPS-INST-3: the address, which their certificate check wants, goes from `dev`'s instance to it."""
    dev = Instance(service, service.id_scope, "localhost")
    status, refused = admin(service, "PUT", "/id-scopes/0neSdk1", {"serviceHosts": [service.address]})
    assert status == 409 and service.address in refused["message"] and dev.id_scope in refused["message"]
    dev.change(serviceHosts=["localhost"])
    instance = made(service, "0neSdk1", host=service.address)
    registration_id, own = fresh_id(), fresh_keys()
    key = keys(service, "0neSdk1", OWNER)["secondaryKey"]
    host = service.service_host
    with trusted(service.ca_file):
        client = kind(connection_string(host, OWNER, key))
        client.put(INDIVIDUAL, individual(registration_id, symmetric(own)))
        assert client.get(INDIVIDUAL, registration_id)["registrationId"] == registration_id
        assert registers(instance, registration_id, own.primary)
        state = client.record(registration_id)
    # Each has its own spelling.
    assert "hub.test" in (state.get("assignedHub"), state.get("assigned_hub"))
    assert ask(dev, "GET", f"/enrollments/{registration_id}").status == 404


def test_hubs_are_linked_and_unlinked_for_the_next_register(service):
    """DPS-INST-1, DPS-INST-9, DPS-REG-16."""
    instance = made(service, "0neHubs1", hubs=[("a.test", "local")])
    stays = {"updateHubAssignment": False, "migrateDeviceData": False}
    group_key = fresh_group(instance, reprovisionPolicy=stays)
    early = [fresh_id() for _ in range(4)]
    assert {hub_of(instance, one, group_key) for one in early} == {"a.test"}

    status, linked = admin(service, "PUT", f"{instance.path}/hubs/b.test", {"kind": "static", "allocationWeight": 1000})
    assert (status, linked) == (200, {**LINKED, "name": "b.test", "kind": "static", "allocationWeight": 1000})
    # One in a thousand goes elsewhere; of eight all but two do, or something is wrong.
    late = [hub_of(instance, fresh_id(), group_key) for _ in range(8)]
    assert late.count("b.test") >= 6, late
    assert {hub_of(instance, one, group_key) for one in early} == {"a.test"}, "a device that may not move stays while its hub is linked"

    before = {one: instance.record(one) for one in early}
    assert admin(service, "DELETE", f"{instance.path}/hubs/A.test") == (204, None)
    assert {one: instance.record(one) for one in early} == before
    assert hub_of(instance, early[0], group_key) == "b.test"
    moved = instance.record(early[0])
    assert moved["createdDateTimeUtc"] == before[early[0]]["createdDateTimeUtc"] and moved["substatus"] == "deviceDataReset"
    assert instance.record(early[1]) == before[early[1]]


def test_a_static_allocation_goes_where_it_says(service):
    """DPS-INST-1, DPS-REG-15: by the entry, and by the default of the instance, which changes for the next register."""
    hubs = [(f"{name}.test", "static") for name in "abc"]
    instance = made(service, "0neStat1", hubs=hubs)
    fixed = fresh_group(instance, allocationPolicy="static", iotHubs=["c.test"])
    assert {hub_of(instance, fresh_id(), fixed) for _ in range(4)} == {"c.test"}

    free = fresh_keys()
    enroll(instance, group("fleet", symmetric(free), iotHubs=["b.test"]))
    assert hub_of(instance, fresh_id(), free.primary) == "b.test"
    enroll(instance, group("fleet", symmetric(free)))
    assert instance.change(defaultAllocationPolicy="static")["defaultAllocationPolicy"] == "static"
    # No hub is named, and three are there.
    failed = fresh_id()
    registers(instance, failed, derived_key(free.primary, failed))
    assert instance.record(failed)["status"] == "failed"
    for name in ("a.test", "b.test"):
        assert admin(service, "DELETE", f"{instance.path}/hubs/{name}")[0] == 204
    assert hub_of(instance, failed, free.primary) == "c.test", "one is left"


def test_keys_are_rotated_while_clients_use_them(service):
    """DPS-INST-7: whoever signs with the key that stays is never refused, and the old one is worthless at once."""
    instance = made(service, "0neKeys1")
    first = keys(service, instance.id_scope, OWNER)
    stays = connection_string(instance.service_host, OWNER, first["secondaryKey"])
    group_key = fresh_group(instance)
    ended, refused, asked = threading.Event(), [], [0] * 4

    def use(number):
        with RawService(instance) as connection:
            while not ended.is_set():
                token = service_token(stays)
                answer = connection.ask("GET", "/enrollmentGroups/fleet", token=token)
                asked[number] += 1
                if answer.status != 200:
                    refused.append(answer.json)

    def is_good(key):
        """Whether it opens the instance, on a connection that is open and on a new one."""
        token = service_token(connection_string(instance.service_host, OWNER, key))
        on_new = ask(instance, "GET", "/enrollmentGroups/fleet", token=token)
        statuses = {on_new.status, open_connection.ask("GET", "/enrollmentGroups/fleet", token=token).status}
        assert statuses in ({200}, {401}), statuses
        return statuses == {200}

    with ThreadPoolExecutor(4) as threads, RawService(instance) as open_connection:
        users = [threads.submit(use, number) for number in range(4)]
        try:
            now = first
            for _ in range(6):
                old = now["primaryKey"]
                assert is_good(old)
                now = renewed(service, instance.id_scope, OWNER, "primary")
                assert now["secondaryKey"] == first["secondaryKey"] and now["primaryKey"] != old
                assert not is_good(old)
                assert is_good(now["primaryKey"])
                swapped = renewed(service, instance.id_scope, OWNER, "swap")
                assert (swapped["primaryKey"], swapped["secondaryKey"]) == (now["secondaryKey"], now["primaryKey"])
                assert is_good(swapped["primaryKey"]) and is_good(swapped["secondaryKey"])
                old = swapped["secondaryKey"]
                now = renewed(service, instance.id_scope, OWNER, "secondary")
                assert now["primaryKey"] == first["secondaryKey"] and not is_good(old)
                now = renewed(service, instance.id_scope, OWNER, "swap")
        finally:
            ended.set()
        for user in users:
            user.result()
    assert refused == [] and min(asked) > 10, asked
    assert registers(instance, "d1", derived_key(group_key, "d1"))


def test_what_was_set_is_there_after_a_crash(start, tmp_path):
    """DPS-INST-1, DPS-DEV-15: settings, keys, records, and what was changed of `dev`'s own instance."""
    service = start(data_dir=tmp_path / "data")
    rules = {"allowV1Leaf": False, "allowCaLeaf": "never"}
    instance = made(service, "0neKept1", defaultAllocationPolicy="static", claimAcrossGroups="refuse", x509=rules)
    assert admin(service, "PUT", f"{policies(instance.id_scope)}/reader", {"rights": ["EnrollmentRead"]})[0] == 200
    assert admin(service, "PUT", f"{instance.path}/hubs/far.example", {"kind": "static", "allocationWeight": 7})[0] == 200
    gone = made(service, "0neGone1")
    assert admin(service, "DELETE", gone.path)[0] == 204
    dev = Instance(service, service.id_scope, service.service_host)
    assert admin(service, "PUT", f"{dev.path}/hubs/second.localhost", {"kind": "local"})[0] == 200
    renewed(service, dev.id_scope, OWNER, "primary")
    group_key = fresh_group(instance, iotHubs=["hub.test"])
    assert hub_of(instance, "press-1", group_key) == "hub.test"
    told = {scope: keys(service, scope, OWNER) for scope in (dev.id_scope, instance.id_scope)}
    before, record = all_instances(service), instance.record("press-1")
    service.kill()

    service = start(data_dir=tmp_path / "data", address=service.address)
    assert all_instances(service) == before
    assert {scope: keys(service, scope, OWNER) for scope in told} == told
    assert service.contract["linkedHubs"] == ["hub.localhost", "second.localhost"]
    assert told[dev.id_scope]["primaryKey"] in service.contract["serviceConnectionString"]
    instance = Instance(service, instance.id_scope, instance.service_host)
    assert instance.record("press-1") == record
    assert hub_of(instance, "press-1", group_key) == "hub.test"
    assert admin(service, "GET", gone.path)[0] == 404


def test_dev_goes_with_its_hosts_and_its_id_scope(start, tmp_path):
    """DPS-DEV-15: its instance has the hosts of the start; with another ID scope they go to that one."""
    service = start(data_dir=tmp_path / "data")
    first, address = service.id_scope, service.address
    beside = made(service, "0neBeside1")
    dev = Instance(service, first, "localhost")
    hosts = dev.shown()["serviceHosts"]
    assert {"localhost", address} <= set(hosts)
    dev.change(serviceHosts=["localhost", "added.test"], linkedHubs=[{"name": "own.test", "kind": "static"}])
    shown = beside.shown()
    service.stop()

    service = start("--host", "also.test", data_dir=tmp_path / "data", address=address)
    dev = Instance(service, first, "localhost").shown()
    assert service.id_scope == first and service.contract["linkedHubs"] == ["own.test"]
    assert sorted(dev["serviceHosts"]) == sorted([*hosts, "also.test"]), "those of the start"
    service.stop()

    service = start("--id-scope", "0neSecond1", data_dir=tmp_path / "data", address=address)
    second = Instance(service, "0neSecond1", "localhost").shown()
    assert second["serviceHosts"] == hosts and service.contract["linkedHubs"] == ["hub.localhost"]
    left = Instance(service, first, "localhost").shown()
    assert left["serviceHosts"] == ["also.test"] and left["linkedHubs"] == dev["linkedHubs"]
    assert Instance(service, "0neBeside1", "x").shown() == shown
    service.stop()
    assert start(data_dir=tmp_path / "data", address=address).id_scope == "0neSecond1", "the one that it was about before"


def test_keys_that_are_given_count_and_others_stay_or_are_made(service):
    """DPS-INST-5: keys that are given count, those that are there stay, others are made."""
    given = fresh_key(64)
    named = [{"name": OWNER, "rights": RIGHTS, "primaryKey": given}, {"name": "reader", "rights": ["EnrollmentRead"]}]
    instance = made(service, "0neGiven1", sharedAccessPolicies=named)
    first = keys(service, "0neGiven1", OWNER)
    assert first["primaryKey"] == given and first["secondaryKey"] != given
    reader = keys(service, "0neGiven1", "reader")
    instance.change(claimAcrossGroups="refuse")
    instance.change(sharedAccessPolicies=[{"name": OWNER, "rights": RIGHTS, "secondaryKey": given}, named[1]])
    assert keys(service, "0neGiven1", OWNER)["secondaryKey"] == given
    assert keys(service, "0neGiven1", OWNER)["primaryKey"] == given
    assert keys(service, "0neGiven1", "reader") == reader
    # What is left out of a PUT takes its default; of policies it is those that are there.
    status, shown = admin(service, "PUT", instance.path, {}, if_match="*")
    assert (status, shown["claimAcrossGroups"], shown["linkedHubs"], shown["serviceHosts"]) == (200, "allow", [], [])
    assert [policy["name"] for policy in shown["sharedAccessPolicies"]] == [OWNER, "reader"]
    assert keys(service, "0neGiven1", "reader") == reader
