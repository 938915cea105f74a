"""What a device was told holds after the service ends, however it ends."""

import signal

import pytest

import sdk
from credentials import POLL, derived_key, fresh_id
from paho_device import PahoDevice


def key_of(service, registration_id):
    return derived_key(service.contract["enrollmentGroups"][0]["primaryKey"], registration_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_a_device_keeps_its_hub_over_a_restart(start, tmp_path, number):
    """DPS-STORE-2, DPS-DEV-2, DPS-REG-16: same hub, same device id, same record."""
    before = start(data_dir=tmp_path / "data")
    registration_id = fresh_id("Keeps")
    key = key_of(before, registration_id)
    first = sdk.register(before, registration_id, key).registration_state
    code, _ = before.stop(number)
    assert code == (0 if number == signal.SIGTERM else -signal.SIGKILL)

    after = start(data_dir=tmp_path / "data", address=before.address)
    second = sdk.register(after, registration_id.lower(), key_of(after, registration_id.lower())).registration_state
    assert (second.assigned_hub, second.device_id) == (first.assigned_hub, registration_id)
    assert second.created_date_time == first.created_date_time
    assert after.stop()[0] == 0


def test_an_answer_that_was_read_before_a_crash_is_kept(start, tmp_path):
    """DPS-REG-12, DPS-REG-14, DPS-STORE-2: killed as soon as the 202 is here, it knows the operation when it is back."""
    before = start(data_dir=tmp_path / "data")
    registration_id = fresh_id()
    with PahoDevice.of(before, registration_id, key_of(before, registration_id)) as device:
        device.connect()
        device.subscribe()
        answer = device.register()
        before.kill()
    assert answer.status == 202

    after = start(data_dir=tmp_path / "data", address=before.address)
    with PahoDevice.of(after, registration_id, key_of(after, registration_id)) as device:
        device.connect()
        device.subscribe()
        polled = device.ask(POLL, operation_id=answer.body["operationId"])
    assert (polled.status, polled.body["status"]) == (200, "assigned")
