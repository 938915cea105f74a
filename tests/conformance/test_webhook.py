"""Custom allocation: the official SDK, unmodified, and a real HTTPS webhook on loopback that chooses its hub."""

import json
import re

import pytest

import certificates
import leaks
import sdk
from admin import admin
from credentials import POLL, derived_key, fresh_id
from enrollments import fresh_keys, group, individual, symmetric
from instances import Instance, made
from paho_device import PahoDevice
from raw_service import ask, enroll
from webhook import Webhook, hub

HUBS = [("north.test", "local"), ("south.test", "local")]
FUNCTION_KEY = "fUnct1onKey-that-nobody-logs-0123456789=="


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def service(start, data_dir):
    return start(data_dir=data_dir)


@pytest.fixture
def instance(service):
    return made(service, "0neHook1", hubs=HUBS)


@pytest.fixture
def webhook(data_dir, service):
    """Starts webhooks for one test."""
    started = []

    def webhook(*answers):
        # What `dev` serves itself, and trusts.
        files = certificates.Files(data_dir / "server-ecdsa.pem", data_dir / "server-ecdsa.key")
        started.append(Webhook(files, *answers).__enter__())
        return started[-1]

    yield webhook
    for one in started:
        one.__exit__()


class Fleet:
    """A group whose hubs a webhook chooses."""

    def __init__(self, instance, webhook, query="", **members):
        self.instance, self.keys, self.webhook = instance, fresh_keys(), webhook
        self.enroll(query, **members)

    def enroll(self, query="", **members):
        custom = {"allocationPolicy": "custom", "customAllocationDefinition": self.webhook.definition(query)}
        enroll(self.instance, group("fleet", symmetric(self.keys), **{**custom, **members}))

    def register(self, device, payload=None, run=sdk.register):
        key = derived_key(self.keys.primary, device)
        return run(self.instance, device, key, payload=payload, id_scope=self.instance.id_scope)


@pytest.mark.parametrize("run", [sdk.register, sdk.register_async, sdk.register_over_websocket])
def test_the_webhook_chooses_by_the_payload_and_its_own_payload_comes_back(instance, webhook, run):
    """DPS-REG-27, DPS-REG-30, DPS-BODY-12, DPS-DEV-16."""

    def by_model(body):
        model = body["deviceRuntimeContext"]["payload"]["modelId"]
        return hub(f"{model}.test", payload={"said": model, "nested": {"a": [1, None]}})

    hook = webhook(by_model)
    fleet = Fleet(instance, hook)
    for model in ("south", "north"):
        device = fresh_id("Hooked")
        result = fleet.register(device, {"modelId": model}, run)
        state = result.registration_state
        assert (result.status, state.assigned_hub, state.device_id) == ("assigned", f"{model}.test", device)
        expected = {"said": model, "nested": {"a": [1, None]}}
        assert (state.sub_status, json.loads(state.response_payload)) == ("initialAssignment", expected)
        record = instance.record(device)
        assert (record["assignedHub"], record["payload"]) == (state.assigned_hub, expected)


def test_the_webhook_is_told_what_azure_documents_and_no_secret(instance, webhook):
    """DPS-HUB-24, DPS-REG-26."""
    hook = webhook(hub("north.test"))
    leaks.made.add("the key of a webhook", FUNCTION_KEY.encode())
    fleet = Fleet(instance, hook, f"?code={FUNCTION_KEY}", initialTwin={"tags": {"a": 1}})
    device = fresh_id()
    fleet.register(device, {"b": 1.5})
    path, body = hook.next()
    assert path == f"/api/choose?code={FUNCTION_KEY}"
    entry = body["enrollmentGroup"]
    dates = [entry.pop("createdDateTimeUtc"), entry.pop("lastUpdatedDateTimeUtc")]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", date) for date in dates)
    assert re.fullmatch(r'"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"', entry.pop("etag"))
    assert body == {
        "enrollmentGroup": {
            "enrollmentGroupId": "fleet",
            "attestation": {"type": "symmetricKey"},
            "capabilities": {"iotEdge": False},
            "initialTwin": {"tags": {"a": 1}},
            "provisioningStatus": "enabled",
            "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
            "allocationPolicy": "custom",
            "customAllocationDefinition": {"webhookUrl": f"{hook.url()}?****", "apiVersion": "2021-10-01"},
        },
        "deviceRuntimeContext": {"registrationId": device, "symmetricKey": {}, "payload": {"b": 1.5}},
        "linkedHubs": ["north.test", "south.test"],
    }


