"""A webhook that chooses among hubs outside: the official SDKs, unmodified, and a real HTTPS webhook."""

import json

import pytest

import certificates
import sdk
from credentials import fresh_id
from linked_hubs import NORTH, SOUTH
from webhook import Webhook, hub

ADDRESS = "127.0.0.1"


@pytest.fixture
def hubs(link):
    return link(NORTH, SOUTH)


@pytest.fixture
def hooked(hubs):
    """Has the devices of the group go where a webhook says, for one test."""
    started = []

    def hooked(*answers, **members):
        files = certificates.for_host(ADDRESS, hubs.site.authority).files(hubs.site.folder)
        started.append(Webhook(files, *answers, host=ADDRESS).__enter__())
        custom = {"allocationPolicy": "custom", "customAllocationDefinition": started[-1].definition()}
        hubs.goes_to([], **custom, **members)
        return started[-1]

    yield hooked
    for one in started:
        one.__exit__()


def test_a_webhook_chooses_a_hub_outside_and_its_payload_reaches_the_device(hubs, hooked):
    """DPS-REG-27, DPS-REG-30, DPS-REG-41."""
    chosen = {"tags": {"from": "webhook"}, "properties": {"desired": {"chosen": True}}}
    hook = hooked(hub(SOUTH, payload={"said": [1, None]}, initialTwin=chosen), initialTwin={"tags": {"from": "entry"}})
    device = fresh_id()
    state = hubs.register(device, {"modelId": "a"})
    assert (state.assigned_hub, state.sub_status) == (SOUTH, "initialAssignment")
    assert json.loads(state.response_payload) == {"said": [1, None]}
    _, body = hook.next()
    assert body["linkedHubs"] == [NORTH, SOUTH]
    assert body["deviceRuntimeContext"]["payload"] == {"modelId": "a"}
    assert hubs.only_at(SOUTH, device)["tags"] == {"from": "webhook"}
    assert hubs.record(device)["payload"] == {"said": [1, None]}


def test_a_registration_that_the_webhook_refuses_fails_and_the_next_names_where_the_device_lives(hubs, hooked):
    """DPS-REG-28, DPS-REG-11, DPS-HUB-24."""
    hook = hooked(hub(NORTH), (400, {}), hub(NORTH))
    device = fresh_id()
    hubs.register(device)
    _, cause = sdk.refusal(hubs.register, device)
    assert "failed registration status" in str(cause), repr(cause)
    record = hubs.record(device)
    assert (record["status"], record["errorCode"], record["assignedHub"]) == ("failed", 400207, NORTH)
    assert hubs.homes(device) == [NORTH]
    assert hubs.register(device).assigned_hub == NORTH
    contexts = [hook.next()[1]["deviceRuntimeContext"] for _ in range(3)]
    assert [context.get("currentIotHubHostName") for context in contexts] == [None, NORTH, NORTH]
    assert hubs.homes(device) == [NORTH]


def test_a_device_that_the_webhook_sends_elsewhere_takes_its_data_along(hubs, hooked):
    """DPS-REG-30, DPS-REG-42: a twin of the webhook is for one that begins anew."""
    hook = hooked(hub(NORTH), hub(SOUTH, initialTwin={"tags": {"from": "webhook"}}, payload={"moved": True}))
    device = fresh_id()
    hubs.register(device)
    hubs.registries[NORTH].report(device, {"seen": 1})
    before = hubs.look(NORTH, device)
    state = hubs.register(device)
    assert (state.assigned_hub, state.sub_status) == (SOUTH, "deviceDataMigrated")
    assert json.loads(state.response_payload) == {"moved": True}
    assert hubs.only_at(SOUTH, device) == before
    assert [hook.next()[1]["deviceRuntimeContext"].get("currentDeviceId") for _ in range(2)] == [None, device]


def test_a_webhook_is_asked_once_however_often_its_hub_is(hubs, hooked):
    """DPS-REG-40, DPS-REG-45."""
    hook = hooked(hub(NORTH, payload={"kept": 1}))
    device = fresh_id()
    fault = {"refuse": {"status": 503, "code": "ServiceUnavailable", "retryAfter": None}}
    hubs.registries[NORTH].plan("bulk", fault, times=2)
    state = hubs.register(device)
    assert (state.assigned_hub, json.loads(state.response_payload)) == (NORTH, {"kept": 1})
    assert hubs.asked(NORTH, device)[:3] == ["POST /devices"] * 3
    assert hook.asked.qsize() == 1
