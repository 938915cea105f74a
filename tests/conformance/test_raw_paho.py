"""The MQTT session, asked by paho-mqtt: connecting, subscribing, asking and answering."""

import json
import re

import pytest

from credentials import ANSWERS, REGISTER, fresh_id, fresh_key, signature, token, user_name
from paho_device import PahoDevice

GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def device(harbor, enrollments):
    """Makes devices of the group `fleet`."""

    def device(registration_id=None, key=None, user=None, client_id=None, **options):
        registration_id = registration_id or fresh_id()
        key = key or enrollments.group.of(registration_id).primary
        user = user or user_name(harbor.id_scope, registration_id)
        password = token(harbor.id_scope, registration_id, key)
        return PahoDevice(harbor, client_id or registration_id, user, password, **options)

    return device


def ready(device):
    """Connects and subscribes."""
    assert device.connect() == (0, 0)
    assert device.subscribe() == 1
    return device


BAD_USER_NAMES = [
    None,
    "",
    "{scope}",
    "{scope}/registrations",
    "{scope}/registrations/{id}",
    "{scope}/devices/{id}/api-version=2019-03-31",
    "/registrations/{id}/api-version=2019-03-31",
    "{scope}/registrations//api-version=2019-03-31",
    "{scope}/registrations/not an id/api-version=2019-03-31",
    "{scope}/registrations/a%3Ab/api-version=2019-03-31",
    "{scope}/registrations/ends-with-a-dot./api-version=2019-03-31",
    "{scope}/registrations/" + "x" * 129 + "/api-version=2019-03-31",
]


@pytest.mark.parametrize("form", BAD_USER_NAMES)
def test_a_bad_user_name_is_connack_4(harbor, form):
    """DPS-MQTT-2, DPS-ID-1."""
    registration_id = fresh_id()
    user = form and form.format(scope=harbor.id_scope, id=registration_id)
    # paho leaves the user name out when it is None.
    with PahoDevice(harbor, registration_id, user, user and "x") as device:
        assert device.connect() == (0, 4)


USER_NAME_PARAMETERS = ["?api-version=2019-03-31", "ClientVersion=a%2F1%28x%29&api-version=2021-06-01", "api-version=2019-03-31&x/y"]


@pytest.mark.parametrize("parameters", USER_NAME_PARAMETERS)
def test_the_parameters_of_a_user_name_stand_in_any_order(harbor, device, parameters):
    """DPS-MQTT-2, DPS-MQTT-19."""
    registration_id = fresh_id()
    user = user_name(harbor.id_scope, registration_id, parameters)
    with device(registration_id, user=user) as connected:
        assert ready(connected).register().status == 202


def test_a_client_id_that_is_not_the_registration_id_is_connack_2(device):
    """DPS-MQTT-3."""
    with device(client_id="somebody-else") as stranger:
        assert stranger.connect() == (0, 2)
    registration_id = fresh_id("Case")
    with device(registration_id, client_id=registration_id.upper()) as same:
        assert same.connect() == (0, 0)


def test_an_unknown_id_scope_is_connack_5(device):
    """DPS-MQTT-4."""
    registration_id = fresh_id()
    with device(registration_id, user=user_name("0ne0BADC0DE", registration_id)) as lost:
        assert lost.connect() == (0, 5)


def test_no_session_is_kept_for_a_device_that_asks_for_one(device):
    """DPS-MQTT-6: the second connection has no subscription left over from the first."""
    registration_id = fresh_id()
    with device(registration_id, clean_session=False) as first:
        ready(first)
    with device(registration_id, clean_session=False) as second:
        assert second.connect() == (0, 0)
        second.publish(REGISTER.format(rid=1))
        second.acknowledged()
        assert second.silent()