def test_an_individual_enrollment_asks_with_its_own_members_and_the_devices_home(instance, webhook):
    """DPS-HUB-24, DPS-REG-11."""
    hook = webhook(hub("south.test"))
    device, keys = fresh_id(), fresh_keys()
    members = {"deviceId": "press#1", "optionalDeviceInformation": {"line": 7}, "iotHubs": ["south.test"]}
    custom = {"allocationPolicy": "custom", "customAllocationDefinition": hook.definition()}
    enroll(instance, individual(device, symmetric(keys), **members, **custom))
    run = lambda: sdk.register(instance, device, keys.primary, id_scope=instance.id_scope)  # noqa: E731
    assert run().registration_state.device_id == "press#1"
    _, first = hook.next()
    assert first["individualEnrollment"].items() >= {"registrationId": device, **members}.items()
    assert first["deviceRuntimeContext"] == {"registrationId": device, "symmetricKey": {}}
    assert first["linkedHubs"] == ["south.test"]
    assert run().registration_state.assigned_hub == "south.test"
    context = hook.next()[1]["deviceRuntimeContext"]
    assert (context["currentIotHubHostName"], context["currentDeviceId"]) == ("south.test", "press#1")


def test_a_device_with_a_certificate_is_described_by_it(service, webhook, tmp_path):
    """DPS-HUB-24."""
    hook = webhook(hub(service.hub))
    authority, device = certificates.authority("Hooked root"), fresh_id()
    signing = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": authority.pem}}}}
    custom = {"allocationPolicy": "custom", "customAllocationDefinition": hook.definition()}
    enroll(service, group("hooked", signing, **custom))
    files = certificates.device(device, authority).files(tmp_path)
    assert sdk.register_with_certificate(service, device, files).status == "assigned"
    context = hook.next()[1]["deviceRuntimeContext"]
    certificate = context["x509"]["clientCertificate"]
    assert device in certificate["subjectName"] and "Hooked root" in certificate["issuerName"]
    assert len(certificate["sha1Thumbprint"]) == 40 and "symmetricKey" not in context


