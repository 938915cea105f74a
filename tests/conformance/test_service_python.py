"""The official Python clients manage enrollments, unmodified."""

import pytest

from managing import ListsRecords, ManagesEnrollments
from service_clients import INDIVIDUAL, PythonBetaClient, PythonClient, Refused, trusted


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
