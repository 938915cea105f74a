"""The official SDK for Python, unmodified, with X.509 certificates: who is let in, and who is not and why."""

import ssl
import subprocess

import pytest
from azure.iot.device import exceptions

import certificates
import packets
import sdk
from admin import admin
from credentials import fresh_id, user_name
from enrollments import fresh_keys, group, individual, symmetric
from raw_device import RawDevice, context_for, register_packet
from raw_service import enroll
from service import BINARY


def identity(service, device_id):
    """How the device authenticates at its hub."""
    status, found = admin(service, "GET", f"/id-scopes/{service.id_scope}/hubs/{service.hub}/devices/{device_id}")
    assert status == 200
    return found["authentication"]


def assert_assigned(service, registration_id, files):
    result = sdk.register_with_certificate(service, registration_id, files)
    assert result.status == "assigned"
    assert (result.registration_state.assigned_hub, result.registration_state.device_id) == (
        service.hub,
        registration_id,
    )


def assert_refused(service, registration_id, files, rule=None, reason=""):
    """The SDK's own error; the reason stands in the explanation, under the rule that was broken."""
    error, cause = sdk.refusal(sdk.register_with_certificate, service, registration_id, files)
    assert type(error) is exceptions.ClientError and type(cause) is exceptions.ServiceError, (error, cause)
    assert "401" in str(cause)
    status, found = admin(service, "GET", f"/explanations?registrationId={registration_id}&limit=1")
    assert status == 200 and found[0]["told"] == "401002" and found[0]["advice"]
    assert found[0]["chain"]["rule"] == rule, found[0]
    assert reason in found[0]["reason"]
    assert found[0]["chain"]["received"][0]["subjectName"].startswith("CN=")
    return found[0]


def assert_told_disabled(service, registration_id, files):
    """The SDK takes the status for an error, and quotes it."""
    _, cause = sdk.refusal(sdk.register_with_certificate, service, registration_id, files)
    assert "status disabled with a status code of 200" in str(cause), cause


class Plant:
    """A root, an issuing CA below it, and a device with its chain."""

    def __init__(self, registration_id=None):
        self.id = registration_id or fresh_id("press")
        self.root = certificates.authority(fresh_id("Root"))
        self.issuing = certificates.authority(fresh_id("Issuing"), self.root, path_length=0)
        self.device = certificates.for_clients(self.id, self.issuing)


@pytest.fixture
def plant():
    return Plant()


@pytest.mark.parametrize("issued", [False, True], ids=["self-signed", "issued"])
def test_a_device_with_its_own_enrollment_registers_with_either_certificate(harbor, tmp_path, plant, issued):
    """DPS-X509-4, DPS-X509-10, DPS-X509-22, DPS-BODY-11: and its hub knows the one that it used last."""
    issuer = plant.issuing if issued else None
    first, second = (certificates.device(plant.id, issuer) for _ in range(2))
    enroll(harbor, individual(plant.id, certificates.by_certificate(first, second)))
    for used, other in ((first, second), (second, first)):
        assert_assigned(harbor, plant.id, used.files(tmp_path))
        assert identity(harbor, plant.id) == {
            "type": "selfSigned",
            "x509Thumbprint": {"primaryThumbprint": used.sha256, "secondaryThumbprint": other.sha256},
        }


def test_a_certificate_proves_a_device_over_websocket_as_over_tls(harbor, tmp_path, plant):
    """DPS-WS-8, DPS-X509-7, DPS-X509-3."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    files = plant.device.files(tmp_path, plant.issuing)
    result = sdk.register_with_certificate(harbor, plant.id, files, websockets=True)
    assert (result.status, result.registration_state.device_id) == ("assigned", plant.id)
    other = fresh_id("other")
    _, cause = sdk.refusal(sdk.register_with_certificate, harbor, other, files, websockets=True)
    assert "401" in str(cause)
    status, found = admin(harbor, "GET", f"/explanations?registrationId={other}&limit=1")
    assert (status, found[0]["transport"], found[0]["chain"]["rule"]) == (200, "mqtt-ws", "registration-id")


def test_a_device_of_a_group_registers_when_its_chain_reaches_the_root(harbor, tmp_path, plant):
    """DPS-X509-7, DPS-X509-22."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    assert_assigned(harbor, plant.id, plant.device.files(tmp_path, plant.issuing))
    thumbprint = plant.device.sha256
    assert identity(harbor, plant.id)["x509Thumbprint"] == {
        "primaryThumbprint": thumbprint,
        "secondaryThumbprint": thumbprint,
    }


