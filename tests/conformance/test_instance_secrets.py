"""Who learns the key of a shared access policy, and what it opens."""

import base64
import json
import os

import pytest

import leaks
from admin import admin
from credentials import fresh_id, fresh_key
from enrollments import fresh_keys, individual, symmetric
from instances import OWNER, RIGHTS, Instance, connection_string, keys, made, policies, renewed, told
from raw_service import ask, enroll, service_token

MEMBERS = ("primaryKey", "secondaryKey")


@pytest.fixture
def service(start, tmp_path):
    return start(data_dir=tmp_path / "data")


def holds(text, secrets):
    """The names of the secrets in a text, in whatever way they are written there."""
    return leaks.Search(secrets).names_in(text if isinstance(text, bytes) else json.dumps(text).encode())


def remembered(*policies_with_keys):
    secrets = leaks.Secrets()
    for policy in policies_with_keys:
        for member in MEMBERS:
            secrets.add_base64(f"{member} of {policy['name']}", policy[member])
    return secrets


def test_keys_are_told_by_those_answers_alone_that_are_for_it(service, tmp_path):
    """DPS-INST-6: by list-keys, renew-key and the PUT that makes a policy; by no other, no log, no file."""
    instance = made(service, "0neSecret1")
    path = policies(instance.id_scope)
    given = {"primaryKey": fresh_key(64), "secondaryKey": fresh_key(16)}
    for number, (condition, body) in enumerate([(None, {}), ("*", {}), (None, given), ("present", {})]):
        if_match = instance.shown()["etag"] if condition == "present" else condition
        status, first = admin(service, "PUT", f"{path}/p{number}", {"rights": [], **body}, if_match=if_match)
        assert status == 200 and told((200, first)) == keys(service, instance.id_scope, f"p{number}"), number
        assert body.items() <= first.items()
        sizes = [len(base64.b64decode(first[member])) for member in MEMBERS]
        assert sizes == ([64, 16] if body else [64, 64])
    before = [keys(service, instance.id_scope, f"p{number}") for number in range(4)] + [keys(service, instance.id_scope, OWNER)]
    renewals = [renewed(service, instance.id_scope, "p0", key) for key in ("primary", "secondary", "swap")]
    secrets = remembered(*before, *renewals)

    shown = instance.shown()
    owner, p1 = {"name": OWNER, "rights": RIGHTS}, {"name": "p1", "rights": [], **given}
    silent = [
        ("GET", "/id-scopes", None),
        ("GET", instance.path, None),
        ("PUT", instance.path, shown),
        ("PUT", instance.path, {**shown, "sharedAccessPolicies": [owner, p1]}),
        ("GET", path, None),
        ("GET", f"{path}/p1", None),
        ("PUT", f"{path}/p1", {"rights": RIGHTS, **given}),
        ("PUT", f"{path}/p1", {"rights": []}),
        ("GET", f"{instance.path}/audit?limit=1000", None),
        ("GET", "/explanations", None),
        ("PUT", "/id-scopes/0neSecret2", {"sharedAccessPolicies": [{**owner, **given}]}),
        ("POST", "/id-scopes", {"sharedAccessPolicies": [{**owner, **given}]}),
    ]
    for method, where, body in silent:
        status, answer = admin(service, method, where, body, if_match="*" if method == "PUT" else None)
        assert status in (200, 201), (method, where, answer)
        assert holds(answer, secrets) == set(), (method, where)
        assert not any(member in json.dumps(answer).replace("KeySha256", "") for member in MEMBERS), (method, where)
    # Two keys can be told apart, and are the same where they are.
    scopes = (instance.id_scope, "0neSecret2")
    one, other = (admin(service, "GET", f"{policies(scope)}/{OWNER}")[1] for scope in scopes)
    assert one["primaryKeySha256"] != other["primaryKeySha256"] and len(one["primaryKeySha256"]) == 16
    assert admin(service, "GET", f"{path}/p1")[1]["primaryKeySha256"] == other["primaryKeySha256"]

    for where, body in [
        (f"{path}/bad", {"rights": [], "primaryKey": before[0]["primaryKey"] + "!"}),
        (f"{path}/bad", {"rights": [], "primaryKey": before[0]["primaryKey"] * 2}),
        (f"{path}/bad", {"rights": [before[0]["primaryKey"]]}),
        (f"{path}/bad", {"rights": before[0]["primaryKey"]}),
        (f"{path}/{before[0]['primaryKey'].replace('/', '%2F')}", {"rights": []}),
        (instance.path, {"sharedAccessPolicies": [{"name": before[0]["primaryKey"], "rights": RIGHTS}]}),
        (instance.path, {"sharedAccessPolicies": [before[0]["primaryKey"]]}),
        (instance.path, before[0]["primaryKey"]),
    ]:
        status, refused = admin(service, "PUT", where, body, if_match="*")
        assert status == 400 and holds(refused, secrets) == set(), (where, body, refused)
    status, refused = admin(service, "POST", f"{path}/p1/renew-key", {"key": before[0]["primaryKey"]})
    assert status == 400 and holds(refused, secrets) == set(), refused
    assert ask(instance, "GET", "/enrollments/d", token="SharedAccessSignature " + before[0]["primaryKey"]).status == 401

    # While it runs, its write-ahead log included, and once it has ended.
    for _ in range(2):
        complaints, searched = leaks.search(tmp_path, secrets)
        assert complaints == [] and searched[".log"] and searched[".db"], complaints
        if service.process.poll() is None:
            service.stop()


