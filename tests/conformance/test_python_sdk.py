"""The official SDK for Python, unmodified, from first registration to every refusal it can meet."""

import base64
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from azure.iot.device import exceptions

import sdk
from credentials import derived_key, fresh_id, fresh_key

DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{7}Z")
ETAG = re.compile(r'"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"')

each_client = pytest.mark.parametrize(
    "run", [sdk.register, sdk.register_async, sdk.register_over_websocket], ids=["sync", "aio", "websocket"]
)


def assert_assigned(result, hub, device_id):
    assert result.status == "assigned"
    state = result.registration_state
    assert (state.assigned_hub, state.device_id) == (hub, device_id)
    assert state.sub_status == "initialAssignment"


def assert_refused(refusal, text):
    """The SDK has one error for every answer it does not like; the cause quotes the status of the answer."""
    error, cause = refusal
    assert type(error) is exceptions.ClientError, repr(error)
    assert type(cause) is exceptions.ServiceError, repr(cause)
    assert text in str(cause)


@each_client
@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_a_device_of_a_group_registers_with_either_derived_key(harbor, enrollments, run, which):
    """DPS-SAS-7, DPS-SAS-8, DPS-REG-2, DPS-DEV-1."""
    registration_id = fresh_id()
    key = getattr(enrollments.group.of(registration_id), which)
    assert_assigned(run(harbor, registration_id, key), harbor.hub, registration_id)


@each_client
@pytest.mark.parametrize("which", ["primary", "secondary"])
def test_a_device_with_its_own_enrollment_registers_with_either_key(harbor, enrollments, run, which):
    """DPS-REG-1, DPS-SAS-8."""
    own = enrollments.individual
    result = run(harbor, own.registration_id, getattr(own.keys, which))
    assert_assigned(result, harbor.hub, own.registration_id)


@each_client
def test_an_enrollment_may_name_another_device_id(harbor, enrollments, run):
    """DPS-REG-18, DPS-ID-8."""
    renamed = enrollments.renamed
    result = run(harbor, renamed.registration_id, renamed.keys.primary)
    assert_assigned(result, harbor.hub, enrollments.renamed_device_id)


@each_client
@pytest.mark.parametrize("payload", [{"modelId": "dtmi:a:b;1", "n": [1, None]}, "text", 7], ids=["object", "text", "number"])
def test_a_device_may_send_any_payload(harbor, enrollments, run, payload):
    """DPS-MQTT-17."""
    registration_id = fresh_id()
    result = run(harbor, registration_id, enrollments.group.of(registration_id).primary, payload=payload)
    assert_assigned(result, harbor.hub, registration_id)


@each_client
def test_the_result_has_every_field_that_the_sdk_reads(harbor, enrollments, run):
    """DPS-BODY-4, DPS-ID-4, DPS-ID-6, DPS-ID-7."""
    registration_id = fresh_id()
    result = run(harbor, registration_id, enrollments.group.of(registration_id).primary)
    assert re.fullmatch(r"5\.[0-9a-f]{16}\.[0-9a-f-]{36}", result.operation_id)
    state = result.registration_state
    assert DATE.fullmatch(state.created_date_time), state.created_date_time
    assert DATE.fullmatch(state.last_update_date_time), state.last_update_date_time
    assert ETAG.fullmatch(base64.b64decode(state.etag, validate=True).decode()), state.etag


def test_a_registration_id_keeps_its_first_spelling_and_is_found_in_any(harbor, enrollments):
    """DPS-ID-2, DPS-REG-18, DPS-SAS-7: the second time, the key is derived from the new spelling."""
    first = fresh_id("Line4.Robot_A:7")
    assert_assigned(sdk.register(harbor, first, enrollments.group.of(first).primary), harbor.hub, first)
    again = first.upper()
    assert_assigned(sdk.register(harbor, again, enrollments.group.of(again).primary), harbor.hub, first)


def test_a_key_derived_from_the_lower_case_id_is_as_good(harbor, enrollments):
    """DPS-SAS-7."""
    registration_id = fresh_id("MIXED")
    key = enrollments.group.of(registration_id.lower()).primary
    assert_assigned(sdk.register(harbor, registration_id, key), harbor.hub, registration_id)


def test_registering_again_gives_the_same_place_and_a_new_operation(harbor, enrollments):
    """DPS-REG-10, DPS-REG-16, DPS-ID-6."""
    registration_id = fresh_id()
    key = enrollments.group.of(registration_id).primary
    first, second = sdk.register(harbor, registration_id, key), sdk.register_async(harbor, registration_id, key)
    assert_assigned(second, harbor.hub, registration_id)
    assert second.operation_id != first.operation_id
    assert second.registration_state.created_date_time == first.registration_state.created_date_time
    assert second.registration_state.etag != first.registration_state.etag


