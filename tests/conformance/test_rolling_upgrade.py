"""Three nodes of an earlier version, which are replaced by nodes of this one while official SDKs register, and one that goes back."""

import certificates
import pytest

from cluster import Cluster
from credentials import fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from official_devices import Fleet
from service import BINARY, EARLIER_BINARY
from service_clients import GROUP, INDIVIDUAL, PythonClient, trusted
from test_nodes import PATIENCE, assert_once


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path / "cluster", EARLIER_BINARY) as running, trusted(running.ca_file):
        yield running


@pytest.mark.timeout(600)
def test_nodes_are_replaced_one_after_the_other(cluster, tmp_path, record_property):
    """DPS-NODE-20, DPS-STORE-16: whichever versions run side by side, and whichever of them a device or a client asks."""
    keys = fresh_keys()
    root = certificates.authority(fresh_id("Root"))
    issuing = certificates.authority(fresh_id("Issuing"), root)
    first, second, third = (PythonClient(node.service_connection_string) for node in cluster.nodes)
    first.put(GROUP, group("line", symmetric(keys)))
    second.put(GROUP, group("plant", certificates.by_signer(root)))
    devices = tmp_path / "devices"
    devices.mkdir()
    with Fleet(cluster, devices, keys, issuing) as fleet:
        fleet.one_more_of_each_kind(PATIENCE)
        # As an operator goes about it, and has second thoughts about the last one.
        for number, binary in [(0, BINARY), (1, BINARY), (2, BINARY), (2, EARLIER_BINARY)]:
            code, _ = cluster.nodes[number].stop()
            assert code == 0, cluster.nodes[number].log_tail()
            cluster.start_node(number, binary)
            assert_all_know_what_each_writes([first, second, third])
            fleet.one_more_of_each_kind(PATIENCE)
    counted = f"{len(fleet.provisioned)} devices with official SDKs checked, {fleet.setbacks} attempts lost"
    record_property("counted", f"nodes were replaced by those of another version: {counted}")
    assert_once(cluster, fleet.provisioned)


def assert_all_know_what_each_writes(clients):
    for client in clients:
        name = fresh_id("press")
        written = client.put(INDIVIDUAL, individual(name, symmetric(fresh_keys())))
        for other in clients:
            assert other.get(INDIVIDUAL, name)["etag"] == written["etag"]
            assert other.keys(INDIVIDUAL, name) == client.keys(INDIVIDUAL, name)
        client.delete(INDIVIDUAL, name, written["etag"])