def test_keys_cannot_be_read_without_the_sealing_key(service, start, tmp_path):
    """DPS-INST-6: what the files hold is of no use without it."""
    made(service, "0neSealed1")
    service.stop()
    (tmp_path / "data" / "sealing.key").write_bytes(os.urandom(32))
    refused = start(data_dir=tmp_path / "data", ready=False)
    code, rest = refused.exited()
    assert code != 0 and rest == b"" and "seal" in refused.log().lower(), refused.log()


def test_no_token_of_a_policy_opens_the_admin_listener(service):
    """DPS-INST-11: every operation of the document, every policy of every instance, in each way that a token may be sent."""
    instances = [Instance(service, service.id_scope, service.service_host), made(service, "0neRights1")]
    told(admin(service, "PUT", f"{policies('0neRights1')}/every", {"rights": RIGHTS}))
    status, document = admin(service, "GET", "/openapi.json", authorization="")
    assert status == 200
    operations = [
        (method.upper(), path.removeprefix("/admin/v1"))
        for path, operations in document["paths"].items()
        for method in operations.keys() - {"parameters"}
    ]
    assert len(operations) == 29
    before = admin(service, "GET", "/id-scopes")[1]
    for instance, policy in [(instances[0], OWNER), (instances[1], OWNER), (instances[1], "every")]:
        key = keys(service, instance.id_scope, policy)["primaryKey"]
        signed = service_token(connection_string(instance.service_host, policy, key))
        for authorization in (signed, f"Bearer {signed}", key, f"Bearer {key}", "", "Bearer "):
            for method, path in operations:
                names = {"id_scope": instance.id_scope, "hub": "hub.test", "policy": policy, "name": "plant", "device_id": "d"}
                status, refused = admin(service, method, path.format(**names), authorization=authorization)
                assert (status, refused["status"]) == (401, 401), (method, path, refused)
                assert key not in refused["message"] and signed not in refused["message"]
    assert admin(service, "GET", "/id-scopes")[1] == before


# Every route of the service API.
SERVICE_PATHS = [
    ("GET", "/enrollments/d", None),
    ("PUT", "/enrollments/d", {"registrationId": "d", "attestation": {"type": "symmetricKey"}}),
    ("DELETE", "/enrollments/d", None),
    ("POST", "/enrollments/d/attestationmechanism", None),
    ("POST", "/enrollments/query", {"query": "SELECT *"}),
    ("POST", "/enrollments", {"mode": "delete", "enrollments": [{"registrationId": "d"}]}),
    ("GET", "/enrollmentGroups/g", None),
    ("PUT", "/enrollmentGroups/g", {"enrollmentGroupId": "g", "attestation": {"type": "symmetricKey"}}),
    ("DELETE", "/enrollmentGroups/g", None),
    ("POST", "/enrollmentGroups/g/attestationmechanism", None),
    ("POST", "/enrollmentGroups/query", {"query": "SELECT *"}),
    ("GET", "/registrations/d", None),
    ("DELETE", "/registrations/d", None),
    ("POST", "/registrations/g/query", None),
]


def test_the_admin_token_opens_no_service_api(service):
    """DPS-INST-11."""
    instance = made(service, "0neRights2")
    enroll(instance, individual("d", symmetric(fresh_keys())))
    token = open(service.contract["admin"]["tokenFile"]).read()
    before = ask(instance, "GET", "/enrollments/d").json
    as_key = service_token(connection_string(instance.service_host, OWNER, base64.b64encode(token.encode()[:64]).decode()))
    for authorization in (f"Bearer {token}", token, f"SharedAccessSignature {token}", as_key):
        for method, path, body in SERVICE_PATHS:
            answer = ask(instance, method, path, json_body=body, token=authorization)
            assert answer.refused()[0] == 401 and token not in json.dumps(answer.json), (method, path)
    assert ask(instance, "GET", "/enrollments/d").json == before


def test_nothing_of_one_instance_is_reached_with_the_rights_of_another(service):
    """DPS-INST-11, DPS-ACCESS-5: whichever host the token is for, and whichever name the policy has."""
    one, other = made(service, "0neRights3"), made(service, "0neRights4")
    registration_id = fresh_id()
    enroll(other, individual("d", symmetric(fresh_keys())))
    told(admin(service, "PUT", f"{policies(one.id_scope)}/{registration_id}", {"rights": RIGHTS}))
    before = ask(other, "GET", "/enrollments/d").json
    for policy in (OWNER, registration_id):
        key = keys(service, one.id_scope, policy)["primaryKey"]
        good = service_token(connection_string(one.service_host, policy, key))
        assert ask(one, "GET", "/enrollments/d", token=good).status == 404, "as it has none"
        for host in (one.service_host, other.service_host):
            token = service_token(connection_string(host, policy, key))
            for method, path, body in SERVICE_PATHS:
                answer = ask(other, method, path, json_body=body, token=token)
                assert answer.refused()[0] == 401, (policy, host, method, path)
    # Nor does a key count at the host that it was moved to with the host alone.
    key = keys(service, one.id_scope, OWNER)["primaryKey"]
    one.change(serviceHosts=[])
    other.change(serviceHosts=[other.service_host, one.service_host])
    assert ask(one, "GET", "/enrollments/d", token=service_token(connection_string(one.service_host, OWNER, key))).status == 401
    assert ask(other, "GET", "/enrollments/d").json == before
