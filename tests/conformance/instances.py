"""Service instances of a running service, beside the one that `dev` is about."""

from urllib.parse import quote

import leaks
from admin import admin
from raw_service import ask

OWNER = "provisioningserviceowner"
RIGHTS = [
    "ServiceConfig",
    "EnrollmentRead",
    "EnrollmentWrite",
    "DeviceConnect",
    "RegistrationStatusRead",
    "RegistrationStatusWrite",
]


class Instance:
    """One instance, for whatever takes a service. Its host leads to the address of the service only where a client says so."""

    def __init__(self, service, id_scope, host, policy=OWNER):
        self.service, self.id_scope, self.service_host, self.policy = service, id_scope, host, policy

    def __getattr__(self, name):
        return getattr(self.service, name)

    @property
    def path(self):
        return f"/id-scopes/{self.id_scope}"

    @property
    def service_connection_string(self):
        key = keys(self.service, self.id_scope, self.policy)["primaryKey"]
        return connection_string(self.service_host, self.policy, key)

    def shown(self):
        """As the admin API shows it."""
        status, shown = admin(self.service, "GET", self.path)
        assert status == 200, shown
        return shown

    def change(self, **members):
        """Replaces some of its settings."""
        before = self.shown()
        status, now = admin(self.service, "PUT", self.path, {**before, **members}, if_match=before["etag"])
        assert status == 200, now
        return now

    def record(self, registration_id):
        """The record of a device, or None."""
        answer = ask(self, "GET", f"/registrations/{registration_id}")
        assert answer.status in (200, 404), answer.json
        return answer.json if answer.status == 200 else None


def made(service, id_scope, host=None, hubs=(("hub.test", "local"),), **settings):
    """A new instance; the hubs are pairs of name and kind."""
    host = host or f"{id_scope}.test".lower()
    linked = [{"name": name, "kind": kind} for name, kind in hubs]
    body = {"serviceHosts": [host], "linkedHubs": linked, **settings}
    status, shown = admin(service, "PUT", f"/id-scopes/{id_scope}", body)
    assert status == 200, shown
    return Instance(service, shown["idScope"], host)


def keys(service, id_scope, policy):
    """A policy with its keys, which are remembered for the search for secrets."""
    return told(admin(service, "POST", f"{policies(id_scope)}/{policy}/list-keys"))


def renewed(service, id_scope, policy, key):
    """A policy with its keys after one of them was renewed, or both exchanged."""
    return told(admin(service, "POST", f"{policies(id_scope)}/{policy}/renew-key", {"key": key}))


def told(answer):
    """The body of an answer that tells keys."""
    status, policy = answer
    assert status == 200, policy
    for member in ("primaryKey", "secondaryKey"):
        leaks.made.add_base64(f"the {member} of {policy['name']}", policy[member])
    return policy


def policies(id_scope):
    return f"/id-scopes/{id_scope}/shared-access-policies"


def connection_string(host, policy, key):
    return f"HostName={host};SharedAccessKeyName={quote(policy)};SharedAccessKey={key}"


def all_instances(service):
    """Everything that is shown of all of them."""
    status, shown = admin(service, "GET", "/id-scopes")
    assert status == 200, shown
    return shown


def changes(service, id_scope):
    """What the audit has, oldest first: action, kind and id."""
    status, records = admin(service, "GET", f"/id-scopes/{id_scope}/audit?limit=1000")
    assert status == 200, records
    return [(one["action"], one["subject"]["type"], one["subject"]["id"]) for one in reversed(records)]
