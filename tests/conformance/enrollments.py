"""The enrollments that the shared service is started with, in the service API's shapes."""

import base64
import os
from dataclasses import dataclass

from credentials import derived_key, fresh_id, fresh_key


@dataclass(frozen=True)
class Keys:
    primary: str
    secondary: str

    def of(self, registration_id):
        """The keys of one device of the group that these keys belong to."""
        return Keys(derived_key(self.primary, registration_id), derived_key(self.secondary, registration_id))


@dataclass(frozen=True)
class Individual:
    registration_id: str
    keys: Keys


def fresh_keys():
    return Keys(fresh_key(64), fresh_key(32))


def symmetric(keys):
    return {"type": "symmetricKey", "symmetricKey": {"primaryKey": keys.primary, "secondaryKey": keys.secondary}}


def individual(registration_id, attestation, **members):
    return {"registrationId": registration_id, "attestation": attestation, **members}


def group(group_id, attestation, **members):
    return {"enrollmentGroupId": group_id, "attestation": attestation, **members}


def endorsement_key():
    """A TPM2B_PUBLIC with an RSA-2048 endorsement key of the default template; its modulus is random, and nobody has it."""
    policy = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
    public = bytes.fromhex("0001000b000300b20020") + policy
    public += bytes.fromhex("00060080004300100800000000000100") + b"\xc5" + os.urandom(255)
    return base64.b64encode(len(public).to_bytes(2, "big") + public).decode()


class Enrollments:
    """One entry for each case that the tests need."""

    def __init__(self):
        self.group = fresh_keys()
        self.disabled_group = fresh_keys()
        self.individual = Individual(fresh_id("Own"), fresh_keys())
        self.renamed = Individual(fresh_id("renamed"), fresh_keys())
        self.renamed_device_id = "Machine#7@line(2)"
        self.disabled = Individual(fresh_id("disabled"), fresh_keys())
        self.tpm_registration_id = fresh_id("tpm")

    def json(self):
        tpm = {"type": "tpm", "tpm": {"endorsementKey": endorsement_key()}}
        return [
            group("fleet", symmetric(self.group)),
            group("retired-fleet", symmetric(self.disabled_group), provisioningStatus="disabled"),
            individual(self.individual.registration_id, symmetric(self.individual.keys)),
            individual(
                self.renamed.registration_id, symmetric(self.renamed.keys), deviceId=self.renamed_device_id
            ),
            individual(
                self.disabled.registration_id, symmetric(self.disabled.keys), provisioningStatus="disabled"
            ),
            individual(self.tpm_registration_id, tpm),
        ]
