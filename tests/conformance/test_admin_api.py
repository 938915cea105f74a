"""The API of the admin listener, held to its own OpenAPI document by schemathesis."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from admin import admin
from credentials import derived_key, fresh_id
from enrollments import individual
from raw_device import registers
from raw_service import enroll

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
    "unsupported_method",
]


@pytest.fixture
def service(start):
    return start()


def admin_of(service):
    admin = service.contract["admin"]
    return f"http://{admin['address']}:{admin['port']}", Path(admin["tokenFile"]).read_text().strip()


# Instances for the run to change: one for each way, so that what one operation deletes is not what the others need.
REPLACED, DELETED, PARTS = "0neREPLACED", "0neDELETED", "0nePARTS"
# And a device of `dev`'s own hub.
HUB_DEVICE = "press-7"

OWNER = {
    "name": "provisioningserviceowner",
    "rights": [
        "ServiceConfig",
        "EnrollmentRead",
        "EnrollmentWrite",
        "DeviceConnect",
        "RegistrationStatusRead",
        "RegistrationStatusWrite",
    ],
}


def configuration(service):
    """Names that exist, or often do: `dev`'s own instance where something is only read, and the others where it is changed."""
    changes = {
        "putInstance": {"path.id_scope": REPLACED, "header.If-Match": {"dictionary": "etags", "probability": 0.7}},
        "deleteInstance": {"path.id_scope": DELETED, "header.If-Match": {"dictionary": "etags", "probability": 0.7}},
    }
    hub, policy = ({"dictionary": name, "probability": 0.7} for name in ("hubs", "policies"))
    device = {"dictionary": "devices", "probability": 0.7}
    for operation in ("showHubDevice", "setHubDeviceStatus"):
        changes[operation] = {"path.device_id": device}
    for operation in ("listLinkedHubs", "listPolicies"):
        changes[operation] = {"path.id_scope": PARTS}
    for operation in ("showLinkedHub", "putLinkedHub", "deleteLinkedHub"):
        changes[operation] = {"path.id_scope": PARTS, "path.hub": hub}
    for operation in ("showPolicy", "putPolicy", "deletePolicy", "listKeys", "renewKey"):
        changes[operation] = {"path.id_scope": PARTS, "path.policy": policy}
    for operation in ("putLinkedHub", "putPolicy", "deleteLinkedHub", "deletePolicy", "renewKey"):
        changes[operation]["header.If-Match"] = {"dictionary": "etags", "probability": 0.7}
    lines = [
        "[dictionaries]",
        'etags = { values = ["*"] }',
        'hubs = { values = ["kept.test", "one.test", "two.test"] }',
        'policies = { values = ["provisioningserviceowner", "one", "two"] }',
        f'devices = {{ values = ["{HUB_DEVICE}"] }}',
        "[parameters]",
        f'"path.id_scope" = "{service.id_scope}"',
        f'"path.hub" = "{service.hub}"',
    ]
    for operation, parameters in changes.items():
        lines += ["[[operations]]", f'include-operation-id = "{operation}"', "[operations.parameters]"]
        for name, value in parameters.items():
            often = isinstance(value, dict) and "{{ dictionary = \"{dictionary}\", probability = {probability} }}".format(**value)
            lines.append(f'"{name}" = {often or json.dumps(value)}')
    return "\n".join(lines) + "\n"


@pytest.mark.timeout(420)
def test_the_admin_api_is_what_its_document_says(service, tmp_path):
    """DPS-DEV-14, DPS-AUDIT-4, DPS-X509-23, DPS-INST-4, DPS-BROKER-12: with names that exist, so that more than refusals is looked at."""
    enroll(service, individual(fresh_id("audited"), {"type": "symmetricKey"}))
    group = service.contract["enrollmentGroups"][0]
    assert registers(service, HUB_DEVICE, derived_key(group["primaryKey"], HUB_DEVICE))
    url, admin_token = admin_of(service)
    end = "-----END CERTIFICATE-----\n"
    certificate = Path(service.ca_file).read_text().split(end)[0] + end
    upload = {"certificate": certificate, "isVerified": True}
    assert admin(service, "PUT", f"/id-scopes/{service.id_scope}/certificates/plant", upload)[0] == 200
    for id_scope in (REPLACED, DELETED, PARTS):
        hubs = [{"name": "kept.test", "kind": "static"}, {"name": "one.test", "kind": "local"}]
        policies = [OWNER, {**OWNER, "name": "one"}]
        settings = {"linkedHubs": hubs, "sharedAccessPolicies": policies}
        assert admin(service, "PUT", f"/id-scopes/{id_scope}", settings)[0] == 200
    config = tmp_path / "schemathesis.toml"
    config.write_text(configuration(service))
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config)),
        *("run", f"{url}/admin/v1/openapi.json", "--header", f"Authorization: Bearer {admin_token}"),
        *("--checks", ",".join(CHECKS), "--max-examples", "25", "--seed", "20261126", "--no-color"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert "29 selected / 29 total" in ended.stdout, ended.stdout
    # It came as far as the changes themselves.
    made = sum(instance["managedBy"] == "store" for instance in admin(service, "GET", "/id-scopes")[1])
    assert made > 5, "by POST"
    for id_scope, kinds in [
        (service.id_scope, ["enabled hubDevice", "disabled hubDevice"]),
        (REPLACED, ["replaced serviceInstance"]),
        (DELETED, ["deleted serviceInstance"]),
        (PARTS, [f"{how} {what}" for how in ("created", "replaced", "deleted") for what in ("linkedHub", "sharedAccessPolicy")]),
    ]:
        _, audit = admin(service, "GET", f"/id-scopes/{id_scope}/audit?limit=1000")
        assert {f"{change['action']} {change['subject']['type']}" for change in audit} >= set(kinds), id_scope


def test_each_path_of_the_document_is_there_and_each_refusal_is_json(service):
    """DPS-DEV-14."""
    url, admin_token = admin_of(service)

    def ask(path, method="GET", authorized=True):
        headers = {"Authorization": f"Bearer {admin_token}"} if authorized else {}
        request = urllib.request.Request(f"{url}{path}", headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    status, document = ask("/admin/v1/openapi.json", authorized=False)
    assert (status, document["openapi"]) == (200, "3.1.0")
    names = {"{id_scope}": service.id_scope, "{hub}": service.hub, "{name}": "none", "{device_id}": "none", "{policy}": "none"}
    for path, operations in document["paths"].items():
        for name, value in names.items():
            path = path.replace(name, value)
        status, told = ask(path, "PATCH")
        assert (status, told["status"]) == (405, 405), path
        for method in operations.keys() - {"parameters"}:
            assert ask(path, method.upper(), authorized=False)[0] == 401, path
    for path, status in [
        ("/admin/v1/nothing", 404),
        ("/admin/v1/explanations?limit=many", 400),
        (f"/admin/v1/id-scopes/{service.id_scope}/audit?colour=red", 400),
        ("/admin/v1/id-scopes/%ff/audit", 400),
    ]:
        told = ask(path)
        assert (told[0], told[1]["status"]) == (status, status) and told[1]["message"], path
