"""The API of the admin listener, held to its own OpenAPI document by schemathesis."""

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from credentials import fresh_id
from enrollments import individual
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


def test_the_admin_api_is_what_its_document_says(service, tmp_path):
    """DPS-DEV-14, DPS-AUDIT-4, DPS-X509-23: with names that exist, so that more than refusals is looked at."""
    enroll(service, individual(fresh_id("audited"), {"type": "symmetricKey"}))
    url, admin_token = admin_of(service)
    end = "-----END CERTIFICATE-----\n"
    certificate = Path(service.ca_file).read_text().split(end)[0] + end
    request = urllib.request.Request(
        f"{url}/admin/v1/id-scopes/{service.id_scope}/certificates/plant",
        json.dumps({"certificate": certificate, "isVerified": True}).encode(),
        {"Authorization": f"Bearer {admin_token}"},
        method="PUT",
    )
    assert urllib.request.urlopen(request, timeout=10).status == 200
    config = tmp_path / "schemathesis.toml"
    config.write_text(f'[parameters]\nid_scope = "{service.id_scope}"\nhub = "{service.hub}"\n')
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", str(config)),
        *("run", f"{url}/admin/v1/openapi.json", "--header", f"Authorization: Bearer {admin_token}"),
        *("--checks", ",".join(CHECKS), "--max-examples", "25", "--seed", "20261126", "--no-color"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert ended.returncode == 0, ended.stdout[-8000:] + ended.stderr[-2000:]
    assert "11 selected / 11 total" in ended.stdout, ended.stdout


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
    names = {"{id_scope}": service.id_scope, "{hub}": service.hub, "{name}": "none", "{device_id}": "none"}
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
