"""The service API below its SDKs: HTTP as it is spoken."""

import base64
import json
import socket
import ssl
import time
from urllib.parse import quote

import pytest

from credentials import fresh_id, fresh_key
from raw_device import context_for
from raw_service import WAIT, RawService, ask, service_token


def entry(name, **members):
    return {"registrationId": name, "attestation": {"type": "symmetricKey"}, **members}


def test_a_connection_is_kept_open_from_request_to_request(harbor):
    """DPS-SERVICE-1, DPS-SERVICE-4, DPS-SERVICE-6: bodies that the service has no use for included."""
    name = fresh_id("Kept")
    with RawService(harbor) as connection:
        created = connection.ask("PUT", f"/enrollments/{name}", entry(name))
        assert (created.status, created.reason) == (200, "OK")
        for _ in range(3):
            assert connection.ask("POST", "/enrollments/query", {"query": "*"}).status == 200
            assert connection.ask("POST", f"/enrollments/{name}/attestationmechanism", {}).status == 200
            assert connection.ask("GET", f"/enrollments/{name}").json["registrationId"] == name
            assert connection.ask("GET", "/enrollments/nobody", body=b"x" * 70_000).refused() == (404, 404201)
        deleted = connection.ask("DELETE", f"/enrollments/{name}")
        assert (deleted.status, deleted.json, deleted.headers["content-type"]) == (204, None, None)
        assert len(deleted.headers["x-ms-request-id"]) == 36


def test_two_requests_may_be_sent_at_once(harbor):
    """DPS-SERVICE-1: they are answered in their order."""
    token = service_token(harbor.service_connection_string)
    head = f"HTTP/1.1\r\nHost: {harbor.service_host}\r\nAuthorization: {token}\r\n\r\n"
    paths = ("/enrollments/one", "/enrollmentGroups/two", "/registrations/three")
    with RawService(harbor) as connection:
        connection.tls.sendall("".join(f"GET {path}?api-version=2019-03-31 {head}" for path in paths).encode())
        stream = connection.tls.makefile("rb")
        codes = []
        for _ in paths:
            lines = iter(lambda: stream.readline(4096).strip(), b"")
            headers = dict(line.lower().split(b": ", 1) for line in lines if b": " in line)
            codes.append(json.loads(stream.read(int(headers[b"content-length"])))["errorCode"])
        assert codes == [404201, 404204, 404202]


def test_a_body_may_come_in_chunks(harbor):
    """DPS-SERVICE-1."""
    name = fresh_id("Chunked")
    text = json.dumps(entry(name)).encode()
    with RawService(harbor) as connection:
        chunks = iter([text[:1], text[1:20], text[20:]])
        headers = {"Transfer-Encoding": "chunked", "Content-Type": "application/json"}
        assert connection.ask("PUT", f"/enrollments/{name}", headers=headers, body=chunks).status == 200
        assert connection.ask("GET", f"/enrollments/{name}").json["registrationId"] == name


def test_a_client_that_waits_before_its_body_is_told_to_continue(harbor):
    """DPS-SERVICE-1."""
    name = fresh_id("Waits")
    text = json.dumps(entry(name)).encode()
    token = service_token(harbor.service_connection_string)
    head = f"PUT /enrollments/{name}?api-version=2021-10-01 HTTP/1.1\r\nHost: {harbor.service_host}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\nExpect: 100-continue\r\n"
    with RawService(harbor) as connection:
        connection.tls.sendall(f"{head}Authorization: {token}\r\n\r\n".encode())
        assert connection.tls.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.tls.sendall(text)
        response = connection.answer()
        assert (response.status, json.loads(response.read())["registrationId"]) == (200, name)
        assert connection.ask("GET", f"/enrollments/{name}").status == 200
    with RawService(harbor) as connection:
        connection.tls.sendall(f"{head}Authorization: {token[:-3]}\r\n\r\n".encode())
        response = connection.answer()
        assert response.status == 401, "whoever is refused need not send the body"
        response.read()
        assert connection.is_closed()