@pytest.mark.parametrize(
    "answer, code, message",
    [
        (hub(None), 400208, "Custom allocation failed: no IoT hub was specified."),
        (hub(""), 400208, "Custom allocation failed: no IoT hub was specified."),
        ((200, {}), 400208, "Custom allocation failed: no IoT hub was specified."),
        ((401, {}), 400209, "Custom allocation failed: unauthorized access to the webhook."),
        ((400, {}), 400207, "Custom allocation failed with status code: 400"),
        ((404, b"gone"), 400207, "Custom allocation failed with status code: 404"),
        ((302, {}), 400207, "Custom allocation failed with status code: 302"),
        (hub("other.test"), 400207, "Custom allocation failed: the specified IoT hub is none of the linked hubs."),
        ((200, b"<html>"), 400207, "Custom allocation failed: the answer of the webhook cannot be read."),
    ],
    ids=["null", "empty", "absent", "401", "400", "404", "302", "not linked", "no JSON"],
)
def test_each_failure_has_its_code_and_keeps_the_devices_home(instance, webhook, answer, code, message):
    """DPS-REG-28, DPS-REG-11."""
    hook = webhook(hub("south.test"), answer, hub("south.test"))
    fleet, device = Fleet(instance, hook), fresh_id()
    assert fleet.register(device).status == "assigned"
    _, cause = sdk.refusal(fleet.register, device)
    assert "failed registration status" in str(cause), repr(cause)
    record = instance.record(device)
    assert (record["status"], record["errorCode"], record["errorMessage"]) == ("failed", code, message)
    assert record["assignedHub"] == "south.test"
    line = instance.service.log_line("device not allocated", device)
    assert f"error_code={code}" in line
    tracking_id = re.search(r"tracking_id=(\S+)", line)[1]
    [explained] = admin(instance.service, "GET", f"/explanations?trackingId={tracking_id}")[1]
    assert (explained["step"], explained["told"]) == ("allocation", str(code)) and explained["advice"]
    assert fleet.register(device).status == "assigned"
    contexts = [hook.next()[1]["deviceRuntimeContext"] for _ in range(3)]
    homes = [context.get("currentIotHubHostName") for context in contexts]
    assert homes == [None, "south.test", "south.test"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_webhook_that_is_busy_is_asked_again_and_the_sdk_waits(instance, webhook, status):
    """DPS-REG-29."""
    hook = webhook((status, b""), hub("north.test"))
    assert Fleet(instance, hook).register(fresh_id()).registration_state.assigned_hub == "north.test"
    assert hook.next() == hook.next()
    line = instance.service.log_line("webhook to be asked again")
    assert f"the webhook answered {status}" in line


def test_a_device_that_waits_is_served_after_the_service_was_killed(start, data_dir, webhook, service, instance):
    """DPS-REG-32: the payload that it sent is there still."""
    hook = webhook((503, b""), (503, b""), hub("north.test", payload={"late": True}))
    fleet, device = Fleet(instance, hook), fresh_id()
    key = derived_key(fleet.keys.primary, device)
    with PahoDevice.of(instance, device, key) as client:
        client.connect()
        client.subscribe()
        answer = client.register(b'{"payload":{"kept":1}}')
        assert (answer.status, answer.body["status"]) == (202, "assigning")
        hook.next()
        hook.next()
        assert service.log_line("webhook to be asked again", "tries=2")
        service.kill()
    again = Instance(start(data_dir=data_dir, address=service.address), "0neHook1", instance.service_host)
    assert hook.next()[1]["deviceRuntimeContext"]["payload"] == {"kept": 1}
    again.service.log_line("device allocated", device)
    with PahoDevice.of(again, device, key) as client:
        client.connect()
        client.subscribe()
        polled = client.ask(POLL, operation_id=answer.body["operationId"])
    assert (polled.status, polled.body["registrationState"]["assignedHub"]) == (200, "north.test")
    assert polled.body["registrationState"]["payload"] == {"late": True}


def test_what_a_definition_may_be(instance, webhook):
    """DPS-REG-26, DPS-SERVICE-23."""
    keys = fresh_keys()

    def put(**members):
        body = group("kept", symmetric(keys), **members)
        return ask(instance, "PUT", "/enrollmentGroups/kept", body, headers={"If-Match": "*"})

    refused = put(allocationPolicy="custom")
    assert refused.refused() == (400, 400004)
    expected = "A CustomAllocationDefinition is required when the allocation policy is set to 'Custom'"
    assert expected in refused.json["message"]
    for url in ("http://hook.test/", "https://", "https://user:pw@hook.test/", 7, None):
        definition = {"webhookUrl": url, "apiVersion": "2019-03-31"}
        assert put(allocationPolicy="custom", customAllocationDefinition=definition).refused() == (400, 400004)
    definition = {"webhookUrl": "https://web.hook/?code=x", "apiVersion": "2018-09-01-preview"}
    kept = put(allocationPolicy="geoLatency", customAllocationDefinition=definition)
    assert (kept.status, kept.json["customAllocationDefinition"]) == (200, definition)
    custom = put(allocationPolicy="custom", customAllocationDefinition=definition)
    assert (custom.status, custom.json["allocationPolicy"]) == (200, "custom")
    shown = ask(instance, "GET", "/enrollmentGroups/kept").json
    assert shown["customAllocationDefinition"] == definition
    query = {"query": "SELECT * FROM enrollmentGroups WHERE allocationPolicy = 'custom'"}
    found = ask(instance, "POST", "/enrollmentGroups/query", query).json
    assert [entry["enrollmentGroupId"] for entry in found] == ["kept"]
    before = instance.shown()
    body = {**before, "defaultAllocationPolicy": "custom"}
    status, _ = admin(instance.service, "PUT", instance.path, body, if_match=before["etag"])
    assert status == 400
