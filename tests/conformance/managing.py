"""What every official client of the service API can do. Each has a class of its own, with the fixture `connect`.

The service is shared: entries of other tests may stand beside a test's own.
"""

import base64
from pathlib import Path

import pytest

import leaks
import sdk
from credentials import derived_key, fresh_id, fresh_key
from enrollments import endorsement_key, fresh_keys, symmetric
from service_clients import GROUP, ID, INDIVIDUAL, Refused

NOT_FOUND = {INDIVIDUAL: (404, 404201), GROUP: (404, 404204)}
NO_RECORD = (404, 404202)
EXISTS = (409, 409201)
CHANGED = (412, 412001)
UNAUTHORIZED = (401, 401002)

both_kinds = pytest.mark.parametrize("kind", [INDIVIDUAL, GROUP])


def entry(kind, name, attestation=None, **members):
    return {ID[kind]: name, "attestation": attestation or {"type": "symmetricKey"}, **members}


def refusal(call, *arguments, **options):
    """Status and error code of a call that must not succeed."""
    with pytest.raises(Refused) as raised:
        call(*arguments, **options)
    return raised.value.status, raised.value.code


def keys_of(attestation):
    keys = attestation["symmetricKey"]
    for member in ("primaryKey", "secondaryKey"):
        leaks.made.add_base64(f"the {member} of an entry", keys[member])
    return keys["primaryKey"], keys["secondaryKey"]


def hides_its_keys(found):
    """Whether no key stands in an entry as it was read."""
    assert found["attestation"]["type"] == "symmetricKey"
    return not found["attestation"].get("symmetricKey")


