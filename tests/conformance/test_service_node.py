"""The official Node client manages enrollments, unmodified."""

import functools

import pytest

from managing import ListsRecords, ManagesEnrollments
from node_client import Node, NodeClient
from service_clients import INDIVIDUAL, Refused


@pytest.fixture(scope="module")
def node(harbor):
    with Node(harbor.ca_file) as node:
        yield node


class TestNode(ManagesEnrollments, ListsRecords):
    """azure-iot-provisioning-service."""

    @pytest.fixture
    def connect(self, node):
        return functools.partial(NodeClient, node)

    def test_a_refusal_is_the_error_of_its_status(self, client):
        """DPS-SERVICE-5."""
        with pytest.raises(Refused) as raised:
            client.get(INDIVIDUAL, "no such id")
        assert raised.value.text.startswith("ArgumentError: "), raised.value.text