@pytest.mark.parametrize(
    "topic",
    ["#", "$dps/#", "$dps/registrations/#", "$dps/registrations/res/+", "$dps/registrations/res/200/?$rid=1",
     "+/registrations/res/#", "$dps/registrations/res", "$dps/registrations/RES/#", "devices/x/messages/#"],
)
def test_any_other_filter_is_refused_and_the_connection_stays(device, topic):
    """DPS-MQTT-11."""
    with device() as connected:
        connected.connect()
        assert connected.subscribe(topic) == 0x80
        assert connected.is_open()


@pytest.mark.parametrize("asked, granted", [(0, 0), (1, 1), (2, 1)])
def test_answers_come_at_the_granted_qos_whatever_that_of_the_request(device, asked, granted):
    """DPS-MQTT-12, DPS-MQTT-21."""
    with device() as connected:
        connected.connect()
        assert connected.subscribe(qos=asked) == granted
        for qos in (0, 1):
            answer = connected.register(qos=qos)
            assert (answer.status, answer.qos, answer.retain) == (202, granted, False)


def test_unsubscribed_means_carried_out_but_not_answered(harbor, device):
    """DPS-MQTT-13, DPS-MQTT-23."""
    registration_id = fresh_id("deaf")
    with device(registration_id) as connected:
        ready(connected).unsubscribe()
        connected.publish(REGISTER.format(rid=1))
        connected.acknowledged()
        assert connected.silent()
        assert connected.subscribe() == 1
        assert connected.register(rid="2").topic == "$dps/registrations/res/202/?$rid=2&retry-after=3"
    assert re.search(r"WARN.*", harbor.log_line(registration_id, "warn"))


@pytest.mark.parametrize(
    "topic, qos",
    [("telemetry", 0), ("$dps/registrations/PUT/iotdps-register", 1), ("$dps/registrations/GET/?$rid=1", 1),
     ("$dps/registrations/res/200/?$rid=1", 1), ("$dps/registrations/PUT/iotdps-register/?rid=1", 1),
     (REGISTER.format(rid=1), 2)],
)
def test_a_publish_to_another_topic_without_rid_or_with_qos_2_closes(device, topic, qos):
    """DPS-MQTT-15, DPS-MQTT-16."""
    with device() as connected:
        ready(connected).publish(topic, qos=qos)
        connected.closed()


def test_register_and_poll_are_answered_on_these_very_topics_with_these_very_members(harbor, device):
    """DPS-MQTT-14, DPS-MQTT-18, DPS-MQTT-20, DPS-REG-9, DPS-BODY-1, DPS-BODY-2, DPS-BODY-4, DPS-BODY-6, DPS-BODY-8."""
    registration_id = fresh_id()
    with device(registration_id) as connected:
        registered = ready(connected).register(json.dumps({"registrationId": registration_id}), rid="X")
        operation_id = registered.body["operationId"]
        polled = connected.poll(operation_id, rid="Y")
        repeated = connected.poll(operation_id.replace(".", "%2E"), rid="Y")
    assert registered.topic == "$dps/registrations/res/202/?$rid=X&retry-after=3"
    assert registered.text.decode() == f'{{"operationId":"{operation_id}","status":"assigning"}}'
    assert polled.topic == "$dps/registrations/res/200/?$rid=Y"
    assert list(polled.body) == ["operationId", "status", "registrationState"]
    assert (polled.body["operationId"], polled.body["status"]) == (operation_id, "assigned")
    state = polled.body["registrationState"]
    members = ["registrationId", "createdDateTimeUtc", "assignedHub", "deviceId", "status", "substatus",
               "lastUpdatedDateTimeUtc", "etag"]
    assert [member for member in state if member != "symmetricKey"] == members
    assert list(state)[0] in ("symmetricKey", "registrationId")
    assert (state["registrationId"], state["assignedHub"], state["status"]) == (registration_id, harbor.hub, "assigned")
    assert len(polled.text) <= 512 and b"null" not in polled.text and b": " not in polled.text
    assert repeated.text == polled.text


