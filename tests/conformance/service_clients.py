"""The official Python clients of the service API, unmodified, behind the same few calls: JSON in, JSON out.

`etag` in an entry is the condition of its write, as in two of the three clients. The third client is `node_client.py`.
"""

import json
import os
from contextlib import contextmanager

from azure.core.exceptions import HttpResponseError
from azure.iot.deviceprovisioning import DeviceProvisioningClient
from provisioningserviceclient import ProvisioningServiceClient, QuerySpecification
from provisioningserviceclient.client import ProvisioningServiceError
from provisioningserviceclient.models import BulkEnrollmentOperation, EnrollmentGroup, IndividualEnrollment, InitialTwin

INDIVIDUAL = "enrollment"
GROUP = "enrollmentGroup"
ID = {INDIVIDUAL: "registrationId", GROUP: "enrollmentGroupId"}


class Refused(Exception):
    """What a client raises when the service says no."""

    def __init__(self, status, body, text):
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.code = json.loads(body)["errorCode"]


class PythonClient:
    """azure-iothub-provisioningserviceclient, which works with models. Its query of records raises TypeError itself."""

    def __init__(self, connection_string):
        self._client = ProvisioningServiceClient.create_from_connection_string(connection_string)

    def put(self, kind, entry):
        with _refusal():
            return _json(self._client.create_or_update(_model(kind, entry)))

    def get(self, kind, name):
        get = {INDIVIDUAL: self._client.get_individual_enrollment, GROUP: self._client.get_enrollment_group}
        with _refusal():
            return _json(get[kind](name))

    def delete(self, kind, name, etag=None):
        delete = {
            INDIVIDUAL: self._client.delete_individual_enrollment_by_param,
            GROUP: self._client.delete_enrollment_group_by_param,
        }
        with _refusal():
            delete[kind](name, etag)

    def keys(self, kind, name):
        keys = {
            INDIVIDUAL: self._client.get_individual_enrollment_attestation_mechanism,
            GROUP: self._client.get_enrollment_group_attestation_mechanism,
        }
        with _refusal():
            return _json(keys[kind](name))

    def pages(self, kind, text, page_size):
        query = {
            INDIVIDUAL: self._client.create_individual_enrollment_query,
            GROUP: self._client.create_enrollment_group_query,
        }
        with _refusal():
            return [[_json(model) for model in page] for page in query[kind](QuerySpecification(text), page_size)]

    def bulk(self, kind, mode, entries):
        # It has no bulk operation for groups.
        operation = BulkEnrollmentOperation(enrollments=[_model(kind, entry) for entry in entries], mode=mode)
        with _refusal():
            return _json(self._client.run_bulk_operation(operation))

    def record(self, registration_id):
        with _refusal():
            return _json(self._client.get_registration_state(registration_id))

    def delete_record(self, registration_id, etag=None):
        with _refusal():
            self._client.delete_registration_state_by_param(registration_id, etag)


class PythonBetaClient:
    """azure-iot-deviceprovisioning, which works with dictionaries."""

    def __init__(self, connection_string):
        client = DeviceProvisioningClient.from_connection_string(connection_string)
        self._entries = {INDIVIDUAL: client.enrollment, GROUP: client.enrollment_group}
        self._records = client.device_registration_state

    def put(self, kind, entry):
        with _beta_refusal():
            return self._entries[kind].create_or_update(entry[ID[kind]], entry, if_match=entry.get("etag"))

    def get(self, kind, name):
        with _beta_refusal():
            return self._entries[kind].get(name)

    def delete(self, kind, name, etag=None):
        with _beta_refusal():
            self._entries[kind].delete(name, if_match=etag)

    def keys(self, kind, name):
        with _beta_refusal():
            return self._entries[kind].get_attestation_mechanism(name)

    def pages(self, kind, text, page_size):
        with _beta_refusal():
            return [list(page) for page in self._entries[kind].query({"query": text}, top=page_size).by_page()]

    def bulk(self, kind, mode, entries):
        member = {INDIVIDUAL: "enrollments", GROUP: "enrollmentGroups"}[kind]
        with _beta_refusal():
            return self._entries[kind].run_bulk_operation({member: entries, "mode": mode})

    def record(self, registration_id):
        with _beta_refusal():
            return self._records.get(registration_id)

    def delete_record(self, registration_id, etag=None):
        with _beta_refusal():
            self._records.delete(registration_id, if_match=etag)

    def record_pages(self, group, page_size):
        with _beta_refusal():
            return [list(page) for page in self._records.query(group, top=page_size).by_page()]


@contextmanager
def trusted(ca_file):
    """Lets both clients trust the CA, in the one way that they have."""
    before = os.environ.get("REQUESTS_CA_BUNDLE")
    os.environ["REQUESTS_CA_BUNDLE"] = ca_file
    try:
        yield
    finally:
        if before is None:
            del os.environ["REQUESTS_CA_BUNDLE"]
        else:
            os.environ["REQUESTS_CA_BUNDLE"] = before


@contextmanager
def _refusal():
    try:
        yield
    except ProvisioningServiceError as error:
        response = error.cause.response
        raise Refused(response.status_code, response.text, str(error)) from error


@contextmanager
def _beta_refusal():
    try:
        yield
    except HttpResponseError as error:
        raise Refused(error.status_code, error.response.text(), str(error)) from error


def _model(kind, entry):
    model = {INDIVIDUAL: IndividualEnrollment, GROUP: EnrollmentGroup}[kind].from_dict(entry)
    if twin := entry.get("initialTwin"):
        model.initial_twin = InitialTwin.create(twin["tags"], twin["properties"]["desired"])
    return model


def _json(model):
    twin = getattr(model, "initial_twin", None)
    if twin is None:
        return model.serialize(keep_readonly=True)
    model.initial_twin = None
    try:
        entry = model.serialize(keep_readonly=True)
    finally:
        model.initial_twin = twin
    return {**entry, "initialTwin": {"tags": twin.tags, "properties": {"desired": twin.desired_properties}}}
