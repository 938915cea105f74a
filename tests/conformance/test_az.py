"""Each command of `az iot dps` that speaks to the service API, as its requests were seen on the wire.

`az` itself is not run: today's versions cannot load its extension. `az iot device registration create` is a device with the official Python
SDK, which test_python_sdk.py is about.
"""

import base64
import json

import pytest

import certificates
from admin import admin
from az import QUERY, Az, changed
from credentials import derived_key, fresh_id, fresh_key
from enrollments import endorsement_key, fresh_keys, symmetric
from managing import keys_of
from raw_service import RawService, ask

# As they were seen, but for ids, hub, certificate and keys, which `seen` exchanges.
ENROLLMENT = (
    '{"registrationId": "e1", "deviceId": "dev1", "optionalDeviceInformation": {}, "attestation": {"type": "symmetricKey", '
    '"symmetricKey": {}}, "capabilities": {"iotEdge": false}, "initialTwin": {"tags": {}, "properties": {"desired": {}}}, '
    '"reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true}, "allocationPolicy": "static", '
    '"iotHubs": ["h1.azure-devices.net"]}'
)
GROUP = (
    '{"enrollmentGroupId": "g1", "attestation": {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": '
    '"-----BEGIN CERTIFICATE-----\\nMII\\n-----END CERTIFICATE-----"}}}}, "capabilities": {"iotEdge": false}, "initialTwin": '
    '{"tags": {}, "properties": {"desired": {}}}, "reprovisionPolicy": {"updateHubAssignment": true, "migrateDeviceData": true}}'
)
DEFAULTS = {"provisioningStatus": "enabled", "allocationPolicy": "hashed", "capabilities": {"iotEdge": False}}

# The path, the member with the id, and the type of the items of a list.
INDIVIDUALS = ("/enrollments", "registrationId", "Enrollment")
GROUPS = ("/enrollmentGroups", "enrollmentGroupId", "EnrollmentGroup")
both_kinds = pytest.mark.parametrize("kind", [INDIVIDUALS, GROUPS], ids=["enrollment", "enrollment-group"])


@pytest.fixture
def az(harbor):
    with Az(harbor) as command:
        yield command


def seen(text, *exchanges):
    """A body as it was seen, with other values of the same place."""
    for old, new in exchanges:
        assert text.count(f'"{old}"') == 1, old
        text = text.replace(f'"{old}"', json.dumps(new))
    return text


def created(member, name, attestation, **members):
    """What `create` sends where no more is given."""
    twin, policy = {"tags": {}, "properties": {"desired": {}}}, {"updateHubAssignment": True, "migrateDeviceData": True}
    information = {"optionalDeviceInformation": {}} if member == "registrationId" else {}
    return {
        member: name, **information, "attestation": attestation, "capabilities": {"iotEdge": False},
        "initialTwin": twin, "reprovisionPolicy": policy, **members,
    }


def settings(entry, of):
    """What an entry says of the members of another, but for its attestation."""
    return {member: entry[member] for member in of if member != "attestation"}


def pem(certificate):
    """A certificate as az reads it from a file."""
    return certificate.pem.rstrip()


def test_enrollment_create_show_update_and_delete(harbor, az):
    """DPS-SERVICE-4 to DPS-SERVICE-13: an update wins over whoever wrote since it read, whatever etag stands in its body."""
    name = fresh_id("e1")
    path = f"/enrollments/{name}"
    body = seen(ENROLLMENT, ("e1", name), ("h1.azure-devices.net", harbor.hub))
    assert az.refused("GET", path) == (404, 404201, "Enrollment not found.")
    first = az.put(path, body)
    sent = json.loads(body)
    assert settings(first, of=sent) == settings(sent, of=sent) and first["provisioningStatus"] == "enabled"
    keys = keys_of(first["attestation"])
    assert [len(base64.b64decode(key)) for key in keys] == [64, 64]
    assert az.refused("PUT", path, body=body)[:2] == (409, 409201)

    read = az.get(path)
    assert read["attestation"] == {"type": "symmetricKey"}, "show has no keys, and show --keys asks for them"
    told = az.keys(path)
    assert told["type"] == "symmetricKey" and keys_of(told) == keys
    other = ask(harbor, "PUT", path, read, {"If-Match": read["etag"]}).json
    last = az.put(path, changed(read, told, provisioningStatus="disabled"), "*")
    assert last["provisioningStatus"] == "disabled" and keys_of(last["attestation"]) == keys
    assert len({read["etag"], other["etag"], last["etag"]}) == 3
    assert settings(last, of=sent) == settings(sent, of=sent)

    az.delete(path)
    assert az.refused("GET", path) == (404, 404201, "Enrollment not found.")
    assert az.refused("DELETE", path, [("If-Match", "*")]) == (404, 404201, "Enrollment not found.")