@pytest.mark.parametrize("body", [b"", b" ", b"\r\n\t", b"{}", b'{ "payload" : null }', b'{"payload":{"a":[1]}}'])
def test_a_register_body_may_leave_the_registration_id_out(device, body):
    """DPS-MQTT-17."""
    with device() as connected:
        assert ready(connected).register(body).status == 202


@pytest.mark.parametrize("body", [b'{"registrationId":"another"}', b"[]", b"7", b'"x"', b"{", b"\xff\xfe", b"null"])
def test_a_register_body_of_another_device_or_no_json_object_is_400(device, body):
    """DPS-MQTT-17, DPS-BODY-9."""
    with device() as connected:
        answer = ready(connected).register(body)
        assert answer.topic == "$dps/registrations/res/400/?$rid=1"
        assert answer.body["errorCode"] // 1000 == 400
        assert connected.register(rid="2").status == 202


@pytest.mark.parametrize("parameters", ["", "ClientVersion=x", "api-version=", "api-version=now", "api-version=2019-3-31"])
def test_a_missing_or_malformed_api_version_is_400_to_every_request(harbor, device, parameters):
    """DPS-MQTT-19."""
    registration_id = fresh_id()
    with device(registration_id, user=user_name(harbor.id_scope, registration_id, parameters)) as connected:
        ready(connected)
        for answer in (connected.register(), connected.poll("x")):
            assert answer.topic == "$dps/registrations/res/400/?$rid=1"
            assert answer.body["errorCode"] // 1000 == 400
        assert connected.is_open()


def test_any_date_shaped_api_version_is_accepted(harbor, device):
    """DPS-MQTT-19."""
    for version in ("2018-11-01", "2021-06-01", "2027-12-31", "2025-07-01-preview"):
        registration_id = fresh_id()
        user = user_name(harbor.id_scope, registration_id, f"api-version={version}")
        with device(registration_id, user=user) as connected:
            assert ready(connected).register().status == 202, version


def test_a_request_id_is_echoed_byte_for_byte(device):
    """DPS-MQTT-15, DPS-MQTT-20."""
    rids = ["1", "1", "a b", "%24%00%zz", "x=y=z", "/?$rid", "ü€😀", "'\"\\{}", "R" * 200]
    with device() as connected:
        ready(connected)
        for rid in rids:
            answer = connected.register(rid=rid)
            assert answer.topic == f"$dps/registrations/res/202/?$rid={rid}&retry-after=3"
            assert connected.poll(answer.body["operationId"], rid=rid).topic == f"$dps/registrations/res/200/?$rid={rid}"


def test_the_parameters_of_a_topic_stand_in_any_order(device):
    """DPS-MQTT-14."""
    with device() as connected:
        operation_id = ready(connected).register().body["operationId"]
        topic = f"$dps/registrations/GET/iotdps-get-operationstatus/?x=1&operationId={operation_id}&y&$rid=7"
        assert connected.ask(topic).topic == "$dps/registrations/res/200/?$rid=7"


def test_an_operation_id_is_good_for_the_one_device_it_was_issued_to(device):
    """DPS-ID-4, DPS-ID-5, DPS-REG-14."""
    with device() as first, device() as second:
        of_first = ready(first).register().body["operationId"]
        of_second = ready(second).register().body["operationId"]
        digits, guid = of_first.split(".")[1:]
        forged = f"5.{digits[:-1]}{'0' if digits[-1] != '0' else '1'}.{guid}"
        for operation_id in (of_second, forged, of_first[:-1], "", "x", f"5.{'0' * 16}.{guid}"):
            answer = first.poll(operation_id)
            assert answer.topic == "$dps/registrations/res/404/?$rid=1", operation_id
            assert answer.body["errorCode"] == 404203, operation_id
        assert first.poll(of_first).status == 200


def test_an_earlier_operation_id_tells_the_current_state(device):
    """DPS-REG-10, DPS-REG-14."""
    with device() as connected:
        earlier = ready(connected).register().body["operationId"]
        connected.poll(earlier)
        later = connected.register().body["operationId"]
        assert later != earlier
        assert connected.poll(earlier).body["registrationState"] == connected.poll(later).body["registrationState"]


