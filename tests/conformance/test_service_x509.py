"""X.509 attestation in the service API: spellings, what is known of a certificate, and what is kept."""

import base64
import hashlib

import pytest

import certificates
from credentials import fresh_id
from raw_service import ask
from service_clients import GROUP, INDIVIDUAL, PythonClient, trusted

PATHS = {"clientCertificates": ("enrollments", "registrationId"), "signingCertificates": ("enrollmentGroups", "enrollmentGroupId")}

both_kinds = pytest.mark.parametrize("container", PATHS)


def put(service, container, name, x509, if_match="*"):
    path, member = PATHS[container]
    body = {member: name, "attestation": {"type": "x509", "x509": x509}}
    return ask(service, "PUT", f"/{path}/{name}", json_body=body, headers={"If-Match": if_match} if if_match else {})


def read(service, container, name):
    answer = ask(service, "GET", f"/{PATHS[container][0]}/{name}")
    assert answer.status == 200
    attestation = answer.json["attestation"]
    assert attestation["type"] == "x509" and list(attestation["x509"]) == [container], attestation
    return attestation["x509"][container]


SPELLINGS = {
    "PEM": lambda one: one.pem,
    "PEM with CRLF": lambda one: one.pem.replace("\n", "\r\n"),
    "Base64 of DER": lambda one: base64.b64encode(one.der).decode(),
    "Base64 of PEM": lambda one: base64.b64encode(one.pem.encode()).decode(),
}


@both_kinds
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_certificate_is_taken_in_each_spelling_and_described(harbor, container, spelling):
    """DPS-X509-26, DPS-X509-27, DPS-X509-29."""
    root = certificates.authority(fresh_id("Root"))
    one, name = certificates.authority(fresh_id("Line"), root), fresh_id("x509")
    answer = put(harbor, container, name, {container: {"primary": {"certificate": SPELLINGS[spelling](one)}}}, None)
    assert answer.status == 200, answer.json
    assert answer.json["attestation"]["x509"][container] == read(harbor, container, name)
    info = read(harbor, container, name)["primary"]["info"]
    found = one.certificate
    assert info == {
        "subjectName": f"CN={one.name}",
        "issuerName": f"CN={root.name}",
        "sha1Thumbprint": hashlib.sha1(one.der).hexdigest(),
        "sha256Thumbprint": one.sha256,
        "notBeforeUtc": found.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
        "notAfterUtc": found.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
        "serialNumber": info["serialNumber"],
        "version": 3,
    }
    assert int(info["serialNumber"], 16) == found.serial_number


@both_kinds
def test_what_is_known_of_a_certificate_keeps_it_and_an_omitted_secondary_goes(harbor, container):
    """DPS-X509-28."""
    primary, secondary, other = (certificates.authority(fresh_id("Line")) for _ in range(3))
    name = fresh_id("x509")
    given = {place: {"certificate": one.pem} for place, one in (("primary", primary), ("secondary", secondary))}
    assert put(harbor, container, name, {container: given}).status == 200
    found = read(harbor, container, name)
    assert set(found) == {"primary", "secondary"}
    assert put(harbor, container, name, {container: found}).status == 200
    assert read(harbor, container, name) == found

    assert put(harbor, container, name, {container: {"primary": found["primary"]}}).status == 200
    assert read(harbor, container, name) == {"primary": found["primary"]}
    assert put(harbor, container, name, {container: {"primary": {"certificate": other.pem}}}).status == 200
    assert read(harbor, container, name)["primary"]["info"]["sha256Thumbprint"] == other.sha256


@both_kinds
def test_what_cannot_be_an_x509_attestation_is_refused(harbor, container):
    """DPS-X509-25, DPS-X509-26, DPS-X509-28, DPS-X509-29."""
    one, name = certificates.authority(fresh_id("Line")), fresh_id("x509")
    pair = {"primary": {"certificate": one.pem}}
    other = "signingCertificates" if container == "clientCertificates" else "clientCertificates"
    for x509 in (
        {},
        {container: pair, other: pair},
        {container: pair, "caReferences": {"primary": "plant"}},
        {container: {"secondary": {"certificate": one.pem}}},
        {container: {"primary": {"info": {"subjectName": "CN=a"}}}},
        {container: {"primary": {"certificate": one.pem + one.pem}}},
        {container: {"primary": {"certificate": "garbage"}}},
        {"caReferences": {"primary": fresh_id("nowhere")}},
        {"caReferences": {"primary": "a b"}},
    ):
        assert put(harbor, container, name, x509).refused() == (400, 400004), x509
    if container == "signingCertificates":
        assert put(harbor, container, name, {"clientCertificates": pair}).refused() == (400, 400004)


def test_an_official_client_writes_and_reads_certificates(harbor):
    """DPS-X509-26, DPS-X509-27: with models, of which nothing may be missing."""
    with trusted(harbor.ca_file):
        client = PythonClient(harbor.service_connection_string)
        one, device, name = certificates.authority(fresh_id("Line")), fresh_id("press"), fresh_id("line")
        client.put(GROUP, {"enrollmentGroupId": name, "attestation": certificates.by_signer(one)})
        own = certificates.device(device, one)
        client.put(INDIVIDUAL, {"registrationId": device, "attestation": certificates.by_certificate(own)})
        found = client.get(GROUP, name)["attestation"]["x509"]["signingCertificates"]["primary"]["info"]
        assert found["sha256Thumbprint"] == one.sha256
        found = client.get(INDIVIDUAL, device)["attestation"]["x509"]["clientCertificates"]["primary"]["info"]
        assert found["sha256Thumbprint"] == own.sha256 and found["issuerName"] == f"CN={one.name}"
