"""The official Python clients manage enrollments, unmodified."""

import pytest

from managing import ListsRecords, ManagesEnrollments, entry
from service_clients import GROUP, INDIVIDUAL, PythonBetaClient, PythonClient, Refused, trusted


@pytest.fixture(autouse=True)
def trust(harbor):
    with trusted(harbor.ca_file):
        yield


class TestPython(ManagesEnrollments):
    """azure-iothub-provisioningserviceclient."""

    @pytest.fixture
    def connect(self):
        return PythonClient

    def test_a_refusal_is_told_with_its_reason_phrase(self, client):
        """DPS-SERVICE-5: it is all that this client shows."""
        with pytest.raises(Refused) as raised:
            client.get(INDIVIDUAL, "nobody-here")
        assert raised.value.text == "Service Error 404 - Not Found"


class TestPythonBeta(ManagesEnrollments, ListsRecords):
    """azure-iot-deviceprovisioning."""

    @pytest.fixture
    def connect(self):
        return PythonBetaClient

    def test_groups_are_written_and_deleted_many_at_a_time(self, client):
        """DPS-SERVICE-20, DPS-SERVICE-21: the only client that can."""
        self.check_bulk(client, GROUP)


@pytest.mark.parametrize("kind", [PythonClient, PythonBetaClient])
def test_a_connection_string_may_name_a_port(start, kind):
    """DPS-ACCESS-5, DPS-ACCESS-2: these clients sign for it, too."""
    service = start(https_port=0)
    with trusted(service.ca_file):
        client = kind(service.service_connection_string)
        assert f":{service.https_port}" in service.service_connection_string
        assert client.put(INDIVIDUAL, entry(INDIVIDUAL, "Press7"))["registrationId"] == "Press7"
        assert [len(page) for page in client.pages(INDIVIDUAL, "*", 10)] == [1]