def test_a_group_may_have_an_intermediate_whatever_the_device_sends_beyond(harbor, tmp_path, plant):
    """DPS-X509-7, DPS-X509-11."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.issuing)))
    for above in ((), (plant.issuing,), (plant.issuing, plant.root), (plant.root, plant.issuing)):
        assert_assigned(harbor, plant.id, plant.device.files(tmp_path, *above))


def test_a_group_rolls_over_from_one_signing_certificate_to_the_next(harbor, tmp_path, plant):
    """DPS-X509-10."""
    later, name = Plant(plant.id), fresh_id("plant")
    enroll(harbor, group(name, certificates.by_signer(plant.root, later.root)))
    for one in (plant, later):
        assert_assigned(harbor, plant.id, one.device.files(tmp_path, one.issuing))
    enroll(harbor, group(name, certificates.by_signer(later.root)))
    assert_refused(harbor, plant.id, plant.device.files(tmp_path, plant.issuing), "no-issuer")
    assert_assigned(harbor, plant.id, later.device.files(tmp_path, later.issuing))


def test_a_group_by_reference_admits_once_the_ca_certificate_is_verified(harbor, tmp_path, plant):
    """DPS-X509-9, DPS-X509-23, DPS-X509-24, DPS-X509-25."""
    name = fresh_id("ca")
    path = f"/id-scopes/{harbor.id_scope}/certificates/{name}"
    status, made = admin(harbor, "PUT", path, {"certificate": plant.root.pem, "isVerified": False})
    assert status == 200 and made["isVerified"] is False and made["info"]["sha256Thumbprint"] == plant.root.sha256
    enroll(harbor, group(fresh_id("plant"), certificates.by_reference(name)))
    files = plant.device.files(tmp_path, plant.issuing)
    assert_refused(harbor, plant.id, files, reason="is not verified")

    _, first = admin(harbor, "POST", f"{path}/verification-code", {})
    _, code = admin(harbor, "POST", f"{path}/verification-code", {})
    stale = certificates.device(first["verificationCode"], plant.root)
    foreign = certificates.device(code["verificationCode"])
    for proof in (stale, foreign):
        assert admin(harbor, "POST", f"{path}/verify", {"certificate": proof.pem})[0] == 400
    proof = certificates.device(code["verificationCode"], plant.root)
    status, verified = admin(harbor, "POST", f"{path}/verify", {"certificate": proof.pem})
    assert status == 200 and verified["isVerified"] is True
    assert_assigned(harbor, plant.id, files)

    status, refused = admin(harbor, "DELETE", path)
    assert status == 409 and "refers to it" in refused["message"]


def test_an_uploaded_ca_certificate_fills_a_gap(harbor, tmp_path, plant):
    """DPS-X509-9."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    alone = plant.device.files(tmp_path)
    assert_refused(harbor, plant.id, alone, "no-issuer", "neither sent along nor uploaded nor enrolled")
    path = f"/id-scopes/{harbor.id_scope}/certificates/{fresh_id('ca')}"
    assert admin(harbor, "PUT", path, {"certificate": plant.issuing.pem, "isVerified": True})[0] == 200
    assert_assigned(harbor, plant.id, alone)
    assert admin(harbor, "DELETE", path)[0] == 204


def broken(plant):
    """Chains that a group with the plant's root must not admit: what the device shows, and the rule."""
    issued = certificates.for_clients
    other = certificates.authority(fresh_id("Stranger"))
    expired = certificates.authority(fresh_id("Issuing"), plant.root, until=certificates.YESTERDAY)
    no_authority = certificates.device(fresh_id("no-ca"), plant.root, ca=False)
    below = certificates.authority(fresh_id("Below"), plant.issuing)
    return {
        "another common name": (issued(fresh_id(), plant.issuing), [plant.issuing], "registration-id"),
        "expired": (
            certificates.device(plant.id, plant.issuing, until=certificates.YESTERDAY),
            [plant.issuing],
            "expired",
        ),
        "expired CA": (issued(plant.id, expired), [expired], "expired"),
        "unknown issuer": (issued(plant.id, other), [other], "not-enrolled"),
        "broken in the middle": (plant.device, [plant.root], "no-issuer"),
        "signed by no CA": (issued(plant.id, no_authority), [no_authority], "not-a-ca"),
        "path too long": (issued(plant.id, below), [below, plant.issuing], "path-length"),
        "for servers only": (
            certificates.for_servers_only(plant.id, plant.issuing),
            [plant.issuing],
            "extended-key-usage",
        ),
        "a CA certificate": (certificates.authority(plant.id, plant.issuing), [plant.issuing], "ca-leaf"),
    }


