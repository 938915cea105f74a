"""Hubs outside: `serve` with registries that stand in for Azure's, devices of its instance, and what became of them."""

import json
import re
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import sdk
from admin import admin
from credentials import derived_key, token
from enrollments import fresh_keys, group, symmetric
from https_device import HttpsDevice
from hub_registry import HubRegistry
from raw_service import ask, enroll
from registry_clients import PythonRegistry, Refused
from service_clients import trusted
from serving import ID_SCOPE, Serving, Site

NORTH, SOUTH, HOME = "north.test", "south.test", "home.test"

# Longer than a lease, after which what a worker left is taken up by another.
AFTER_A_LEASE = 100.0
SOON = 20.0
LOOK_EVERY = 0.1


class LinkedHubs:
    """One running service and its hubs. Use as a context manager."""

    def __init__(self, folder, outside, local=(), registry_options=(), log_level="info", **settings):
        self.site = Site(folder, log_level)
        self.registries, self.clients, self._keys = {}, {}, {}
        self.tables = {name: {"name": name, "kind": "local"} for name in local}
        self.settings, self.serving = settings, None
        self._outside, self._registry_options, self._open = outside, registry_options, ExitStack()

    def __enter__(self):
        for name in self._outside:
            folder = self.site.folder / name
            folder.mkdir()
            registry = HubRegistry(folder, *self._registry_options)
            self.registries[name] = self._open.enter_context(registry)
            self.site.trust(registry.ca_file)
            self.link(name, registry.connection_string)
        self._open.enter_context(trusted(str(self.site.trusted_file)))
        self.configure()
        self.start()
        return self

    def __exit__(self, *_):
        try:
            if self.serving.process.poll() is None:
                self.serving.record()
                self.serving.kill()
        finally:
            self._open.close()

    def link(self, name, connection_string):
        """A hub of that name, or another connection string for it; it counts from the next configuration on."""
        self.site.write_secret(f"{name}.key", connection_string)
        self.tables[name] = {"name": name, "kind": "azureIotHub", "connection_string_file": f"{name}.key"}
        self.clients[name] = PythonRegistry(connection_string)

    def configure(self, **settings):
        self.settings |= settings
        self.site.configure(self.tables.values(), **self.settings)

    def start(self):
        self.serving = Serving(self.site).ready()

    def reload(self, **settings):
        """Changes the configuration of the running service."""
        self.configure(**settings)
        told = "service instances of the configuration read again"
        before = self.serving.log().count(told)
        self.serving.send(1)
        until(lambda: self.serving.log().count(told) > before, "the configuration to be read again", SOON)

    # Devices

    def goes_to(self, hubs, name="fleet", **members):
        """Writes a group whose devices may go to these hubs; its keys stay."""
        keys = self._keys.setdefault(name, fresh_keys())
        hubs = [hubs] if isinstance(hubs, str) else list(hubs)
        enroll(self.serving, group(name, symmetric(keys), iotHubs=hubs, **members))

    def keys(self, device, name="fleet"):
        return self._keys[name].of(device)

    def register(self, device, payload=None, name="fleet", run=sdk.register):
        """What the SDK makes of it: the state of a device that was assigned."""
        result = run(self.serving, device, self.keys(device, name).primary, payload=payload)
        assert result.status == "assigned", result
        return result.registration_state

    def begin(self, device, name="fleet"):
        """Registers over HTTPS; its operation goes on."""
        return Operation(self.serving, device, self.keys(device, name).primary)

    def record(self, device):
        """Its record, or None."""
        answer = ask(self.serving, "GET", f"/registrations/{device}")
        assert answer.status in (200, 404), answer.json
        return answer.json if answer.status == 200 else None

    def records(self, name):
        """Those of a group, by registration id."""
        answer = ask(self.serving, "POST", f"/registrations/{name}/query", {}, headers={"x-ms-max-item-count": "1000"})
        assert answer.status == 200, answer.json
        return {record["registrationId"]: record for record in answer.json}

    def assigned(self, devices, name, hub, within):
        """Waits until all of them are at that hub."""

        def are_assigned():
            records = self.records(name)
            states = [(records[device]["status"], records[device].get("assignedHub")) for device in devices]
            assert all(status in ("assigning", "assigned") for status, _ in states), states
            return all(state == ("assigned", hub) for state in states)

        until(are_assigned, f"{len(devices)} devices assigned to {hub}", within)

    # Hubs

    def look(self, hub, device):
        """What a hub has of a device, without what only hubs write; None where it has none."""
        if hub not in self.registries:
            return self._look_at_home(hub, device)
        try:
            identity, twin = self.clients[hub].get(device), self.clients[hub].twin(device)
        except Refused as refused:
            assert (refused.status, refused.name) == (404, "DeviceNotFound")
            return None
        properties = twin["properties"]
        return {
            "tags": twin.get("tags", {}),
            "desired": _of_users(properties["desired"]),
            "reported": _of_users(properties["reported"]),
            "iotEdge": identity["capabilities"]["iotEdge"],
            "status": identity["status"],
        }

    def disable(self, hub, device):
        """Its operator lets it connect no more."""
        done = self.clients[hub].bulk([{"id": device, "importMode": "update", "status": "disabled"}])
        assert done["isSuccessful"] and self.look(hub, device)["status"] == "disabled"

    def _look_at_home(self, hub, device):
        path = f"/id-scopes/{ID_SCOPE}/hubs/{hub}/devices/{quote(device, safe='')}"
        status, kept = admin(self.serving, "GET", path)
        if status == 404:
            return None
        properties = kept["twin"].get("properties", {})
        return {
            "tags": kept["twin"].get("tags", {}),
            "desired": _of_users(properties.get("desired", {})),
            "reported": _of_users(properties.get("reported", {})),
            "iotEdge": kept["capabilities"]["iotEdge"],
            "status": kept["status"],
        }

    def homes(self, device):
        """The hubs that have it."""
        return [hub for hub in self.tables if hub in (*self.registries, HOME) and self.look(hub, device)]

    def only_at(self, hub, device, within=SOON):
        """Waits until it is there and nowhere else; what that hub has of it."""
        until(lambda: self.homes(device) == [hub], lambda: f"{device} only at {hub}, not {self.homes(device)}", within)
        return self.look(hub, device)

    def shown(self, hub):
        """A hub as the admin API shows it."""
        return self.serving.admin("GET", f"/hubs/{hub}")

    def healthy(self, hub, within):
        """Waits until it is."""
        until(lambda: self.shown(hub)["health"]["state"] == "healthy", f"{hub} to be healthy", within)

    def asked(self, hub, device):
        """The requests about a device that a hub has had from this service, as method and collection."""
        lines = []
        for request in self.registries[hub].requests():
            body = request["body"]
            names = [item["id"] for item in body] if request["line"].startswith("POST") else []
            if device in names or request["line"].endswith(f"/{quote(device, safe='')}"):
                lines.append(re.sub(r"^(\w+ /\w+).*", r"\1", request["line"]))
        return lines


class Operation:
    """A registration over HTTPS that may take its time."""

    def __init__(self, service, device, key):
        self.service, self.device, self.token = service, device, token(service.id_scope, device, key)
        status, body = self._ask(lambda client: client.register({"registrationId": device}, self.token))
        assert status == 202 and body["status"] == "assigning", body
        self.id = body["operationId"]

    def poll(self):
        """Status and registration state."""
        _, body = self._ask(lambda client: client.poll(self.id, self.token))
        return body["status"], body.get("registrationState")

    def ended(self, within=SOON):
        """Waits for its end."""
        found = until(lambda: _unless_assigning(self.poll()), f"{self.device} to be told how it ends", within)
        return found

    def _ask(self, call):
        with HttpsDevice(self.service, self.device) as client:
            return call(client)


def _unless_assigning(polled):
    return None if polled[0] == "assigning" else polled


def until(look, what, within):
    """Looks again and again; what it sees at last, which is not nothing."""
    end = time.monotonic() + within
    while not (seen := look()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {within} s for {what() if callable(what) else what}")
        time.sleep(LOOK_EVERY)
    return seen


def _of_users(properties):
    return {name: value for name, value in properties.items() if not name.startswith("$")}