def test_a_connection_that_is_refused_is_closed_once_its_answer_can_be_read(harbor):
    """DPS-SERVICE-1, DPS-SERVICE-5, DPS-ACCESS-3: also to a client that sends its body after the answer was decided."""
    wrong = service_token(harbor.service_connection_string, with_key=fresh_key(64))
    with RawService(harbor) as connection:
        answer = connection.ask("PUT", "/enrollments/a", body=b"x" * 200_000, token=wrong)
        assert answer.refused() == (401, 401002) and answer.reason == "Unauthorized"
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()
    with RawService(harbor) as connection:
        assert connection.ask("GET", "/enrollments/a").status == 404
        assert connection.ask("GET", "/enrollments/a", token=wrong).refused() == (401, 401002)
        assert connection.ask("GET", "/enrollments/a").status == 404, "one that was let in before stays open"


def test_a_body_that_is_too_large_is_told_so(harbor):
    """DPS-SERVICE-18."""
    name = fresh_id("Large")
    with RawService(harbor) as connection:
        large = entry(name, optionalDeviceInformation={"text": "x" * 300_000})
        assert connection.ask("PUT", f"/enrollments/{name}", large).refused() == (413, 413000)
        assert connection.ask("GET", f"/enrollments/{name}").refused() == (404, 404201)


def test_a_body_that_nobody_would_wait_for_ends_the_connection(harbor):
    """DPS-SERVICE-1, DPS-SERVICE-5."""
    with RawService(harbor) as connection:
        connection.begin("GET", "/enrollments/a", {"Content-Length": str(1 << 40)})
        response = connection.answer()
        assert (response.status, response.headers["connection"]) == (404, "close")
        response.read()
        assert connection.is_closed()


NO_REQUESTS = {
    "no HTTP": (b"\x00\x01\x02 nonsense\r\n\r\n", 400),
    "a header without a colon": (b"GET / HTTP/1.1\r\nHost\r\n\r\n", 400),
    "an endless line of a header": (b"GET / HTTP/1.1\r\nx: " + b"y" * 16_500, 431),
    "too many headers": (b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(100)) + b"\r\n", 431),
    "an endless path": (b"GET /" + b"y" * 16_500, 431),
    "two lengths": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", None),
}


@pytest.mark.parametrize("data, status", NO_REQUESTS.values(), ids=NO_REQUESTS)
def test_what_is_no_request_ends_the_connection_and_no_other(harbor, data, status):
    """DPS-SERVICE-1."""
    with RawService(harbor) as other, RawService(harbor) as connection:
        # No more at a time than is taken for certain: what is still under way at the end could cost the answer.
        for start in range(0, len(data), 16_000):
            connection.tls.sendall(data[start : start + 16_000])
        if status is not None:
            response = connection.answer()
            assert response.status == status
            response.read()
        assert connection.is_closed()
        assert other.ask("GET", "/enrollments/a").status == 404


def test_http_2_is_not_agreed_on(harbor):
    """DPS-SERVICE-1: a client that would rather speak it goes on with HTTP/1.1."""
    context = context_for(harbor)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection((harbor.address, harbor.https_port), timeout=WAIT) as plain:
        with context.wrap_socket(plain, server_hostname=harbor.address) as tls:
            assert tls.selected_alpn_protocol() in (None, "http/1.1")


def test_http_without_tls_is_refused_at_once_and_explained_in_the_log(harbor):
    """DPS-DEV-8."""
    began = time.monotonic()
    with socket.create_connection((harbor.address, harbor.https_port), timeout=WAIT) as plain:
        plain.sendall(b"GET /enrollments/a?api-version=2021-10-01 HTTP/1.1\r\nHost: a\r\n\r\n")
        said = b""
        while data := plain.recv(4096):
            said += data
        assert not said.startswith(b"HTTP") and len(said) <= 7, "at most an alert of TLS"
        port = plain.getsockname()[1]
    assert time.monotonic() - began < 2
    harbor.log_line(f"127.0.0.1:{port}", "is no TLS")


