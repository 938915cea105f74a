-- What a store holds from its first version on. Spec: DPS-STORE-1, DPS-STORE-6.
--
-- Every row carries its ID scope. Ids are kept twice where they are shown: folded to lower case in the columns by which
-- they are found, and in the spelling they were first written in. Times are nanoseconds since 1970 UTC. A sealed_ column is a
-- sealed value; its associated data is the name of the table, with hyphens, and the unique key of the row.
--
-- Tables keep their rowid, with a unique index beside it: measured twice as fast for random keys as WITHOUT ROWID.

CREATE TABLE instance (
    number            INTEGER PRIMARY KEY, -- order of creation
    id_scope          TEXT NOT NULL,       -- folded
    id_scope_spelling TEXT NOT NULL,
    sealed_secret     BLOB NOT NULL        -- 32 bytes
) STRICT;
CREATE UNIQUE INDEX instance_key ON instance (id_scope);

CREATE TABLE individual_enrollment (
    id_scope                 TEXT    NOT NULL, -- folded
    registration_id          TEXT    NOT NULL, -- folded
    registration_id_spelling TEXT    NOT NULL,
    etag                     TEXT    NOT NULL,
    created_at               INTEGER NOT NULL,
    updated_at               INTEGER NOT NULL,
    device_id                TEXT,             -- NULL: the registration id
    attestation              TEXT    NOT NULL, -- symmetric_key, x509 or tpm: says which of the next four are set
    sealed_keys              BLOB,             -- symmetric_key: length of the primary key, primary key, secondary key
    x509_primary             TEXT,             -- x509
    x509_secondary           TEXT,             -- x509, optional
    endorsement_key          BLOB,             -- tpm: TPM2B_PUBLIC
    provisioning_status      TEXT    NOT NULL, -- enabled or disabled
    allocation_policy        TEXT,             -- hashed or static; NULL: the instance's default
    hubs                     TEXT    NOT NULL, -- JSON array of host names; empty: every linked hub
    initial_twin             TEXT,             -- JSON object
    iot_edge                 INTEGER NOT NULL, -- 0 or 1
    update_hub_assignment    INTEGER,          -- reprovision policy, 0 or 1; both NULL: none
    migrate_device_data      INTEGER
) STRICT;
CREATE UNIQUE INDEX individual_enrollment_key ON individual_enrollment (id_scope, registration_id);

CREATE TABLE enrollment_group (
    id_scope                     TEXT    NOT NULL, -- folded
    enrollment_group_id          TEXT    NOT NULL, -- folded
    enrollment_group_id_spelling TEXT    NOT NULL,
    etag                         TEXT    NOT NULL,
    created_at                   INTEGER NOT NULL,
    updated_at                   INTEGER NOT NULL,
    registration_id_prefix       TEXT,             -- folded; NULL: every registration id
    attestation                  TEXT    NOT NULL, -- symmetric_key
    sealed_keys                  BLOB,             -- as in individual_enrollment, and so are all below
    provisioning_status          TEXT    NOT NULL,
    allocation_policy            TEXT,
    hubs                         TEXT    NOT NULL,
    initial_twin                 TEXT,
    iot_edge                     INTEGER NOT NULL,
    update_hub_assignment        INTEGER,
    migrate_device_data          INTEGER
) STRICT;
CREATE UNIQUE INDEX enrollment_group_key ON enrollment_group (id_scope, enrollment_group_id);
-- Finds the groups of a prefix, and those without one.
CREATE INDEX enrollment_group_prefix ON enrollment_group (id_scope, registration_id_prefix);

-- Counts the writes to the groups of an ID scope, so that a reader knows whether the open groups it remembers are current.
CREATE TABLE enrollment_group_version (
    id_scope TEXT    NOT NULL, -- folded
    version  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX enrollment_group_version_key ON enrollment_group_version (id_scope);

CREATE TABLE registration (
    id_scope                 TEXT    NOT NULL, -- folded
    registration_id          TEXT    NOT NULL, -- folded
    registration_id_spelling TEXT    NOT NULL, -- of the first registration
    etag                     TEXT    NOT NULL,
    created_at               INTEGER NOT NULL,
    updated_at               INTEGER NOT NULL,
    entry_kind               TEXT    NOT NULL, -- individual or group
    entry_id                 TEXT    NOT NULL, -- folded
    entry_id_spelling        TEXT    NOT NULL,
    operation_guid           BLOB    NOT NULL, -- 16 bytes
    operation_began_at       INTEGER NOT NULL,
    state                    TEXT    NOT NULL, -- assigning, assigned, failed or disabled
    substatus                TEXT,             -- assigned: initial, reprovisioned_to_initial, data_migrated or data_reset
    failure                  TEXT,             -- failed: no_usable_hub or enrollment_gone
    hub                      TEXT,             -- where the device lives, whatever the state; NULL: nowhere yet
    device_id                TEXT,             -- set if hub is
    derived_spelling         TEXT,             -- spelling that its hub keys are derived over; NULL: the enrollment's own keys
    target_hub               TEXT,             -- assigning: where it is to live; the two below as those above
    target_device_id         TEXT,
    target_derived_spelling  TEXT
) STRICT;
CREATE UNIQUE INDEX registration_key ON registration (id_scope, registration_id);

-- Devices of local hubs. Spec: DPS-REG-17.
CREATE TABLE hub_device (
    id_scope        TEXT    NOT NULL, -- folded
    hub             TEXT    NOT NULL, -- folded
    device_id       TEXT    NOT NULL, -- as written: hubs tell case apart
    hub_spelling    TEXT    NOT NULL,
    registration_id TEXT    NOT NULL, -- as written
    sealed_keys     BLOB    NOT NULL, -- as in individual_enrollment
    iot_edge        INTEGER NOT NULL, -- 0 or 1
    twin            TEXT,             -- JSON object
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX hub_device_key ON hub_device (id_scope, hub, device_id);
