"""The official clients of an IoT Hub's registry, unmodified, behind the same few calls: JSON in, JSON out."""

import json
from contextlib import contextmanager

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.protocol.models import ExportImportDevice, Twin
from msrest.exceptions import HttpOperationError


class Refused(Exception):
    """What a client raises when the registry says no: its status, and the code in the header."""

    def __init__(self, status, name):
        super().__init__(f"{status} {name}")
        self.status = status
        self.name = name


class PythonRegistry:
    """azure-iot-hub."""

    def __init__(self, connection_string):
        self._manager = IoTHubRegistryManager.from_connection_string(connection_string)

    def create(self, device_id, primary="", secondary="", iot_edge=False):
        with _refusal():
            made = self._manager.create_device_with_sas(device_id, primary, secondary, "enabled", iot_edge)
            return made.serialize(keep_readonly=True)

    def get(self, device_id):
        with _refusal():
            return self._manager.get_device(device_id).serialize(keep_readonly=True)

    def set_thumbprints(self, device, primary, secondary):
        """On the version that was read."""
        with _refusal():
            return self._manager.update_device_with_x509(
                device["deviceId"], device["etag"], primary, secondary, "enabled"
            ).serialize(keep_readonly=True)

    def delete(self, device_id, etag=None):
        with _refusal():
            self._manager.delete_device(device_id, etag)

    def bulk(self, devices):
        with _refusal():
            result = self._manager.bulk_create_or_update_devices([ExportImportDevice.from_dict(it) for it in devices])
            return result.serialize(keep_readonly=True)

    def twin(self, device_id):
        with _refusal():
            return self._manager.get_twin(device_id).serialize(keep_readonly=True)

    def replace_twin(self, device_id, twin, etag=None):
        with _refusal():
            return self._manager.replace_twin(device_id, Twin.from_dict(twin), etag).serialize(keep_readonly=True)

    def merge_twin(self, device_id, twin, etag=None):
        with _refusal():
            return self._manager.update_twin(device_id, Twin.from_dict(twin), etag).serialize(keep_readonly=True)


class NodeRegistry:
    """azure-iothub. It replaces no twins, and changes and deletes one device on no condition; of several it can."""

    def __init__(self, node, connection_string):
        # It takes no port in the name of the host.
        host, rest = connection_string.split(";", 1)
        name, _, port = host.partition(":")
        string = f"{name};{rest}"

        def ask(**asked):
            answer = node.answer(connectionString=string, port=int(port or 443), **asked)
            if refusal := answer.get("refusal"):
                # It throws away the result of a bulk request that was refused in part.
                if errors := json.loads(refusal["body"]).get("errors"):
                    raise Refused(errors[0]["errorCode"] // 1000, None)
                raise Refused(refusal["status"], refusal["name"])
            assert "result" in answer, answer["error"]
            return answer["result"]

        self._ask = ask

    def create(self, device_id, primary="", secondary="", iot_edge=False):
        keys = {"primaryKey": primary, "secondaryKey": secondary}
        authentication = {"type": "sas", "symmetricKey": keys}
        device = {"deviceId": device_id, "authentication": authentication, "capabilities": {"iotEdge": iot_edge}}
        return self._ask(call="create", arguments=[device])

    def get(self, device_id):
        return self._ask(call="get", arguments=[device_id])

    def set_thumbprints(self, device, primary, secondary):
        """On the version that was read, by a bulk request."""
        thumbprints = {"primaryThumbprint": primary, "secondaryThumbprint": secondary}
        changed = {**device, "authentication": {"x509Thumbprint": thumbprints}}
        assert self._ask(call="updateDevices", arguments=[[changed], False])["isSuccessful"]
        return self.get(device["deviceId"])

    def delete(self, device_id, etag=None):
        if etag is None:
            self._ask(call="delete", arguments=[device_id])
        else:
            device = {"deviceId": device_id, "etag": etag}
            assert self._ask(call="removeDevices", arguments=[[device], False])["isSuccessful"]

    def bulk(self, devices):
        """It only makes devices by this."""
        assert all(device["importMode"] == "create" for device in devices)
        return self._ask(call="addDevices", arguments=[[{**it, "deviceId": it["id"]} for it in devices]])

    def twin(self, device_id):
        return self._ask(call="getTwin", arguments=[device_id])

    def merge_twin(self, device_id, twin, etag="*"):
        return self._ask(call="updateTwin", arguments=[device_id, twin, etag])


@contextmanager
def _refusal():
    try:
        yield
    except HttpOperationError as error:
        raise Refused(error.response.status_code, error.response.headers.get("iothub-errorcode")) from error
