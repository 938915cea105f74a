"""Certificate authorities, and certificates of devices, made with `cryptography` and independent of Harbormaster."""

import datetime
import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime.datetime.now(datetime.timezone.utc)
LONG_AGO = NOW - datetime.timedelta(days=400)
YESTERDAY = NOW - datetime.timedelta(days=1)
NEXT_YEAR = NOW + datetime.timedelta(days=365)


@dataclass(frozen=True)
class Files:
    """What a device is given."""

    chain: Path
    key: Path


class Signed:
    """A certificate with its key, and what stands above it."""

    def __init__(self, name, issuer=None, *, ca=None, path_length=None, until=NEXT_YEAR, usages=None, addresses=()):
        """`ca` is CA:TRUE or CA:FALSE, or nothing is said of it; without `issuer` it signs itself."""
        self.name, self.issuer = name, issuer
        self.private_key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = issuer or self
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.private_key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(LONG_AGO)
            .not_valid_after(until)
        )
        if ca is not None:
            constraints = x509.BasicConstraints(ca=ca, path_length=path_length if ca else None)
            builder = builder.add_extension(constraints, critical=True)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if addresses:
            names = [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self.certificate = builder.sign(signer.private_key, hashes.SHA256())

    @property
    def pem(self):
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def der(self):
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def sha256(self):
        """As DPS and hubs write it."""
        return hashlib.sha256(self.der).hexdigest().upper()

    def files(self, folder, *above):
        """Certificate, those that are sent along, and the key."""
        stem = self.sha256[:16]
        chain, key = folder / f"{stem}.pem", folder / f"{stem}.key"
        chain.write_text(self.pem + "".join(one.pem for one in above))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        key.write_bytes(self.private_key.private_bytes(encoding, form, serialization.NoEncryption()))
        return Files(chain, key)


def authority(name, issuer=None, **options):
    return Signed(name, issuer, ca=True, **options)


def device(registration_id, issuer=None, **options):
    """A device's certificate; it signs itself where nobody issues it."""
    return Signed(registration_id, issuer, **options)


def for_servers_only(registration_id, issuer):
    return Signed(registration_id, issuer, usages=[ExtendedKeyUsageOID.SERVER_AUTH])


def for_host(address, issuer, *others):
    """A server's, which may have other addresses as well."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    return Signed(address, issuer, ca=False, usages=usages, addresses=[address, *others])


def for_clients(registration_id, issuer):
    return Signed(registration_id, issuer, ca=False, usages=[ExtendedKeyUsageOID.CLIENT_AUTH])


def _holders(primary, secondary):
    return {
        name: {"certificate": one.pem} for name, one in (("primary", primary), ("secondary", secondary)) if one
    }


def by_certificate(primary, secondary=None):
    """The attestation of an individual enrollment that has exactly these."""
    return {"type": "x509", "x509": {"clientCertificates": _holders(primary, secondary)}}


def by_signer(primary, secondary=None):
    """The attestation of an entry whose devices' chains reach one of these."""
    return {"type": "x509", "x509": {"signingCertificates": _holders(primary, secondary)}}


def by_reference(name):
    """The attestation of an entry that names a CA certificate of the instance."""
    return {"type": "x509", "x509": {"caReferences": {"primary": name}}}
