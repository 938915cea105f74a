"""The registry that hub tests use is one to the official SDKs, unmodified. What passes here may stand for Azure's elsewhere."""

import base64
import uuid

import pytest

from hub_registry import HubRegistry
from node_client import Node
from registry_clients import NodeRegistry, PythonRegistry, Refused
from service_clients import trusted

KEYS = [base64.b64encode(bytes([byte]) * 32).decode() for byte in (1, 2)]
THUMBPRINTS = ["AB" * 32, "CD" * 20]
NOBODY = "MTIzNDU2Nzg="


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    with HubRegistry(tmp_path_factory.mktemp("hub")) as registry, trusted(registry.ca_file):
        yield registry


@pytest.fixture(scope="module")
def node(registry):
    with Node(registry.ca_file, "registry.mjs") as node:
        yield node


@pytest.fixture
def device_id():
    """One with characters that mean something in a path."""
    return f"d:{uuid.uuid4()}#%?"


class AsksTheRegistry:
    """What every official client can do."""

    def test_a_device_is_made_read_and_deleted(self, client, device_id):
        made = client.create(device_id, *KEYS, iot_edge=True)
        assert made["deviceId"] == device_id
        assert list(made["authentication"]["symmetricKey"].values()) == KEYS
        read = client.get(device_id)
        assert read["etag"] == made["etag"] and read["generationId"] and read["capabilities"]["iotEdge"] is True
        assert read["deviceScope"].startswith("ms-azure-iot-edge://")
        self.refused(409, "DeviceAlreadyExists", client.create, device_id)
        client.delete(device_id)
        self.refused(404, "DeviceNotFound", client.get, device_id)
        self.refused(404, "DeviceNotFound", client.delete, device_id)
        self.refused(404, "DeviceNotFound", client.twin, device_id)

    def test_keys_that_are_not_given_are_made(self, client, device_id):
        keys = client.create(device_id)["authentication"]["symmetricKey"]
        assert len(base64.b64decode(keys["primaryKey"])) == 32 and keys["primaryKey"] != keys["secondaryKey"]

    def test_a_change_is_for_the_version_that_was_read(self, client, device_id):
        made = client.create(device_id, *KEYS)
        changed = client.set_thumbprints(made, *THUMBPRINTS)
        assert changed["authentication"]["type"] == "selfSigned"
        assert list(changed["authentication"]["x509Thumbprint"].values()) == THUMBPRINTS
        assert changed["etag"] != made["etag"]
        with pytest.raises(Refused) as stale:
            client.set_thumbprints(made, *THUMBPRINTS)
        assert stale.value.status == 412
        with pytest.raises(Refused) as stale:
            client.delete(device_id, made["etag"])
        assert stale.value.status == 412
        client.delete(device_id, changed["etag"])
        self.refused(404, "DeviceNotFound", client.get, device_id)

    def test_a_bulk_request_makes_a_device_with_its_twin(self, client, device_id):
        new = {
            "id": device_id,
            "importMode": "create",
            "status": "enabled",
            "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": THUMBPRINTS[0]}},
            "tags": {"place": "desk"},
            "properties": {"desired": {"interval": 5, "nested": {"a": [1, None]}}},
        }
        assert client.bulk([new])["isSuccessful"] is True
        twin = client.twin(device_id)
        assert twin["tags"] == {"place": "desk"}
        desired = twin["properties"]["desired"]
        assert desired["interval"] == 5 and desired["$version"] == 2 and "interval" in desired["$metadata"]
        assert client.get(device_id)["authentication"]["type"] == "selfSigned"

    def test_a_twin_is_merged_on_the_version_that_was_read(self, client, device_id):
        client.create(device_id)
        before = client.twin(device_id)
        first = {"tags": {"a": 1, "b": {"c": 2}}, "properties": {"desired": {"x": {"y": 1, "z": 2}}}}
        merged = client.merge_twin(device_id, first, before["etag"])
        assert merged["tags"] == first["tags"] and merged["etag"] != before["etag"]
        self.refused(412, "PreconditionFailed", client.merge_twin, device_id, first, before["etag"])
        second = {"tags": {"b": {"c": None, "d": 3}}, "properties": {"desired": {"x": {"y": None}}}}
        merged = client.merge_twin(device_id, second)
        assert merged["tags"] == {"a": 1, "b": {"d": 3}}
        assert merged["properties"]["desired"]["x"] == {"z": 2}

    def test_a_stranger_is_refused(self, registry, connect, device_id):
        head, _ = registry.connection_string.rsplit("SharedAccessKey=", 1)
        self.refused(401, "IotHubUnauthorizedAccess", connect(f"{head}SharedAccessKey={KEYS[0]}").get, device_id)

    def test_it_fails_on_command(self, registry, client, device_id):
        # Nothing that these clients would try again by themselves.
        registry.plan("readIdentity", {"refuse": {"status": 403, "code": "IotHubQuotaExceeded"}}, times=2)
        self.refused(403, "IotHubQuotaExceeded", client.get, device_id)
        registry.heal()
        self.refused(404, "DeviceNotFound", client.get, device_id)

    @staticmethod
    def refused(status, name, call, *arguments):
        with pytest.raises(Refused) as raised:
            call(*arguments)
        assert (raised.value.status, raised.value.name) == (status, name)


class TestPython(AsksTheRegistry):
    """azure-iot-hub."""

    @pytest.fixture
    def connect(self, registry):
        return PythonRegistry

    @pytest.fixture
    def client(self, registry, connect):
        return connect(registry.connection_string)

    def test_a_bulk_request_says_what_was_refused(self, client, device_id):
        """DPS-HUB-12: 400 with a result is no exception to this client."""
        client.create(device_id)
        others = [f"{device_id}-{number}" for number in range(2)]
        modes = [(device_id, "create"), (others[0], "create"), (others[1], "update")]
        result = client.bulk([{"id": name, "importMode": mode} for name, mode in modes])
        assert result["isSuccessful"] is False
        refused = {error["deviceId"]: int(error["errorCode"]) for error in result["errors"]}
        assert refused == {device_id: 409001, others[1]: 404001}
        assert client.get(others[0])["deviceId"] == others[0]
        stale = client.bulk([{"id": device_id, "importMode": "deleteIfMatchETag", "eTag": NOBODY}])
        assert [int(error["errorCode"]) for error in stale["errors"]] == [412001]

    def test_a_twin_is_replaced_on_the_version_that_was_read(self, client, device_id):
        client.create(device_id)
        first = client.replace_twin(device_id, {"tags": {"a": 1}, "properties": {"desired": {"x": 1}}})
        second = client.replace_twin(device_id, {"tags": {"b": 2}, "properties": {"desired": {}}}, first["etag"])
        assert second["tags"] == {"b": 2} and "x" not in second["properties"]["desired"]
        self.refused(412, "PreconditionFailed", client.replace_twin, device_id, {"tags": {}}, first["etag"])


class TestNode(AsksTheRegistry):
    """azure-iothub."""

    @pytest.fixture
    def connect(self, node):
        return lambda connection_string: NodeRegistry(node, connection_string)

    @pytest.fixture
    def client(self, registry, connect):
        return connect(registry.connection_string)

    def test_a_device_that_exists_fails_the_bulk_request(self, client, device_id):
        """DPS-HUB-12: this client throws at 400."""
        client.create(device_id)
        with pytest.raises(Refused) as raised:
            client.bulk([{"id": device_id, "importMode": "create"}])
        assert raised.value.status == 409
