"""The service API asked without any SDK: requests as they are given, and bytes."""

import base64
import hashlib
import hmac
import http.client
import json
import socket
import time
from urllib.parse import quote

import leaks
from raw_device import context_for

WAIT = 10.0
API_VERSION = "api-version=2021-10-01"


def service_token(connection_string, resource=None, expires_in=3600, with_key=None):
    """A token of the policy that a connection string names."""
    parts = dict(part.split("=", 1) for part in connection_string.split(";"))
    resource = quote(resource or parts["HostName"], safe="")
    expiry = int(time.time()) + expires_in
    key = base64.b64decode(with_key or parts["SharedAccessKey"])
    digest = hmac.new(key, f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
    leaks.made.add(f"a signature of {parts['SharedAccessKeyName']}", digest)
    signature = quote(base64.b64encode(digest), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={parts['SharedAccessKeyName']}"


class Answer:
    """A response whose body is JSON or nothing."""

    def __init__(self, response):
        body = response.read()
        self.status, self.reason, self.headers = response.status, response.reason, response.headers
        self.json = json.loads(body) if body else None

    def refused(self):
        """Status and error code, each of which stands wherever it should."""
        code = self.json["errorCode"]
        assert type(code) is int and self.headers["x-ms-error-code"] == str(code)
        assert self.headers["x-ms-request-id"] == self.json["trackingId"]
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        assert self.json["message"] and self.json["timestampUtc"].endswith("Z")
        return self.status, code


class RawService:
    """One connection, which stays the same: a request after its end fails. Use as a context manager."""

    def __init__(self, service):
        self.service = service
        plain = socket.create_connection((service.address, service.https_port), timeout=WAIT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self.tls = context_for(service).wrap_socket(plain, server_hostname=service.address)
        except BaseException:
            plain.close()
            raise
        # Keeps the connection when the answer says that it ends, until it has ended.
        self._stream = self.tls.makefile("rb")
        self._http = http.client.HTTPConnection(service.address, service.https_port)
        self._http.auto_open = False
        self._http.sock = self.tls

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stream.close()
        self.tls.close()

    def ask(self, method, path, json_body=None, headers=None, body=None, token=None):
        """Sends a request of the owner and reads the answer. The body follows the head in a segment of its own."""
        self.begin(method, path, headers or {}, json_body, body, token)
        return Answer(self._http.getresponse())

    def begin(self, method, path, headers, json_body=None, body=None, token=None):
        """Sends a request."""
        token = token or service_token(self.service.service_connection_string)
        given = {"Authorization": token, "Host": self.service.service_host, **headers}
        if json_body is not None:
            body = json.dumps(json_body).encode()
            given.setdefault("Content-Type", "application/json; charset=utf-8")
        path = path if "?" in path else f"{path}?{API_VERSION}"
        self._http.request(method, path, body=body, headers=given, encode_chunked="Transfer-Encoding" in given)

    def answer(self):
        """The next response to what was sent as bytes."""
        response = http.client.HTTPResponse(self.tls)
        response.begin()
        return response

    def is_closed(self, within=2.0):
        """Whether the service ends the connection, saying nothing more."""
        self.tls.settimeout(within)
        try:
            return self._stream.read(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True


def ask(service, *arguments, **options):
    """One request on a connection of its own."""
    with RawService(service) as connection:
        return connection.ask(*arguments, **options)


def enroll(service, entry):
    """Writes an entry of either kind, whatever stood there."""
    path, id_member = ("enrollments", "registrationId") if "registrationId" in entry else ("enrollmentGroups", "enrollmentGroupId")
    name = entry[id_member]
    answer = ask(service, "PUT", f"/{path}/{name}", json_body=entry, headers={"If-Match": "*"})
    assert answer.status == 200, answer.json