def test_only_the_ca_of_the_contract_vouches_for_the_service(harbor):
    """DPS-DEV-6."""
    with socket.create_connection((harbor.address, harbor.https_port), timeout=WAIT) as plain:
        with pytest.raises(ssl.SSLCertVerificationError):
            ssl.create_default_context().wrap_socket(plain, server_hostname=harbor.address)


IF_MATCH = {
    "as it stands": lambda etag: etag,
    "in quotes": lambda etag: f'"{etag}"',
    "decoded": lambda etag: base64.b64decode(etag).decode(),
    "a star": lambda _: "*",
    "a star in quotes": lambda _: '"*"',
}


@pytest.mark.parametrize("spelled", IF_MATCH.values(), ids=IF_MATCH)
def test_every_spelling_of_if_match_replaces(harbor, spelled):
    """DPS-SERVICE-8, DPS-SERVICE-7."""
    name = fresh_id("Tagged")
    with RawService(harbor) as connection:
        path = f"/enrollments/{name}"
        etag = connection.ask("PUT", path, entry(name)).json["etag"]
        replaced = connection.ask("PUT", path, entry(name), {"If-Match": spelled(etag)})
        assert replaced.status == 200 and replaced.json["etag"] != etag
        deleted = connection.ask("DELETE", path, headers={"If-Match": spelled(replaced.json["etag"])})
        assert deleted.status == 204


def test_a_token_of_either_resource_opens_and_of_another_host_does_not(harbor):
    """DPS-ACCESS-5, DPS-ACCESS-6, DPS-ACCESS-2."""
    text = harbor.service_connection_string

    def asked(token, headers=None):
        return ask(harbor, "GET", "/enrollments/a", token=token, headers=headers).refused()

    assert asked(service_token(text, f"{harbor.address}:443")) == (404, 404201)
    assert asked(service_token(text, f"{harbor.address}/enrollments")) == (404, 404201)
    assert asked(service_token(text, "localhost"), {"Host": "LOCALHOST"}) == (404, 404201)
    assert asked(service_token(text, "elsewhere.example")) == (401, 401002)
    assert asked(service_token(text, f"{harbor.address}/enrollmentGroups")) == (401, 401002)
    assert asked(service_token(text, expires_in=-400)) == (401, 401002)
    assert asked(service_token(text), {"Host": "elsewhere.example"}) == (404, 404000)


def test_a_key_where_the_policy_or_the_host_belongs_is_told_nothing(harbor):
    """DPS-EXPLAIN-5: the search for secrets, after the last test, finds it in no log and no explanation."""
    text = harbor.service_connection_string
    policy = text.split("SharedAccessKeyName=")[1].split(";")[0]
    exchanged = service_token(text).replace(policy, quote(fresh_key(64), safe=""))
    assert ask(harbor, "GET", "/enrollments/a", token=exchanged).refused() == (401, 401002)
    plain = service_token(text).replace(policy, fresh_key(32))
    assert ask(harbor, "GET", "/enrollments/a", token=plain).refused() == (401, 401002)
    about_a_key = service_token(text, resource=fresh_key(64))
    assert ask(harbor, "GET", "/enrollments/a", token=about_a_key).refused() == (401, 401002)


def test_paths_and_versions_that_are_not_there_are_told_so(harbor):
    """DPS-SERVICE-2, DPS-SERVICE-3."""
    with RawService(harbor) as connection:
        assert connection.ask("GET", "/enrollments/a").refused() == (404, 404201)
        assert connection.ask("PUT", "/enrollments/", entry("a")).refused() == (405, 405000)
        assert connection.ask("GET", "/elsewhere").refused() == (404, 404000)
        assert connection.ask("GET", "/enrollments/a?api-version=").refused() == (400, 400000)
        assert connection.ask("GET", "/enrollments/a?x=y").refused() == (400, 400000)
        assert connection.ask("GET", "/ENROLLMENTS/a/?api-version=2017-08-31-preview").refused() == (404, 404201)