@both_kinds
def test_update_and_delete_with_an_etag(harbor, az, kind):
    """DPS-SERVICE-7, DPS-SERVICE-8, DPS-SERVICE-12: `--etag`, stale and right, of an entry that somebody else made of little."""
    collection, member, _ = kind
    name = fresh_id("Tagged")
    path = f"{collection}/{name}"
    old = ask(harbor, "PUT", path, {member: name, "attestation": {"type": "symmetricKey"}}).json
    read = az.get(path)
    told = az.keys(path)
    keys_of(told)
    new = az.put(path, changed(read, told, provisioningStatus="disabled"), old["etag"])
    stale = json.dumps(changed(read, told, provisioningStatus="enabled"))
    assert az.refused("PUT", path, [("If-Match", old["etag"])], stale)[:2] == (412, 412001)
    assert az.refused("DELETE", path, [("If-Match", old["etag"])])[:2] == (412, 412001)
    assert az.get(path)["provisioningStatus"] == "disabled"
    az.delete(path, new["etag"])


@both_kinds
@pytest.mark.parametrize("given", [("primaryKey",), ("secondaryKey",), ("primaryKey", "secondaryKey")], ids="+".join)
def test_keys_that_are_given_are_taken_and_the_other_is_made(az, kind, given):
    """DPS-SERVICE-9: `--pk`, `--sk` or both at create, then another `--pk` at update."""
    collection, member, _ = kind
    name = fresh_id("Keyed:1.2_3")
    path = f"{collection}/{name}"
    keys = {key: fresh_key(size) for key, size in zip(given, (64, 36))}
    first = az.put(path, created(member, name, {"type": "symmetricKey", "symmetricKey": keys}))
    found = first["attestation"]["symmetricKey"]
    keys_of(first["attestation"])
    assert {key: found[key] for key in given} == keys and set(found) == {"primaryKey", "secondaryKey"}
    assert all(first[member] == value for member, value in DEFAULTS.items())
    replaced = fresh_key(64)
    told = az.keys(path)
    told["symmetricKey"]["primaryKey"] = replaced
    last = az.put(path, changed(az.get(path), told), "*")
    assert last["attestation"]["symmetricKey"] == {"primaryKey": replaced, "secondaryKey": found["secondaryKey"]}


def test_enrollment_with_every_other_option(harbor, az):
    """DPS-SERVICE-12, DPS-SERVICE-16: `--ps --rp --ap --ih --tags --props --info --edge-enabled`, with text beyond ASCII."""
    name = fresh_id("Full")
    body = {
        "registrationId": name, "deviceId": "Press#7@line(2)", "optionalDeviceInformation": {"plant": "Köln", "n": 1.5},
        "attestation": {"type": "symmetricKey", "symmetricKey": {}}, "capabilities": {"iotEdge": True},
        "initialTwin": {"tags": {"line": {"no": 7}}, "properties": {"desired": {"ratio": 0.5, "names": ["ä", None]}}},
        "provisioningStatus": "disabled", "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False},
        "allocationPolicy": "hashed", "iotHubs": [harbor.hub],
    }
    made = az.put(f"/enrollments/{name}", body)
    keys_of(made["attestation"])
    for found in (made, az.get(f"/enrollments/{name}")):
        assert settings(found, of=body) == settings(body, of=body)


def test_enrollment_with_a_tpm(az):
    """DPS-SERVICE-7, DPS-SERVICE-10: `--at tpm --ek`; the key is public, and `show` has it."""
    name, key, other = fresh_id("Tpm"), endorsement_key(), endorsement_key()
    path = f"/enrollments/{name}"
    attestation = {"type": "tpm", "tpm": {"endorsementKey": key}}
    assert az.put(path, created("registrationId", name, attestation))["attestation"] == attestation
    read = az.get(path)
    assert read["attestation"] == attestation
    attestation["tpm"]["endorsementKey"] = other
    assert az.put(path, changed(read, attestation), "*")["attestation"] == attestation


