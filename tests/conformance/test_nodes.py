"""Official SDKs at three nodes that share a database, by the files of dist/nodes: also while nodes and the database are killed."""

import time

import certificates
import pytest

from admin import admin
from cluster import HUB, Cluster
from credentials import fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from official_devices import Fleet
from raw_service import ask
from service_clients import GROUP, INDIVIDUAL, PythonBetaClient, PythonClient, Refused, trusted

A_WHILE = 3.0
# As long as an SDK waits for an answer that was lost, some times over.
PATIENCE = 180.0


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster") as running, trusted(running.ca_file):
        yield running


@pytest.mark.timeout(600)
def test_devices_are_assigned_once_whatever_is_killed(cluster, tmp_path, record_property):
    """DPS-NODE-1, DPS-NODE-4, DPS-STORE-2: nodes one after the other, and then the database."""
    keys = fresh_keys()
    root = certificates.authority(fresh_id("Root"))
    issuing = certificates.authority(fresh_id("Issuing"), root)
    services = [PythonClient(node.service_connection_string) for node in cluster.nodes]
    services[0].put(GROUP, group("line", symmetric(keys)))
    services[1].put(GROUP, group("plant", certificates.by_signer(root)))
    devices = tmp_path / "devices"
    devices.mkdir()
    with Fleet(cluster, devices, keys, issuing) as fleet:
        fleet.one_more_of_each_kind(PATIENCE)
        for number in (1, 2, 0):
            cluster.kill_node(number)
            time.sleep(A_WHILE)
            cluster.start_node(number)
            time.sleep(A_WHILE)
        cluster.database.kill()
        time.sleep(A_WHILE)
        cluster.database.start_again()
        fleet.one_more_of_each_kind(PATIENCE)
    assert fleet.setbacks > 0, "no device noticed anything"
    counted = f"{len(fleet.provisioned)} devices with official SDKs checked, {fleet.setbacks} attempts lost"
    record_property("counted", f"nodes and the database were killed: {counted}")
    assert_once(cluster, fleet.provisioned)


def assert_once(cluster, provisioned):
    """Each has one record, and one device at the hub, which has what it proved itself with: whichever node is asked."""
    for table in ("registration", "hub_device"):
        rows = cluster.database.column(f"SELECT registration_id FROM {table}")
        assert sorted(rows) == sorted(provisioned), table
    for number, (device, told) in enumerate(provisioned.items()):
        assert (told.hub, told.device_id) == (HUB, device)
        asked, other = cluster.nodes[number % 3], cluster.nodes[(number + 1) % 3]
        record = ask(asked, "GET", f"/registrations/{device}").json
        assert (record["status"], record["assignedHub"], record["deviceId"]) == ("assigned", HUB, device), record
        status, kept = admin(other, "GET", f"/id-scopes/{cluster.id_scope}/hubs/{HUB}/devices/{device}")
        assert status == 200 and told.known_by in str(kept["authentication"]), kept


@pytest.mark.parametrize("client", [PythonClient, PythonBetaClient])
def test_what_a_service_sdk_writes_at_one_node_the_others_know(cluster, client):
    """DPS-NODE-1: at once, and on the version that any of them has told."""
    first, second, third = (client(node.service_connection_string) for node in cluster.nodes)
    for kind, made, name in [(INDIVIDUAL, individual, "press-1"), (GROUP, group, "line")]:
        written = first.put(kind, made(name, symmetric(fresh_keys())))
        for other in (second, third):
            assert other.get(kind, name)["etag"] == written["etag"]
            assert other.keys(kind, name) == first.keys(kind, name)
            assert [[entry["etag"] for entry in page] for page in other.pages(kind, "*", 10)] == [[written["etag"]]]
        changed = second.put(kind, {**written, "provisioningStatus": "disabled"})
        assert third.get(kind, name)["provisioningStatus"] == "disabled"
        with pytest.raises(Refused) as refused:
            first.put(kind, written)
        assert refused.value.status == 412
        third.delete(kind, name, changed["etag"])
        for node in (first, second, third):
            with pytest.raises(Refused) as refused:
                node.get(kind, name)
            assert refused.value.status == 404
