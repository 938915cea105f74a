"""Changes of service instances: on which condition, at the same time, and those that are refused."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from admin import admin
from credentials import fresh_key
from instances import OWNER, RIGHTS, Instance, all_instances, changes, keys, made, policies, renewed, told

OWNER_POLICY = {"name": OWNER, "rights": RIGHTS}
LOCAL = {"kind": "local"}


@pytest.fixture
def service(start):
    return start()


def test_an_instance_is_written_only_as_its_condition_says(service):
    """DPS-INST-4: each of these, on an instance that is there and on one that is not."""
    instance = made(service, "0neCond1", sharedAccessPolicies=[OWNER_POLICY, {"name": "reader", "rights": []}])
    old = instance.shown()["etag"]
    instance.change(claimAcrossGroups="refuse")
    hub, policy = f"{instance.path}/hubs", policies(instance.id_scope)
    reader = {"rights": ["EnrollmentRead"]}
    # Method, path, body, and the status without If-Match, with an older etag, with `*`, with the present etag.
    table = [
        ("PUT", instance.path, {"linkedHubs": [{"name": "hub.test", **LOCAL}]}, (409, 412, 200, 200)),
        ("PUT", f"{hub}/hub.test", LOCAL, (409, 412, 200, 200)),
        ("PUT", f"{hub}/new-{{}}.test", LOCAL, (200, 412, 200, 200)),
        ("PUT", f"{policy}/reader", reader, (409, 412, 200, 200)),
        ("PUT", f"{policy}/new-{{}}", reader, (200, 412, 200, 200)),
        ("POST", f"{policy}/reader/renew-key", {"key": "primary"}, (200, 412, 200, 200)),
        ("DELETE", f"{hub}/new-{{}}.test", None, (204, 412, 204, 204)),
        ("DELETE", f"{policy}/new-{{}}", None, (204, 412, 204, 204)),
        ("DELETE", f"{hub}/absent.test", None, (404, 412, 404, 404)),
        ("DELETE", f"{policy}/absent", None, (404, 412, 404, 404)),
    ]
    for method, path, body, expected in table:
        for number, (condition, status) in enumerate(zip((None, old, "*", "present"), expected)):
            before = instance.shown()
            given = before["etag"] if condition == "present" else condition
            # What a PUT has made is there for the DELETE of the same number.
            answer = admin(service, method, path.format(number + (number == 1)), body, if_match=given)
            case = (method, path, condition, answer)
            assert answer[0] == status, case
            if status < 300:
                assert instance.shown()["etag"] != before["etag"], case
            else:
                assert instance.shown() == before and answer[1]["message"], case
    # Whatever is not there.
    for if_match, status in ((old, 412), (None, 200)):
        assert admin(service, "PUT", "/id-scopes/0neCond2", {}, if_match=if_match)[0] == status
    assert admin(service, "PUT", "/id-scopes/0neCond3", {}, if_match="*")[0] == 200
    for if_match, status in ((old, 412), (f'"{old}"', 412), ("*", 204)):
        assert admin(service, "DELETE", "/id-scopes/0neCond3", if_match=if_match)[0] == status
    shown = Instance(service, "0neCond2", "x").shown()
    assert admin(service, "DELETE", "/id-scopes/0neCond2", if_match=f'"{shown["etag"]}"')[0] == 204, "in quotes"
    assert admin(service, "DELETE", "/id-scopes/0neCond2")[0] == 404


def test_an_id_scope_keeps_the_spelling_it_was_made_with(service):
    """DPS-INST-4, DPS-ID-2."""
    made(service, "0neSpelt1")
    status, shown = admin(service, "PUT", "/id-scopes/0NESPELT1", {"idScope": "0nespelt1"}, if_match="*")
    assert (status, shown["idScope"]) == (200, "0neSpelt1")
    assert admin(service, "GET", "/id-scopes/0nespelt1")[1] == shown


def test_of_many_changes_at_once_none_is_lost(service):
    """DPS-INST-4: hubs, policies and keys, each changed by a thread of its own."""
    count = 24
    named = [OWNER_POLICY, *({"name": f"kept-{number}", "rights": []} for number in range(count))]
    hubs = [(f"gone-{number}.test", "static") for number in range(count)]
    instance = made(service, "0neMany1", hubs=hubs, sharedAccessPolicies=named)
    hub, policy = f"{instance.path}/hubs", policies(instance.id_scope)
    before = {number: keys(service, instance.id_scope, f"kept-{number}") for number in range(count)}

    def change(number):
        return [
            admin(service, "PUT", f"{hub}/h-{number}.test", {"kind": "static", "allocationWeight": number + 1})[0],
            admin(service, "PUT", f"{policy}/p-{number}", {"rights": ["EnrollmentRead"]})[0],
            admin(service, "POST", f"{policy}/kept-{number}/renew-key", {"key": "secondary"})[0],
            admin(service, "PUT", f"{hub}/h-{number}.test", {"kind": "local", "allocationWeight": number + 2}, if_match="*")[0],
            admin(service, "DELETE", f"{hub}/gone-{number}.test")[0],
        ]

    with ThreadPoolExecutor(12) as threads:
        assert list(threads.map(change, range(count))) == [[200, 200, 200, 200, 204]] * count
    shown = instance.shown()
    weights = {linked["name"]: (linked["kind"], linked["allocationWeight"]) for linked in shown["linkedHubs"]}
    assert weights == {f"h-{number}.test": ("local", number + 2) for number in range(count)}
    names = {policy["name"] for policy in shown["sharedAccessPolicies"]}
    assert names == {OWNER, *(f"{kind}-{number}" for kind in ("p", "kept") for number in range(count))}
    for number in range(count):
        now = keys(service, instance.id_scope, f"kept-{number}")
        assert now["primaryKey"] == before[number]["primaryKey"] and now["secondaryKey"] != before[number]["secondaryKey"]
    assert len(changes(service, instance.id_scope)) == 1 + 5 * count

    # Of those that are made on one version, one is.
    etag = shown["etag"]
    with ThreadPoolExecutor(12) as threads:
        change = lambda number: admin(service, "PUT", f"{hub}/race-{number}.test", LOCAL, if_match=etag)[0]
        assert sorted(threads.map(change, range(12))) == [200] + [412] * 11
        make = lambda number: admin(service, "PUT", "/id-scopes/0neRace1", {"serviceHosts": [f"r{number}.test"]})[0]
        assert sorted(threads.map(make, range(12))) == [200] + [409] * 11
        # A service host belongs to one instance, whoever comes first. Spec: DPS-INST-3
        claim = lambda number: admin(service, "PUT", f"/id-scopes/0neHost{number}", {"serviceHosts": ["claimed.test"]})[0]
        assert sorted(threads.map(claim, range(12))) == [200] + [409] * 11


def test_each_change_is_in_the_audit(service):
    """DPS-INST-10: under what it is of, with the admin as its author."""
    instance = made(service, "0neAudit1", hubs=[])
    hub, policy = f"{instance.path}/hubs/A.test", f"{policies(instance.id_scope)}/Reader"
    assert admin(service, "PUT", hub, LOCAL)[0] == 200
    assert admin(service, "PUT", hub, {**LOCAL, "allocationWeight": 2}, if_match="*")[0] == 200
    told(admin(service, "PUT", policy, {"rights": []}))
    renewed(service, instance.id_scope, "reader", "swap")
    assert admin(service, "PUT", policy, {"rights": ["EnrollmentRead"]}, if_match="*")[0] == 200
    instance.change(claimAcrossGroups="refuse")
    assert admin(service, "PUT", hub, LOCAL)[0] == 409, "what is refused is no change"
    keys(service, instance.id_scope, "reader")
    assert admin(service, "DELETE", hub)[0] == 204
    assert admin(service, "DELETE", policy)[0] == 204
    etag = instance.shown()["etag"]
    assert admin(service, "DELETE", instance.path)[0] == 204
    assert changes(service, instance.id_scope) == [
        ("created", "serviceInstance", "0neAudit1"),
        ("created", "linkedHub", "A.test"),
        ("replaced", "linkedHub", "A.test"),
        ("created", "sharedAccessPolicy", "Reader"),
        ("replaced", "sharedAccessPolicy", "Reader"),
        ("replaced", "sharedAccessPolicy", "Reader"),
        ("replaced", "serviceInstance", "0neAudit1"),
        ("deleted", "linkedHub", "A.test"),
        ("deleted", "sharedAccessPolicy", "Reader"),
        ("deleted", "serviceInstance", "0neAudit1"),
    ]
    _, records = admin(service, "GET", f"{instance.path}/audit?id=reader")
    assert [record["subject"]["id"] for record in records] == ["Reader"] * 4
    _, records = admin(service, "GET", f"{instance.path}/audit")
    assert {record["principal"]["type"] for record in records} == {"admin"}
    assert [record["etag"] is None for record in records] == [True] * 3 + [False] * 7
    assert records[3]["etag"] != etag and len({record["etag"] for record in records[3:]}) == 7


def test_the_largest_instance_is_written_and_its_answer_sent_back(service):
    """DPS-INST-12, DPS-INST-2: a hundred hubs and policies with names as long as names are, and with all that they may have."""
    name = lambda number, length: f"{number:03}" + "x" * (length - 3)
    host = lambda number: ".".join([name(number, 60)] * 4 + ["x" * 9])
    rights = {"rights": RIGHTS}
    networks = [f"2001:{number:x}:ffff:ffff:ffff:ffff:ffff:ffff/128" for number in range(64)]

    def azure(number):
        reached = f"HostName={host(number)};SharedAccessKeyName={'p' * 100};SharedAccessKey={fresh_key(64)}"
        set_of_it = {"allocationWeight": 1000, "draining": True, "networks": networks, "connectionString": reached}
        return {"name": host(number), "kind": "azureIotHub", **set_of_it}

    largest = {
        "serviceHosts": [host(number) for number in range(64)],
        "linkedHubs": [azure(number) for number in range(100)],
        "sharedAccessPolicies": [
            {"name": name(number, 64), **rights, "primaryKey": fresh_key(64), "secondaryKey": fresh_key(64)}
            for number in range(100)
        ],
    }
    assert len(host(0)) == 253 and 256 * 1024 < len(json.dumps(largest)) < 512 * 1024
    status, shown = admin(service, "PUT", "/id-scopes/0neLarge1", largest)
    assert status == 200, shown
    assert admin(service, "GET", "/id-scopes/0neLarge1") == (200, shown)
    status, again = admin(service, "PUT", "/id-scopes/0neLarge1", shown, if_match=shown["etag"])
    versions = ("etag", "lastUpdatedDateTimeUtc")
    assert status == 200 and {**again, **dict.fromkeys(versions)} == {**shown, **dict.fromkeys(versions)}
    for more, member in [
        ({"serviceHosts": [*largest["serviceHosts"], "one.more"]}, "serviceHosts: there are 65, and 64"),
        ({"linkedHubs": [*largest["linkedHubs"], {"name": "one.more", **LOCAL}]}, "linkedHubs: there are 101, and 100"),
        ({"sharedAccessPolicies": [OWNER_POLICY, *shown["sharedAccessPolicies"]]}, "Policies: there are 101, and 100"),
    ]:
        status, refused = admin(service, "PUT", "/id-scopes/0neLarge1", {**shown, **more}, if_match="*")
        assert status == 400 and member in refused["message"], refused
    for path, what in (("hubs/one.more", LOCAL), ("shared-access-policies/one-more", {"rights": []})):
        status, refused = admin(service, "PUT", f"/id-scopes/0neLarge1/{path}", what)
        assert status == 400 and "there are 101, and 100" in refused["message"], refused
    assert admin(service, "GET", "/id-scopes/0neLarge1") == (200, again)


NAMED_HUB = {"name": "x.test", "kind": "local"}
SECRET = "c2VjcmV0IHNlY3JldCBzZWNyZXQgc2VjcmV0IHNlY3I="
CONNECTION_STRING = f"HostName=x.test;SharedAccessKeyName=owner;SharedAccessKey={SECRET}"

# Method, path below the instance (or an absolute one), body, status, and what the message has.
BAD = [
    ("PUT", "", b"", 400, "the body"),
    ("PUT", "", b"{", 400, "the body"),
    ("PUT", "", b"[]", 400, "the body: must be a JSON object"),
    ("PUT", "", b'"text"', 400, "the body: must be a JSON object"),
    ("PUT", "", b"{} {}", 400, "trailing characters"),
    ("PUT", "", b"\xff", 400, "the body"),
    ("PUT", "", b"[" * 200, 400, "recursion limit"),
    ("PUT", "", {"colour": 1}, 400, "colour: there is no such member"),
    ("PUT", "", {"idScope": "0neOther9"}, 400, "idScope: 0neOther9 is not 0neBad1"),
    ("PUT", "", {"idScope": 7}, 400, "idScope: must be a string"),
    ("PUT", "", {"serviceHosts": "x.test"}, 400, "serviceHosts: must be an array"),
    ("PUT", "", {"serviceHosts": [7]}, 400, "serviceHosts[0]: must be a string"),
    ("PUT", "", {"serviceHosts": ["ok.test", "x y"]}, 400, "serviceHosts[1]"),
    ("PUT", "", {"serviceHosts": ["x.test:443"]}, 400, "serviceHosts[0]"),
    ("PUT", "", {"serviceHosts": ["x.test", "X.test"]}, 400, "serviceHosts: x.test stands there twice"),
    ("PUT", "", {"serviceHosts": ["localhost"]}, 409, "serviceHosts: localhost belongs to"),
    ("PUT", "", {"defaultAllocationPolicy": "custom"}, 400, "defaultAllocationPolicy"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "networks": ["10.0.0.0/33"]}]}, 400, "linkedHubs[0].networks[0]"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "networks": ["10.0.0.0/8"] * 65}]}, 400, "networks"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "applyAllocationPolicy": "no"}]}, 400, "applyAllocationPolicy"),
    ("PUT", "", {"defaultAllocationPolicy": 1}, 400, "defaultAllocationPolicy: must be a string"),
    ("PUT", "", {"claimAcrossGroups": "ask"}, 400, "claimAcrossGroups"),
    ("PUT", "", {"x509": []}, 400, "x509: must be an object"),
    ("PUT", "", {"x509": {"allowV1Leaf": "yes"}}, 400, "x509.allowV1Leaf: must be true or false"),
    ("PUT", "", {"x509": {"allowCaLeaf": "maybe"}}, 400, "x509.allowCaLeaf"),
    ("PUT", "", {"x509": {"allowAll": True}}, 400, "x509.allowAll: there is no such member"),
    ("PUT", "", {"linkedHubs": {}}, 400, "linkedHubs: must be an array"),
    ("PUT", "", {"linkedHubs": ["x.test"]}, 400, "linkedHubs[0]: must be an object"),
    ("PUT", "", {"linkedHubs": [{"kind": "local"}]}, 400, "linkedHubs[0].name: is missing"),
    ("PUT", "", {"linkedHubs": [{"name": "x.test"}]}, 400, "linkedHubs[0].kind: is missing"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "kind": "azure"}]}, 400, "linkedHubs[0].kind"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "name": "-x"}]}, 400, "linkedHubs[0].name"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "allocationWeight": 0}]}, 400, "linkedHubs[0].allocationWeight: 0"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "allocationWeight": 1001}]}, 400, "linkedHubs[0].allocationWeight: 1001"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "allocationWeight": -1}]}, 400, "linkedHubs[0].allocationWeight"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "allocationWeight": "1"}]}, 400, "linkedHubs[0].allocationWeight"),
    ("PUT", "", {"linkedHubs": [{**NAMED_HUB, "key": 1}]}, 400, "linkedHubs[0].key: there is no such member"),
    ("PUT", "", {"linkedHubs": [NAMED_HUB, {**NAMED_HUB, "name": "X.TEST"}]}, 400, "linkedHubs: x.test stands there twice"),
    ("PUT", "", {"sharedAccessPolicies": []}, 400, "sharedAccessPolicies: the instance needs an owner"),
    ("PUT", "", {"sharedAccessPolicies": [{"name": OWNER, "rights": RIGHTS[:5]}]}, 400, "needs an owner"),
    ("PUT", "", {"sharedAccessPolicies": [OWNER_POLICY, {**OWNER_POLICY, "name": OWNER.upper()}]}, 400, "stands there twice"),
    ("PUT", "", {"sharedAccessPolicies": [{"name": OWNER}]}, 400, "sharedAccessPolicies[0].rights: is missing"),
    ("PUT", "", {"sharedAccessPolicies": [{"rights": RIGHTS}]}, 400, "sharedAccessPolicies[0].name: is missing"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "rights": "all"}]}, 400, "[0].rights: must be an array"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "rights": ["Everything"]}]}, 400, "sharedAccessPolicies[0].rights[0]"),
    ("PUT", "", {"sharedAccessPolicies": [SECRET]}, 400, "sharedAccessPolicies[0]: must be an object"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "name": SECRET}]}, 400, "sharedAccessPolicies[0].name"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "rights": [SECRET]}]}, 400, "sharedAccessPolicies[0].rights[0]"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "rights": SECRET}]}, 400, "sharedAccessPolicies[0].rights"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "primaryKey": "!" + SECRET}]}, 400, "[0].primaryKey: the key is not"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "secondaryKey": SECRET * 2}]}, 400, "[0].secondaryKey"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "primaryKey": SECRET[:16]}]}, 400, "the key has 12 bytes"),
    ("PUT", "", {"sharedAccessPolicies": [{**OWNER_POLICY, "primaryKey": [SECRET]}]}, 400, "primaryKey: must be a string"),
    ("PUT", "", b" " * (1024 * 1024 + 1), 413, "length limit"),
    ("PATCH", "", {}, 405, "method"),
    ("PUT", "/id-scopes/a", {}, 400, "the ID scope"),
    ("PUT", "/id-scopes/0ne-1", {}, 400, "the ID scope"),
    ("PUT", "/id-scopes/enrollments", {}, 400, "reserved"),
    ("GET", "/id-scopes/0neNone1", None, 404, "0neBad1"),
    ("DELETE", "/id-scopes/0neNone1", None, 404, "0neBad1"),
    ("PUT", "/id-scopes", {}, 405, "method"),
    ("POST", "/id-scopes", {"idScope": "0neMine1"}, 400, "PUT /admin/v1/id-scopes/0neMine1"),
    ("POST", "/id-scopes", {"serviceHosts": ["bad.test"]}, 409, "bad.test belongs to the service instance 0neBad1"),
    ("POST", "/id-scopes", b" " * (1024 * 1024 + 1), 413, "length limit"),
    ("PUT", "/id-scopes/0neNone1/hubs/x.test", LOCAL, 404, "0neBad1"),
    ("PUT", "/hubs/x_y", LOCAL, 400, "name"),
    ("PUT", "/hubs/x.test", {}, 400, "kind: is missing"),
    ("PUT", "/hubs/x.test", {"kind": 1}, 400, "kind: must be a string"),
    ("PUT", "/hubs/x.test", {**LOCAL, "allocationWeight": 1.5}, 400, "allocationWeight"),
    ("PUT", "/hubs/x.test", {**LOCAL, "connectionString": SECRET}, 400, "connectionString: part 1"),
    ("PUT", "/hubs/x.test", {**LOCAL, "draining": "no"}, 400, "draining: must be true or false"),
    ("PUT", "/hubs/x.test", {"kind": "azureIotHub"}, 400, "x.test is an Azure IoT Hub and has no connectionString"),
    ("GET", "/clean-ups?afterHub=x.test", None, 400, "give both or neither"),
    ("GET", "/clean-ups?afterHub=x_y&afterDeviceId=d", None, 400, "afterHub"),
    ("GET", "/clean-ups?afterHub=x.test&afterDeviceId=a%2Fb", None, 400, "afterDeviceId"),
    ("GET", "/clean-ups?limit=many", None, 400, "limit"),
    ("GET", "/clean-ups?colour=red", None, 400, "colour"),
    ("GET", "/id-scopes/0neNone1/clean-ups", None, 404, "0neBad1"),
    ("PUT", "", {"whenSourceUnavailable": "wait"}, 400, "whenSourceUnavailable"),
    ("PUT", "", {"passOverUnhealthyHubs": "yes"}, 400, "passOverUnhealthyHubs: must be true or false"),
    ("PUT", "/hubs/x.test", {**LOCAL, "connectionString": CONNECTION_STRING}, 400, "connectionString"),
    ("PUT", "/hubs/x.test", {**LOCAL, "sharedAccessKey": SECRET}, 400, "sharedAccessKey: there is no such member"),
    ("PUT", "/hubs/x.test", b" " * (64 * 1024 + 1), 413, "length limit"),
    ("GET", "/hubs/none.test", None, 404, "none.test"),
    ("DELETE", "/hubs/none.test", None, 404, "none.test"),
    ("POST", "/hubs", LOCAL, 405, "method"),
    ("PUT", "/shared-access-policies/a%20b", {"rights": []}, 400, "the name of the policy"),
    ("PUT", "/shared-access-policies/p", {}, 400, "rights: is missing"),
    ("PUT", "/shared-access-policies/p", {"rights": [1]}, 400, "rights[0]: must be a string"),
    ("PUT", "/shared-access-policies/p", {"rights": [], "primaryKey": SECRET + "?"}, 400, "primaryKey: the key is not Base64"),
    ("PUT", "/shared-access-policies/p", {"rights": [], "key": SECRET}, 400, "key: there is no such member"),
    ("GET", "/shared-access-policies/none", None, 404, "no shared access policy"),
    ("DELETE", "/shared-access-policies/none", None, 404, "no shared access policy"),
    ("DELETE", f"/shared-access-policies/{OWNER}", None, 400, "needs an owner"),
    ("POST", "/shared-access-policies/none/list-keys", None, 404, "no shared access policy"),
    ("GET", f"/shared-access-policies/{OWNER}/list-keys", None, 405, "method"),
    ("POST", "/shared-access-policies/none/renew-key", {"key": "swap"}, 404, "no shared access policy"),
    ("POST", f"/shared-access-policies/{OWNER}/renew-key", {"key": SECRET}, 400, "key: is not primary, secondary or swap"),
    ("POST", f"/shared-access-policies/{OWNER}/renew-key", {"key": ["primary"]}, 400, "key: must be a string"),
    ("POST", f"/shared-access-policies/{OWNER}/renew-key", b"", 400, "the body"),
    ("POST", f"/shared-access-policies/{OWNER}/renew-key", {}, 400, "key: is missing"),
]


def test_bad_requests_are_refused_by_name_and_change_nothing(service):
    """DPS-INST-2, DPS-INST-6: each names the member or the cause, and repeats nothing that might be a key."""
    instance = made(service, "0neBad1", host="bad.test")
    owner, before = keys(service, instance.id_scope, OWNER), all_instances(service)
    for method, path, body, status, expected in BAD:
        whole = path if path.startswith("/id-scopes") else f"{instance.path}{path}"
        content = {"raw": body} if isinstance(body, bytes) else {"body": body}
        # So that nothing but what is bad about them refuses them.
        if_match = "*" if method != "POST" else None
        answer = admin(service, method, whole, if_match=if_match, **content)
        case = (method, path, body if not isinstance(body, bytes) else body[:20], answer)
        assert answer[0] == status == answer[1]["status"], case
        assert expected.lower() in answer[1]["message"].lower(), case
        assert SECRET[:20] not in answer[1]["message"] and len(answer[1]["message"]) < 600, case
        assert all_instances(service) == before, case
    assert keys(service, instance.id_scope, OWNER) == owner
    assert SECRET[:20] not in service.log()
    assert changes(service, instance.id_scope) == [("created", "serviceInstance", "0neBad1")]
