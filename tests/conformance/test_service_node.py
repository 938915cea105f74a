"""The official Node client manages enrollments, unmodified."""

import functools

import pytest

from managing import ListsRecords, ManagesEnrollments, entry
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


def test_another_port_is_reached_through_an_agent(start):
    """DPS-ACCESS-5: what the tests above do where this user may not listen on 443."""
    service = start(https_port=0)
    with Node(service.ca_file) as node:
        client = NodeClient(node, service.service_connection_string)
        assert client.put(INDIVIDUAL, entry(INDIVIDUAL, "Press7"))["registrationId"] == "Press7"
        assert client.pages(INDIVIDUAL, "*", 10)[0][0]["registrationId"] == "Press7"


def test_a_stranger_is_not_trusted(harbor, start):
    """DPS-DEV-6: a service whose CA the client does not have is not spoken to."""
    with Node(start(https_port=0).ca_file) as node:
        with pytest.raises(AssertionError, match="certificate"):
            NodeClient(node, harbor.service_connection_string).get(INDIVIDUAL, "any")