def test_a_refusal_has_these_members_and_its_reason_is_in_the_log_alone(harbor, enrollments, device):
    """DPS-BODY-9, DPS-BODY-10, DPS-MQTT-5, DPS-MQTT-20, DPS-EXPLAIN-5."""
    registration_id, key = fresh_id("refused"), fresh_key()
    with device(registration_id, key=key) as stranger:
        sent = stranger.client._password.decode()
        answers = [ready(stranger).register(), stranger.poll("x")]
    for answer in answers:
        assert answer.topic == "$dps/registrations/res/401/?$rid=1"
        assert list(answer.body) == ["errorCode", "trackingId", "message", "timestampUtc"]
        assert answer.body["errorCode"] == 401002
        assert answer.body["message"] == "Unauthorized"
        assert GUID.fullmatch(answer.body["trackingId"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z", answer.body["timestampUtc"])
        harbor.log_line(answer.body["trackingId"], registration_id, "reason")
    log = harbor.log()
    secrets = [key, signature(sent), "SharedAccessSignature sr=", enrollments.group.primary]
    assert [secret for secret in secrets if secret in log] == []


def test_refusals_look_the_same_whatever_the_cause(harbor, enrollments, device):
    """DPS-BODY-10: a group key used directly, a wrong key, an entry of another kind of key, another device's token."""
    other = fresh_id()
    cases = [
        (fresh_id(), enrollments.group.primary),
        (fresh_id(), fresh_key()),
        (enrollments.individual.registration_id, fresh_key()),
        (enrollments.disabled.registration_id, fresh_key()),
        (fresh_id(), enrollments.group.of(other).primary),
    ]
    told = set()
    for registration_id, key in cases:
        with device(registration_id, key=key) as stranger:
            body = ready(stranger).register().body
            told.add((body["errorCode"], body["message"]))
    assert told == {(401002, "Unauthorized")}


def test_a_token_for_another_device_or_scope_is_refused(harbor, enrollments):
    """DPS-SAS-3."""
    registration_id = fresh_id()
    key = enrollments.group.of(registration_id).primary
    user = user_name(harbor.id_scope, registration_id)
    for password in (token(harbor.id_scope, fresh_id(), key), token("0ne0BADC0DE", registration_id, key)):
        with PahoDevice(harbor, registration_id, user, password) as device:
            assert ready(device).register().status == 401


def test_a_will_and_the_retain_flag_are_accepted_and_ignored(device):
    """DPS-MQTT-7."""
    registration_id = fresh_id()
    with device(registration_id) as watching, device() as willing:
        ready(watching)
        willing.client.will_set("$dps/registrations/res/200/?$rid=1", "gone", qos=1, retain=True)
        assert ready(willing).register(retain=True).retain == 0
        willing.client._sock_close()
        assert watching.silent()


def test_an_attested_connection_takes_over_from_an_older_one(device):
    """DPS-MQTT-29."""
    registration_id = fresh_id("twice")
    with device(registration_id) as older, device(registration_id) as newer:
        assert ready(older).register().status == 202
        ready(newer)
        assert older.is_open(), "connecting alone proves nothing"
        assert newer.register().status == 202
        older.closed()
        assert newer.is_open()


def test_a_connection_that_proves_nothing_takes_over_from_nobody(device):
    """DPS-MQTT-29."""
    registration_id = fresh_id("robbed")
    with device(registration_id) as owner, device(registration_id, key=fresh_key()) as thief:
        assert ready(owner).register().status == 202
        assert ready(thief).register().status == 401
        assert owner.is_open()
        assert owner.register().status == 202


def test_a_device_can_subscribe_again_after_a_refused_filter(device):
    """DPS-MQTT-11, DPS-MQTT-24."""
    with device() as connected:
        connected.connect()
        assert connected.subscribe("#") == 0x80
        assert connected.subscribe(ANSWERS) == 1
        assert connected.register().status == 202