def test_enrollment_with_certificates(az):
    """DPS-X509-26 to DPS-X509-29: `--cp --scp`, an update that is about something else, and one that removes the secondary."""
    name = fresh_id("X509")
    path = f"/enrollments/{name}"
    primary, secondary = certificates.device(name), certificates.device(name)
    places = {"primary": {"certificate": pem(primary)}, "secondary": {"certificate": pem(secondary)}}
    az.put(path, created("registrationId", name, {"type": "x509", "x509": {"clientCertificates": places}}))
    read = az.get(path)
    assert [read["attestation"]["x509"].get(other) for other in ("signingCertificates", "caReferences")] == [None, None]
    info = {place: one["info"] for place, one in read["attestation"]["x509"]["clientCertificates"].items()}
    assert {place: found["sha256Thumbprint"] for place, found in info.items()} == {
        "primary": primary.sha256, "secondary": secondary.sha256,
    }
    az.put(path, changed(read, provisioningStatus="disabled"), "*")
    again = az.get(path)
    assert again["attestation"] == read["attestation"] and again["provisioningStatus"] == "disabled"
    del again["attestation"]["x509"]["clientCertificates"]["secondary"]
    az.put(path, changed(again), "*")
    assert az.get(path)["attestation"]["x509"] == {"clientCertificates": {"primary": {"info": info["primary"]}}}


def test_enrollment_group_with_a_certificate(az):
    """DPS-SERVICE-7, DPS-X509-26 to DPS-X509-29: `--cp`, then another."""
    name, line, other = fresh_id("g1"), certificates.authority(fresh_id("Line")), certificates.authority(fresh_id("Line"))
    path = f"/enrollmentGroups/{name}"
    assert az.refused("GET", path) == (404, 404204, "Enrollment group not found.")
    text = seen(GROUP, ("g1", name))
    made = az.put(path, text.replace(r"-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----", pem(line).replace("\n", r"\n")))
    assert made["attestation"]["x509"].get("clientCertificates") is None
    read = az.get(path)
    assert read["attestation"]["x509"]["signingCertificates"]["primary"]["info"]["sha256Thumbprint"] == line.sha256
    assert all(read[member] == value for member, value in DEFAULTS.items())
    replaced = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": pem(other)}}}}
    az.put(path, changed(read, replaced), "*")
    found = az.get(path)["attestation"]["x509"]["signingCertificates"]
    assert found["primary"]["info"]["sha256Thumbprint"] == other.sha256 and found.get("secondary") is None
    az.delete(path)
    assert az.refused("DELETE", path, [("If-Match", "*")]) == (404, 404204, "Enrollment group not found.")


def test_enrollment_group_with_the_name_of_a_ca_certificate(harbor, az):
    """DPS-X509-25, DPS-X509-29: `--cn`."""
    ca, name = fresh_id("plant"), fresh_id("Named")
    certificate = {"certificate": certificates.authority(ca).pem, "isVerified": True}
    assert admin(harbor, "PUT", f"/id-scopes/{harbor.id_scope}/certificates/{ca}", certificate)[0] == 200
    path = f"/enrollmentGroups/{name}"
    attestation = {"type": "x509", "x509": {"caReferences": {"primary": ca}}}
    az.put(path, created("enrollmentGroupId", name, attestation))
    read = az.get(path)
    assert read["attestation"]["x509"]["caReferences"].get("secondary") is None
    assert az.put(path, changed(read, provisioningStatus="disabled"), "*")["attestation"] == attestation


@both_kinds
def test_list_goes_on_for_as_long_as_there_is_more(harbor, az, kind):
    """DPS-SERVICE-10, DPS-SERVICE-14: with a body that is the text of a Python object, and no size of a page."""
    collection, member, item_type = kind
    names = [fresh_id("listed") for _ in range(103)]
    entries = [{member: name, "attestation": {"type": "symmetricKey"}} for name in names]
    batches = [entries[start : start + 10] for start in range(0, len(entries), 10)]
    with RawService(harbor) as connection:
        for batch in batches:
            assert connection.ask("POST", collection, {collection[1:]: batch, "mode": "create"}).json["isSuccessful"]
        pages = az.list(f"{collection}/query", item_type, QUERY)
        listed = [entry for page in pages for entry in page]
        assert len(pages) > 1 and {len(page) for page in pages[:-1]} == {100}
        ids = [entry[member] for entry in listed]
        assert set(names) <= set(ids) and len(set(ids)) == len(ids)
        assert all(not entry["attestation"].get("symmetricKey") for entry in listed)
        for batch in batches:
            assert connection.ask("POST", collection, {collection[1:]: batch, "mode": "delete"}).json["isSuccessful"]


@both_kinds
def test_list_top_asks_for_no_more_than_it_wants(harbor, az, kind):
    """DPS-SERVICE-14: `--top`, more than a page holds included."""
    collection, member, item_type = kind
    names = [fresh_id("top") for _ in range(6)]
    for name in names:
        keys_of(az.put(f"{collection}/{name}", created(member, name, {"type": "symmetricKey", "symmetricKey": {}}))["attestation"])
    assert [len(page) for page in az.list(f"{collection}/query", item_type, QUERY, top=5)] == [5]
    everything = az.list(f"{collection}/query", item_type, QUERY, top=100_000)
    assert set(names) <= {entry[member] for page in everything for entry in page}