class ManagesEnrollments:
    """The tests of one client: those with no query of records."""

    @pytest.fixture
    def client(self, connect, harbor):
        return connect(harbor.service_connection_string)

    @both_kinds
    def test_an_entry_lives_from_creation_to_deletion(self, client, harbor, kind):
        """DPS-SERVICE-4, DPS-SERVICE-7, DPS-SERVICE-8, DPS-SERVICE-12, DPS-SERVICE-13, DPS-ACCESS-3, DPS-ACCESS-5."""
        name, keys = fresh_id("Line4.Robot_A:7"), fresh_keys()
        assert refusal(client.get, kind, name) == NOT_FOUND[kind]
        created = client.put(kind, entry(kind, name, symmetric(keys), iotHubs=[harbor.hub]))
        assert created[ID[kind]] == name and created["iotHubs"] == [harbor.hub]
        assert keys_of(created["attestation"]) == (keys.primary, keys.secondary)
        assert (created["provisioningStatus"], created["allocationPolicy"]) == ("enabled", "hashed")
        assert created["createdDateTimeUtc"] == created["lastUpdatedDateTimeUtc"]
        assert refusal(client.put, kind, entry(kind, name)) == EXISTS

        read = client.get(kind, name.lower())
        assert read[ID[kind]] == name and read["etag"] == created["etag"]
        changed = client.put(kind, {**read, "provisioningStatus": "disabled"})
        assert changed["provisioningStatus"] == "disabled" and changed["etag"] != read["etag"]
        assert refusal(client.put, kind, read) == CHANGED
        assert client.get(kind, name)["provisioningStatus"] == "disabled"

        assert refusal(client.delete, kind, name, read["etag"]) == CHANGED
        client.delete(kind, name, changed["etag"])
        assert refusal(client.get, kind, name) == NOT_FOUND[kind]
        assert refusal(client.delete, kind, name) == NOT_FOUND[kind]
        assert refusal(client.put, kind, changed) == CHANGED

    @both_kinds
    def test_keys_that_are_left_out_are_made_and_outlive_a_change(self, client, kind):
        """DPS-SERVICE-9, DPS-SERVICE-10."""
        name = fresh_id("Keys")
        made = keys_of(client.put(kind, entry(kind, name))["attestation"])
        assert [len(base64.b64decode(key, validate=True)) for key in made] == [64, 64] and made[0] != made[1]
        read = client.get(kind, name)
        assert hides_its_keys(read)
        changed = client.put(kind, {**read, "allocationPolicy": "static"})
        assert changed["allocationPolicy"] == "static" and keys_of(changed["attestation"]) == made
        told = client.keys(kind, name)
        assert told["type"] == "symmetricKey" and keys_of(told) == made
        client.delete(kind, name)
        assert refusal(client.keys, kind, name) == NOT_FOUND[kind]

    @both_kinds
    def test_one_key_is_replaced_and_the_other_stays(self, client, kind):
        """DPS-SERVICE-9."""
        name, new = fresh_id("Rotated"), fresh_key(64)
        _, secondary = keys_of(client.put(kind, entry(kind, name))["attestation"])
        read = client.get(kind, name)
        rotated = {"type": "symmetricKey", "symmetricKey": {"primaryKey": new, "secondaryKey": ""}}
        assert keys_of(client.put(kind, {**read, "attestation": rotated})["attestation"]) == (new, secondary)

    @both_kinds
    def test_what_a_client_sets_comes_back(self, client, kind):
        """DPS-SERVICE-12."""
        name = fresh_id("Told")
        set_by_client = {
            "initialTwin": {"tags": {"line": 4}, "properties": {"desired": {"rate": {"hz": 1.5}}}},
            "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": False},
            "allocationPolicy": "static",
            "provisioningStatus": "disabled",
        }
        if kind == INDIVIDUAL:
            # The oldest of the clients knows no capabilities of a group.
            set_by_client |= {"deviceId": "Machine#7@line(2)", "capabilities": {"iotEdge": True}}
        created = client.put(kind, entry(kind, name, **set_by_client))
        for found in (created, client.get(kind, name)):
            assert {member: found[member] for member in set_by_client} == set_by_client

    def test_a_tpm_enrollment_keeps_its_endorsement_key(self, client):
        """DPS-SERVICE-7, DPS-SERVICE-10: an endorsement key is public."""
        name, key = fresh_id("Tpm"), endorsement_key()
        attestation = {"type": "tpm", "tpm": {"endorsementKey": key}}
        created = client.put(INDIVIDUAL, entry(INDIVIDUAL, name, attestation))
        read = client.get(INDIVIDUAL, name)
        changed = client.put(INDIVIDUAL, {**read, "deviceId": "other"})
        for found in (created["attestation"], read["attestation"], changed["attestation"]):
            assert found["type"] == "tpm" and found["tpm"]["endorsementKey"] == key
        assert client.keys(INDIVIDUAL, name)["tpm"]["endorsementKey"] == key
        client.delete(INDIVIDUAL, name, changed["etag"])
        assert refusal(client.get, INDIVIDUAL, name) == NOT_FOUND[INDIVIDUAL]

    def test_an_x509_enrollment_keeps_its_certificate(self, client, harbor):
        """DPS-SERVICE-7, DPS-SERVICE-12: read, changed and written back as it was read."""
        name = fresh_id("X509")
        certificate = Path(harbor.ca_file).read_text().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
        attestation = {"type": "x509", "x509": {"clientCertificates": {"primary": {"certificate": certificate}}}}
        created = client.put(INDIVIDUAL, entry(INDIVIDUAL, name, attestation))
        read = client.get(INDIVIDUAL, name)
        changed = client.put(INDIVIDUAL, {**read, "deviceId": "other"})
        for found in (created, read, changed):
            certificates = found["attestation"]["x509"]
            assert found["attestation"]["type"] == "x509" and certificates["clientCertificates"]["primary"]
            assert [certificates.get(other) for other in ("signingCertificates", "caReferences")] == [None, None]
        assert read["attestation"] == client.get(INDIVIDUAL, name)["attestation"]
        client.delete(INDIVIDUAL, name)

    @both_kinds
    @pytest.mark.parametrize("text", ["*", "SELECT * FROM enrollments"])
    def test_a_query_lists_every_entry_once_and_page_by_page(self, client, kind, text):
        """DPS-SERVICE-14, DPS-SERVICE-10."""
        names = sorted(fresh_id("paged") for _ in range(5))
        for name in names:
            client.put(kind, entry(kind, name))
        pages = client.pages(kind, text, 2)
        assert {len(page) for page in pages[:-1]} == {2} and len(pages[-1]) in (1, 2)
        listed = [found for page in pages for found in page]
        ids = [found[ID[kind]] for found in listed]
        assert len(set(ids)) == len(ids) and [name for name in ids if name in names] == names
        assert all(hides_its_keys(found) for found in listed if found[ID[kind]] in names)
        assert [len(page) for page in client.pages(kind, text, 1000)] == [len(ids)]

    @both_kinds
    def test_a_query_with_a_where_lists_what_it_takes(self, client, kind):
        """DPS-SERVICE-23, DPS-SERVICE-25."""
        prefix = fresh_id("where").lower()
        for number in range(5):
            status = "disabled" if number % 2 else "enabled"
            client.put(kind, entry(kind, f"{prefix}-{number}", provisioningStatus=status))
        where = f"select * from {kind}s where STARTS_WITH({ID[kind]}, '{prefix}-') and provisioningStatus = 'enabled'"
        pages = client.pages(kind, where, 2)
        assert [[found[ID[kind]] for found in page] for page in pages if page] == [
            [f"{prefix}-0", f"{prefix}-2"],
            [f"{prefix}-4"],
        ]
        assert refusal(client.pages, kind, where.replace("'enabled'", "'enable'"), 2) == (400, 400004)

    @pytest.mark.parametrize("hub, attestation", [("nowhere.example", None), (None, {"type": "magic"})])
    def test_a_value_that_cannot_stand_is_a_bad_request(self, client, harbor, hub, attestation):
        """DPS-SERVICE-18."""
        bad = entry(INDIVIDUAL, fresh_id("Bad"), attestation, iotHubs=[hub or harbor.hub])
        assert refusal(client.put, INDIVIDUAL, bad) == (400, 400004)

    def test_a_device_registers_with_the_keys_that_the_service_made(self, client, harbor):
        """DPS-SERVICE-13, DPS-SERVICE-17: its record shows, and after its deletion the device comes anew."""
        name, device_id = fresh_id("Own"), "press#7"
        made = client.put(INDIVIDUAL, entry(INDIVIDUAL, name, deviceId=device_id))
        assert refusal(client.record, name) == NO_RECORD
        assert sdk.register(harbor, name, keys_of(made["attestation"])[1]).status == "assigned"
        record = client.record(name)
        assert (record["status"], record["assignedHub"], record["deviceId"]) == ("assigned", harbor.hub, device_id)
        read = client.get(INDIVIDUAL, name)
        assert read["registrationState"]["etag"] == record["etag"]
        assert client.put(INDIVIDUAL, {**read, "provisioningStatus": "disabled"})["etag"] != read["etag"]
        assert refusal(client.delete_record, name, read["etag"]) == CHANGED
        client.delete_record(name, record["etag"])
        assert refusal(client.record, name) == NO_RECORD
        assert refusal(client.delete_record, name) == NO_RECORD
        assert not client.get(INDIVIDUAL, name).get("registrationState")

    def test_a_device_of_a_group_registers_and_its_record_outlives_the_group(self, client, harbor):
        """DPS-SERVICE-9, DPS-SERVICE-13, DPS-SERVICE-15."""
        group, name = fresh_id("Fleet"), fresh_id("Member")
        made = client.put(GROUP, entry(GROUP, group))
        key = derived_key(keys_of(made["attestation"])[0], name)
        assert sdk.register(harbor, name, key).status == "assigned"
        record = client.record(name.upper())
        assert (record["registrationId"], record["status"], record["assignedHub"]) == (name, "assigned", harbor.hub)
        client.delete(GROUP, group)
        assert client.record(name)["etag"] == record["etag"]
        client.delete_record(name)
        assert refusal(client.record, name) == NO_RECORD

    def test_a_wrong_key_or_an_unknown_policy_is_unauthorized(self, connect, harbor):
        """DPS-ACCESS-3, DPS-ACCESS-4."""
        host, policy, key = harbor.service_connection_string.split(";", 2)
        for text in (f"{host};{policy};SharedAccessKey={fresh_key(64)}", f"{host};SharedAccessKeyName=nobody;{key}"):
            client = connect(text)
            name = fresh_id("Stranger")
            assert refusal(client.get, INDIVIDUAL, name) == UNAUTHORIZED
            assert refusal(client.put, INDIVIDUAL, entry(INDIVIDUAL, name)) == UNAUTHORIZED
            assert refusal(client.pages, GROUP, "*", 10) == UNAUTHORIZED
            assert refusal(client.delete_record, name) == UNAUTHORIZED


    def test_entries_are_written_and_deleted_many_at_a_time(self, client):
        """DPS-SERVICE-20, DPS-SERVICE-21."""
        self.check_bulk(client, INDIVIDUAL)

    def check_bulk(self, client, kind):
        names = [fresh_id("bulk") for _ in range(4)]
        made = client.bulk(kind, "create", [entry(kind, name) for name in names[:3]])
        assert (made["isSuccessful"], made.get("errors") or []) == (True, [])
        again = client.bulk(kind, "create", [entry(kind, names[0]), entry(kind, names[3])])
        assert not again["isSuccessful"]
        assert [(error[ID[kind]], error["errorCode"]) for error in again["errors"]] == [(names[0], 409201)]
        found = client.get(kind, names[1])
        changed = client.bulk(
            kind, "updateIfMatchETag", [entry(kind, names[1], etag=found["etag"], provisioningStatus="disabled")]
        )
        assert changed["isSuccessful"], changed
        assert client.get(kind, names[1])["provisioningStatus"] == "disabled"
        gone = client.bulk(kind, "delete", [entry(kind, name) for name in names])
        assert gone["isSuccessful"], gone
        for name in names:
            assert refusal(client.get, kind, name) == NOT_FOUND[kind]


class ListsRecords:
    """The tests of a client that can list the records of a group."""

    def test_the_records_of_a_group_are_listed_page_by_page(self, connect, harbor, register_raw):
        """DPS-SERVICE-14, DPS-SERVICE-15."""
        client = connect(harbor.service_connection_string)
        group, others = fresh_id("Fleet"), fresh_id("Others")
        names = sorted(fresh_id("member") for _ in range(3))
        for of, members in ((group, names), (others, [fresh_id("other")])):
            key, _ = keys_of(client.put(GROUP, entry(GROUP, of))["attestation"])
            for name in members:
                register_raw(name, derived_key(key, name))
        assert client.record_pages(fresh_id("Nothing"), 2) == [[]]
        pages = client.record_pages(group, 2)
        assert [[record["registrationId"] for record in page] for page in pages] == [names[:2], names[2:]]
        assert {record["status"] for page in pages for record in page} == {"assigned"}
        client.delete(GROUP, group)
        assert [len(page) for page in client.record_pages(group, 100)] == [3]