def test_the_sample_group_of_the_contract_works_as_printed(harbor):
    """DPS-DEV-1, DPS-DEV-3."""
    registration_id = fresh_id()
    key = derived_key(harbor.contract["enrollmentGroups"][0]["primaryKey"], registration_id)
    assert_assigned(sdk.register(harbor, registration_id, key), harbor.hub, registration_id)


@each_client
def test_a_wrong_key_is_a_service_error_within_five_seconds(harbor, enrollments, run):
    """DPS-REG-1, DPS-MQTT-5, DPS-BODY-10."""
    own = enrollments.individual
    assert_refused(sdk.refusal(run, harbor, own.registration_id, fresh_key()), "status code 401")


@each_client
def test_an_unknown_device_is_a_service_error_within_five_seconds(harbor, run):
    """DPS-REG-2, DPS-BODY-10."""
    assert_refused(sdk.refusal(run, harbor, fresh_id("stranger"), fresh_key()), "status code 401")


@each_client
def test_a_group_key_used_directly_is_refused_and_the_log_says_so(harbor, enrollments, run):
    """DPS-SAS-9."""
    registration_id = fresh_id("lazy")
    assert_refused(sdk.refusal(run, harbor, registration_id, enrollments.group.primary), "status code 401")
    harbor.log_line(registration_id, "group key")


@each_client
def test_an_unknown_id_scope_is_a_credential_error_within_five_seconds(harbor, enrollments, run):
    """DPS-MQTT-4."""
    registration_id = fresh_id()
    key = enrollments.group.of(registration_id).primary
    error, _ = sdk.refusal(run, harbor, registration_id, key, id_scope="0ne0BADC0DE")
    assert type(error) is exceptions.CredentialError, repr(error)


@each_client
def test_a_disabled_enrollment_is_told_to_the_device_that_owns_it(harbor, enrollments, run):
    """DPS-REG-5, DPS-REG-20."""
    disabled = enrollments.disabled
    refusal = sdk.refusal(run, harbor, disabled.registration_id, disabled.keys.primary)
    assert_refused(refusal, "invalid registration status disabled with a status code of 200")


@each_client
def test_a_disabled_group_is_told_to_its_devices(harbor, enrollments, run):
    """DPS-REG-5, DPS-REG-20."""
    registration_id = fresh_id("retired")
    refusal = sdk.refusal(run, harbor, registration_id, enrollments.disabled_group.of(registration_id).secondary)
    assert_refused(refusal, "invalid registration status disabled with a status code of 200")


def test_a_disabled_enrollment_is_not_told_to_a_stranger(harbor, enrollments):
    """DPS-REG-5."""
    refusal = sdk.refusal(sdk.register, harbor, enrollments.disabled.registration_id, fresh_key())
    assert_refused(refusal, "status code 401")


@each_client
def test_a_tpm_enrollment_refuses_a_symmetric_key(harbor, enrollments, run):
    """DPS-REG-7: a key of a group that would have taken the device does not help."""
    registration_id = enrollments.tpm_registration_id
    refusal = sdk.refusal(run, harbor, registration_id, enrollments.group.of(registration_id).primary)
    assert_refused(refusal, "status code 401")


def register_in_the_past(harbor, minutes, registration_id, key):
    """Registers with the SDK in a process whose clock is behind; a token of the SDK lives for an hour."""
    device = Path(__file__).with_name("sdk_device.py")
    # The monotonic clock stays true: Python waits on it.
    command = ["faketime", "--exclude-monotonic", "-f", f"-{minutes}m", sys.executable, str(device)]
    command += [harbor.address, harbor.ca_file, harbor.id_scope, registration_id]
    done = subprocess.run(command, input=key, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    behind = time.time() - outcome["clock"]
    assert abs(behind - 60 * minutes) < 60, f"the clock was {behind} s behind"
    return outcome


def test_an_expired_token_is_a_service_error_within_five_seconds(harbor, enrollments):
    """DPS-SAS-6."""
    registration_id = fresh_id("late")
    key = enrollments.group.of(registration_id).primary
    outcome = register_in_the_past(harbor, 120, registration_id, key)
    assert outcome.get("error") == "ClientError", outcome
    assert "ServiceError" in outcome["cause"] and "status code 401" in outcome["cause"], outcome
    assert outcome["took"] < sdk.REFUSED_WITHIN
    harbor.log_line(registration_id, "expired")


def test_a_token_that_expired_two_minutes_ago_is_within_the_skew(harbor, enrollments):
    """DPS-SAS-6."""
    registration_id = fresh_id("slow-clock")
    key = enrollments.group.of(registration_id).primary
    assert register_in_the_past(harbor, 62, registration_id, key).get("status") == "assigned"
