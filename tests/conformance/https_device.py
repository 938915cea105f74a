"""A device over the HTTPS device API, request by request and on one connection."""

import http.client
import json

from raw_device import context_for

WAIT = 10.0
API_VERSION = "api-version=2021-06-01"


class HttpsDevice:
    """One connection. Use as a context manager."""

    def __init__(self, service, registration_id, id_scope=None):
        self.path = f"/{id_scope or service.id_scope}/registrations/{registration_id}"
        self._http = http.client.HTTPSConnection(
            service.address, service.https_port, timeout=WAIT, context=context_for(service)
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._http.close()

    def ask(self, method, path, body=None, token=None):
        """Status and JSON of one request."""
        headers = {"Content-Type": "application/json; charset=utf-8"} if body is not None else {}
        if token:
            headers["Authorization"] = token
        encoded = json.dumps(body).encode() if body is not None else None
        self._http.request(method, f"{self.path}{path}?{API_VERSION}", body=encoded, headers=headers)
        answer = self._http.getresponse()
        text = answer.read()
        assert answer.headers["content-type"] == "application/json; charset=utf-8"
        assert answer.headers["content-length"] == str(len(text))
        return answer.status, json.loads(text)

    def register(self, body, token=None):
        return self.ask("PUT", "/register", body, token)

    def poll(self, operation_id, token=None):
        return self.ask("GET", f"/operations/{operation_id}", token=token)