def test_enrollment_registration_show_and_delete(harbor, az, register_raw):
    """DPS-SERVICE-13, DPS-SERVICE-17: by the id of the enrollment."""
    name, key = fresh_id("Own"), fresh_key(64)
    path = f"/registrations/{name}"
    attestation = {"type": "symmetricKey", "symmetricKey": {"primaryKey": key}}
    keys_of(az.put(f"/enrollments/{name}", created("registrationId", name, attestation))["attestation"])
    missing = (404, 404202, "Registration not found.")
    assert az.refused("GET", path) == missing
    register_raw(name, key)
    record = az.get(path)
    assert (record["registrationId"], record["status"], record["assignedHub"]) == (name, "assigned", harbor.hub)
    assert az.get(f"/enrollments/{name}")["registrationState"]["etag"] == record["etag"]
    az.delete(path, record["etag"])
    assert az.refused("GET", path) == missing
    assert az.refused("DELETE", path, [("If-Match", "*")]) == missing


def test_enrollment_group_registration_list_show_and_delete(harbor, az, register_raw):
    """DPS-SERVICE-14, DPS-SERVICE-15: a POST without a body, `--top` included."""
    group, keys = fresh_id("G1"), fresh_keys()
    names = sorted(fresh_id("member") for _ in range(3))
    query = f"/registrations/{group}/query"
    az.put(f"/enrollmentGroups/{group}", created("enrollmentGroupId", group, symmetric(keys)))
    assert az.list(query, "DeviceRegistration") == [[]]
    for name in names:
        register_raw(name, derived_key(keys.primary, name))
    [listed] = az.list(query, "DeviceRegistration")
    assert [(record["registrationId"], record["status"]) for record in listed] == [(name, "assigned") for name in names]
    [some] = az.list(query, "DeviceRegistration", top=2)
    assert [record["registrationId"] for record in some] == names[:2]
    assert az.get(f"/registrations/{names[0]}") == listed[0]
    az.delete(f"/registrations/{names[0]}")
    [left] = az.list(query, "DeviceRegistration")
    assert [record["registrationId"] for record in left] == names[1:]


def test_compute_device_key_asks_for_the_key_of_the_group(az, register_raw):
    """DPS-SERVICE-10: and a device with the derived key is let in."""
    group, name = fresh_id("Derived"), fresh_id("member")
    az.put(f"/enrollmentGroups/{group}", created("enrollmentGroupId", group, {"type": "symmetricKey", "symmetricKey": {}}))
    told = az.keys(f"/enrollmentGroups/{group}")
    keys_of(told)
    register_raw(name, derived_key(told["symmetricKey"]["primaryKey"], name))


def test_a_wrong_key_is_told_as_such(harbor):
    """DPS-ACCESS-3, DPS-SERVICE-5."""
    host, policy, _ = harbor.service_connection_string.split(";", 2)
    with Az(harbor, f"{host};{policy};SharedAccessKey={fresh_key(64)}") as stranger:
        assert stranger.refused("GET", "/enrollments/e1")[:2] == (401, 401002)


@both_kinds
@pytest.mark.parametrize("version", ["2026-11-01", "2026-11-02-preview"])
def test_the_newest_az_writes_back_what_it_does_not_know(harbor, kind, version):
    """DPS-SERVICE-2, DPS-SERVICE-16: it merges JSON, takes out what the service owns, and fails at a page that is no array."""
    collection, member, _ = kind
    name = fresh_id("Future")
    path = f"{collection}/{name}?api-version={version}"
    unknown = {
        "customFutureField": {"nested": [1, 2.5, "three", None, {"deep": True}]},
        "credentialPolicyName": "default",
        "deviceTypeRefs": ["urn:a:b", "urn:c:d"],
    }
    with RawService(harbor) as connection:
        body = {member: name, "attestation": {"type": "symmetricKey"}, **unknown}
        assert connection.ask("PUT", path, body).status == 200
        read = connection.ask("GET", path).json
        assert {field: read[field] for field in unknown} == unknown
        owned = ("etag", "createdDateTimeUtc", "lastUpdatedDateTimeUtc")
        merged = {field: value for field, value in read.items() if field not in owned}
        merged["provisioningStatus"] = "disabled"
        written = connection.ask("PUT", path, merged, {"If-Match": read["etag"]}).json
        for found in (written, connection.ask("GET", path).json):
            assert {field: found[field] for field in unknown} == unknown
            assert found["provisioningStatus"] == "disabled"
        assert connection.ask("PUT", path, merged, {"If-Match": read["etag"]}).refused() == (412, 412001)
        page = connection.ask("POST", f"{collection}/query?api-version={version}", {"query": "SELECT *"})
        assert type(page.json) is list