@pytest.mark.parametrize("case", broken(Plant()))
def test_a_chain_that_breaks_a_rule_is_refused_and_the_certificate_named(harbor, tmp_path, plant, case):
    """DPS-X509-3, DPS-X509-13 to DPS-X509-18, DPS-X509-21, DPS-X509-31, DPS-EXPLAIN-12."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    own, above, rule = broken(plant)[case]
    assert_refused(harbor, plant.id, own.files(tmp_path, *above), rule)
    assert_assigned(harbor, plant.id, plant.device.files(tmp_path, plant.issuing))


def test_a_certificate_that_is_not_the_enrolled_one_is_refused(harbor, tmp_path, plant):
    """DPS-X509-4: a renewed one is another."""
    enroll(harbor, individual(plant.id, certificates.by_certificate(plant.device)))
    renewed = certificates.for_clients(plant.id, plant.issuing)
    found = assert_refused(harbor, plant.id, renewed.files(tmp_path), reason="is not the one of")
    assert "thumbprints are of the whole certificate" in found["advice"]


@pytest.mark.parametrize("kind", ["individual", "group"])
def test_a_disabled_entry_is_told_to_whose_certificate_proves_itself(harbor, tmp_path, plant, kind):
    """DPS-X509-8."""
    if kind == "individual":
        entry = individual(plant.id, certificates.by_certificate(plant.device))
    else:
        entry = group(fresh_id("plant"), certificates.by_signer(plant.root))
    enroll(harbor, {**entry, "provisioningStatus": "disabled"})
    assert_told_disabled(harbor, plant.id, plant.device.files(tmp_path, plant.issuing))
    stranger = Plant(plant.id)
    files = stranger.device.files(tmp_path, stranger.issuing)
    _, cause = sdk.refusal(sdk.register_with_certificate, harbor, plant.id, files)
    assert "401" in str(cause), "it is not told more than anyone else"


def test_a_disabled_enrollment_of_any_attestation_keeps_a_device_out_of_its_group(harbor, tmp_path, plant):
    """DPS-X509-8: the documented way to bar a device whose certificate is not at hand."""
    enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    files = plant.device.files(tmp_path, plant.issuing)
    assert_assigned(harbor, plant.id, files)
    barred = individual(plant.id, symmetric(fresh_keys()), provisioningStatus="disabled")
    enroll(harbor, barred)
    assert_told_disabled(harbor, plant.id, files)


def test_dev_has_a_device_with_a_certificate_ready(start):
    """DPS-DEV-13."""
    service = start()
    (sample,) = service.contract["x509Devices"]
    files = certificates.Files(sample["certificateFile"], sample["keyFile"])
    assert_assigned(service, sample["registrationId"], files)


def context_with(service, files):
    context = context_for(service)
    context.load_cert_chain(str(files.chain), str(files.key))
    return context


def test_a_key_that_is_not_the_certificates_ends_the_handshake(harbor, tmp_path):
    """DPS-X509-1, DPS-EXPLAIN-4: Python's TLS would refuse such a pair itself; Harbormaster's own device sends it."""
    own, other = (certificates.device(fresh_id()).files(tmp_path) for _ in range(2))
    command = [BINARY, "device", "register", "--host", harbor.address, "--port", str(harbor.port)]
    command += ["--ca-file", harbor.ca_file, "--id-scope", harbor.id_scope, "--registration-id", fresh_id()]
    command += ["--certificate", own.chain, "--certificate-key", other.key]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1 and "DecryptError" in run.stderr
    log = harbor.log_path.read_text()
    assert "the device does not have the key of its certificate" in log


def test_more_than_ten_certificates_end_the_handshake(harbor, tmp_path, plant):
    """DPS-X509-2."""
    for count, is_let_in in ((9, True), (10, False)):
        files = plant.device.files(tmp_path, *[plant.issuing] * count)
        context = context_with(harbor, files)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        if is_let_in:
            RawDevice(harbor, context).tls.close()
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                RawDevice(harbor, context)


def version_1(folder, registration_id, issuer=None):
    """A certificate without extensions, as `openssl x509 -req` makes it unless told otherwise."""
    key, request, chain = (folder / f"{registration_id}.{end}" for end in ("key", "csr", "pem"))

    def openssl(*arguments):
        subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)

    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", key)
    openssl("req", "-new", "-key", key, "-subj", f"/CN={registration_id}", "-out", request)
    sign = ["-signkey", key]
    if issuer:
        above = issuer.files(folder)
        sign = ["-CA", above.chain, "-CAkey", above.key, "-CAcreateserial"]
    openssl("x509", "-req", "-in", request, *sign, "-days", "30", "-out", chain)
    return certificates.Files(chain, key)


@pytest.mark.parametrize("in_group", [False, True], ids=["individual", "group"])
def test_a_version_1_certificate_of_a_device_is_let_in(harbor, tmp_path, plant, in_group):
    """DPS-X509-1, DPS-X509-15."""
    if in_group:
        files = version_1(tmp_path, plant.id, plant.root)
        enroll(harbor, group(fresh_id("plant"), certificates.by_signer(plant.root)))
    else:
        files = version_1(tmp_path, plant.id)
        holder = {"primary": {"certificate": files.chain.read_text()}}
        enroll(harbor, individual(plant.id, {"type": "x509", "x509": {"clientCertificates": holder}}))
    with RawDevice(harbor, context_with(harbor, files)) as device:
        device.send(packets.connect(plant.id, user_name(harbor.id_scope, plant.id), None))
        assert device.next() == (0x20, b"\x00\x00")
        device.send(packets.subscribe())
        assert device.next()[0] == 0x90
        device.send(register_packet(qos=0))
        topic, _ = device.answer()
        assert topic.startswith("$dps/registrations/res/202/"), topic


def test_a_certificate_does_not_stand_in_for_a_token(harbor, tmp_path, plant):
    """DPS-X509-4, DPS-X509-6: the entry's attestation decides, and with a password the device is judged by it."""
    enroll(harbor, individual(plant.id, symmetric(fresh_keys())))
    assert_refused(harbor, plant.id, plant.device.files(tmp_path), reason="wants a SAS token")
