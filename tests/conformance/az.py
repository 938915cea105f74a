"""`az iot dps` as a client of the service API, byte for byte: azure-cli 2.75.0 with its extension azure-iot 0.25.0.

Heads and bodies are what it sends, to the order of headers and members and the spaces in JSON. From run to run differ the host, the
token and the id of the request.
"""

import datetime
import json
import re
import uuid
from urllib.parse import quote

from raw_service import Answer, RawService, service_token

HEAD = """\
{method} {path}?api-version=2021-10-01 HTTP/1.1
Host: {host}
User-Agent: python/3.11.7 (Linux-6.8.0-45-generic-x86_64-with-glibc2.35) msrest/0.7.1 msrest_azure/0.6.4.post1 \
provisioningserviceclient/2021-10-01 Azure-SDK-For-Python IoTPlatformCliExtension/0.25.0
Accept-Encoding: gzip, deflate
Accept: application/json
Connection: keep-alive
Authorization: {token}
Content-Type: application/json; charset=utf-8
x-ms-client-request-id: {request_id}
{own}accept-language: en-US
{length}
"""

# The body of every list of entries: the text of a Python object, within JSON.
QUERY = """{"query": "{'additional_properties': {}, 'query': 'SELECT *'}"}"""

# The members of its models, in the order in which it sends them. It reads no others, and never sends what the service owns.
MEMBERS = (
    "registrationId", "enrollmentGroupId", "deviceId", "optionalDeviceInformation", "attestation", "capabilities", "iotHubHostName",
    "initialTwin", "etag", "provisioningStatus", "reprovisionPolicy", "allocationPolicy", "iotHubs", "customAllocationDefinition",
)
INFO = (
    "subjectName", "sha1Thumbprint", "sha256Thumbprint", "issuerName", "notBeforeUtc", "notAfterUtc", "serialNumber", "version",
)


class Az(RawService):
    """One command: its requests on one connection. Use as a context manager."""

    def __init__(self, service, connection_string=None):
        super().__init__(service)
        self.connection_string = connection_string or service.service_connection_string

    def send(self, method, path, own=(), body=None):
        """`own` are the headers that only this request has."""
        has_length = body is not None or method != "GET"
        head = HEAD.format(
            method=method,
            path="/".join(quote(segment, safe="") for segment in path.split("/")),
            host=self.service.service_host,
            token=service_token(self.connection_string, expires_in=600),
            request_id=uuid.uuid1(),
            own="".join(f"{name}: {value}\n" for name, value in own),
            length=f"Content-Length: {len(body or '')}\n" if has_length else "",
        )
        self.tls.sendall(head.replace("\n", "\r\n").encode())
        if body is not None:
            self.tls.sendall(body.encode())
        return Answer(self.answer())

    def get(self, path):
        return read(self.send("GET", path))

    def put(self, path, body, if_match=None):
        """`body` is JSON text, or an object to write as az does."""
        text = body if isinstance(body, str) else json.dumps(body)
        return read(self.send("PUT", path, [("If-Match", if_match)] if if_match else [], text))

    def keys(self, path):
        """The attestation of an entry with its keys: a POST without a body."""
        return read(self.send("POST", f"{path}/attestationmechanism"))

    def delete(self, path, if_match="*"):
        answer = self.send("DELETE", path, [("If-Match", if_match)])
        assert (answer.status, answer.json) == (204, None), "anything but 204 is an error to az"
        assert answer.headers["x-ms-request-id"]

    def list(self, path, item_type, body=None, top=None):
        """The pages of a list, until it has `top` items."""
        own = {"Cache-Control": "no-cache, must-revalidate"}
        if top:
            own["x-ms-max-item-count"] = str(top)
        pages, tokens = [], []
        while True:
            answer = self.send("POST", path, own.items(), body)
            page = read(answer, list)
            pages.append(page)
            assert answer.headers["x-ms-item-type"] == item_type
            token = answer.headers["x-ms-continuation"]
            assert token != "" and token not in tokens, "it would go on for ever"
            listed = sum(len(page) for page in pages)
            if token is None or (top and listed >= top):
                return pages
            tokens.append(token)
            own["x-ms-continuation"] = token
            if top:
                own["x-ms-max-item-count"] = str(top - listed)

    def refused(self, method, path, own=(), body=None):
        """Status, code and message as it prints them: all that it reads of an error stands there."""
        answer = self.send(method, path, own, body)
        status, code = answer.refused()
        assert {"errorCode", "trackingId", "message", "timestampUtc"} <= set(answer.json) <= {
            "errorCode", "trackingId", "message", "timestampUtc", "info",
        }
        moment(answer.json["timestampUtc"])
        return status, code, answer.json["message"]


def read(answer, kind=dict):
    """What az makes of a body: only 200 is no error to it, and its models fail at a date that they cannot read."""
    assert (answer.status, answer.reason) == (200, "OK"), answer.json
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    assert answer.headers["x-ms-request-id"] and answer.headers["content-encoding"] is None
    assert type(answer.json) is kind
    for found in answer.json if kind is list else [answer.json]:
        for member in ("createdDateTimeUtc", "lastUpdatedDateTimeUtc"):
            if member in found:
                moment(found[member])
    return answer.json


def moment(text):
    """A date as msrest reads it."""
    matched = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{1,6})\d*Z", text)
    assert matched, text
    return datetime.datetime.strptime(f"{matched[1]}.{matched[2]}", "%Y-%m-%dT%H:%M:%S.%f")


def changed(entry, attestation=None, **members):
    """The body with which `update` writes what it read: its models in their order, stale etag and all, nulls left out."""
    changed = {**entry, **members, "attestation": attestation or entry["attestation"]}
    if changed.get("initialTwin"):
        # Each of these must be there, or it ends with an error of its own.
        twin = changed["initialTwin"]
        changed["initialTwin"] = {"tags": twin["tags"], "properties": {"desired": twin["properties"]["desired"]}}
    else:
        changed["initialTwin"] = {"tags": {}, "properties": {"desired": {}}}
    changed["attestation"] = _attestation(changed["attestation"])
    return {member: changed[member] for member in MEMBERS if changed.get(member) is not None}


def _attestation(attestation):
    x509 = attestation.get("x509")
    if x509 is None:
        return attestation
    for container in ("clientCertificates", "signingCertificates"):
        if x509.get(container):
            places = {place: _certificate(one) for place, one in x509[container].items() if one is not None}
            return {"type": "x509", "x509": {container: places}}
    return attestation


def _certificate(one):
    """A certificate that az was not given goes back by its `info`, the dates in the digits of msrest."""
    if "certificate" in one:
        return one
    info = {member: one["info"][member] for member in INFO}
    for member in ("notBeforeUtc", "notAfterUtc"):
        info[member] = moment(info[member]).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    return {"info": info}
