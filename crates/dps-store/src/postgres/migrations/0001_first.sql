-- What a store in PostgreSQL holds from its first version on. Spec: DPS-STORE-1, DPS-STORE-6, DPS-STORE-14.
--
-- Every row of an instance carries its ID scope, folded, first in its key. Ids are kept twice where they are shown: folded to lower
-- case in the columns by which they are found, and in the spelling they were first written in. Keys are compared byte by byte
-- (COLLATE "C"), whatever the collation of the database. Times are nanoseconds since 1970 UTC: `to_timestamp(created_at / 1e9)` shows
-- one. A sealed_ column is a sealed value; its associated data is the name of the table, with hyphens, and the key of the row. JSON is
-- kept as text, as it was written.

CREATE TABLE instance (
    id_scope                    text   COLLATE "C" PRIMARY KEY,
    id_scope_spelling           text   NOT NULL,
    number                      bigint GENERATED ALWAYS AS IDENTITY, -- order of creation
    sealed_secret               bytea  NOT NULL,                     -- 32 bytes
    -- NULL: the instance has the settings of a configuration, and those here mean nothing.
    etag                        text,
    created_at                  bigint,
    updated_at                  bigint,
    service_hosts               text[] NOT NULL DEFAULT '{}',        -- folded
    allocation_policy           text,                                -- hashed, static or geo_latency, in their own words
    claim_across_groups         text,                                -- allow or refuse
    when_source_unavailable     text,                                -- fail or reset
    passes_over_unhealthy_hubs  boolean,
    allow_v1_leaf               boolean,
    allow_v1_self_signed_anchor boolean,
    allow_ca_leaf               text,                                -- enrolled, always or never
    enforce_anchor_expiry       boolean,
    is_deleted                  boolean NOT NULL DEFAULT false       -- what belongs to it is being deleted
);
COMMENT ON TABLE instance IS 'Service instances, each with the secret of its operation ids; the settings of those that the store keeps';

CREATE TABLE linked_hub (
    id_scope                 text COLLATE "C" NOT NULL,
    hub                      text COLLATE "C" NOT NULL, -- folded
    hub_spelling             text    NOT NULL,
    position                 bigint  NOT NULL,          -- among those of the instance, from 0
    kind                     text    NOT NULL,          -- local, static or azureIotHub
    allocation_weight        bigint  NOT NULL,
    applies_policy           boolean NOT NULL,          -- whether entries that name no hubs may choose it
    networks                 text[]  NOT NULL,          -- such as 10.1.0.0/16
    is_draining              boolean NOT NULL,
    sealed_connection_string bytea,                     -- azureIotHub alone: text
    PRIMARY KEY (id_scope, hub)
);
COMMENT ON TABLE linked_hub IS 'Linked hubs of the instances whose settings the store keeps';

CREATE TABLE shared_access_policy (
    id_scope    text COLLATE "C" NOT NULL,
    policy      text COLLATE "C" NOT NULL, -- folded
    spelling    text   NOT NULL,
    position    bigint NOT NULL,           -- among those of the instance, from 0
    rights      text[] NOT NULL,           -- their words
    sealed_keys bytea  NOT NULL,           -- length of the primary key, primary key, secondary key
    PRIMARY KEY (id_scope, policy)
);
COMMENT ON TABLE shared_access_policy IS 'Who may manage the instances whose settings the store keeps';

CREATE TABLE individual_enrollment (
    id_scope                 text COLLATE "C" NOT NULL,
    registration_id          text COLLATE "C" NOT NULL, -- folded
    registration_id_spelling text    NOT NULL,
    created_at               bigint  NOT NULL,
    etag                     text    NOT NULL,
    updated_at               bigint  NOT NULL,
    device_id                text,                      -- NULL: the registration id
    -- symmetric_key, tpm, client_certificates, signing_certificates or ca_references: says which of the columns below are set
    attestation              text    NOT NULL,
    sealed_keys              bytea,                     -- symmetric_key, as in shared_access_policy
    endorsement_key          bytea,                     -- tpm: TPM2B_PUBLIC
    primary_certificate      bytea,                     -- client_certificates, signing_certificates: DER
    secondary_certificate    bytea,                     -- the same, optional
    primary_ca               text COLLATE "C",          -- ca_references: name, folded, and its spelling
    primary_ca_spelling      text,
    secondary_ca             text COLLATE "C",          -- the same, optional
    secondary_ca_spelling    text,
    primary_thumbprint       bytea,                     -- client_certificates: SHA-256
    secondary_thumbprint     bytea,
    provisioning_status      text    NOT NULL,          -- enabled or disabled
    allocation_policy        text,                      -- NULL: the instance's default
    hubs                     text[]  NOT NULL,          -- host names; empty: every linked hub
    initial_twin             text,                      -- JSON object
    iot_edge                 boolean NOT NULL,
    update_hub_assignment    boolean,                   -- reprovision policy; both NULL: none
    migrate_device_data      boolean,
    other_members            text,                      -- JSON object of members that mean nothing here; NULL: none
    sealed_webhook_url       bytea,                     -- NULL: none
    webhook_api_version      text,                      -- set if the URL is
    PRIMARY KEY (id_scope, registration_id)
);
COMMENT ON TABLE individual_enrollment IS 'Entries of the enrollment list that admit one device each';
-- What a chain finds the device of a certificate by.
CREATE INDEX individual_enrollment_primary_thumbprint
    ON individual_enrollment (id_scope, primary_thumbprint) WHERE primary_thumbprint IS NOT NULL;
CREATE INDEX individual_enrollment_secondary_thumbprint
    ON individual_enrollment (id_scope, secondary_thumbprint) WHERE secondary_thumbprint IS NOT NULL;
-- What keeps a CA certificate from being deleted.
CREATE INDEX individual_enrollment_primary_ca
    ON individual_enrollment (id_scope, primary_ca) WHERE primary_ca IS NOT NULL;
CREATE INDEX individual_enrollment_secondary_ca
    ON individual_enrollment (id_scope, secondary_ca) WHERE secondary_ca IS NOT NULL;
-- What lists of some entries find them by, in the order of their ids. Spec: DPS-SERVICE-23. None holds the entries of a plain fleet
-- (enabled, symmetric keys, any hub, the instance's policy), so that writing those costs no more.
CREATE INDEX individual_enrollment_disabled ON individual_enrollment (id_scope, registration_id)
    WHERE provisioning_status = 'disabled';
CREATE INDEX individual_enrollment_x509 ON individual_enrollment (id_scope, registration_id)
    WHERE attestation IN ('client_certificates', 'signing_certificates', 'ca_references');
CREATE INDEX individual_enrollment_tpm ON individual_enrollment (id_scope, registration_id) WHERE attestation = 'tpm';
CREATE INDEX individual_enrollment_policy ON individual_enrollment (id_scope, allocation_policy, registration_id)
    WHERE allocation_policy IS NOT NULL;
CREATE INDEX individual_enrollment_hubs ON individual_enrollment (id_scope, registration_id) WHERE hubs <> '{}';

CREATE TABLE enrollment_group (
    id_scope                     text COLLATE "C" NOT NULL,
    enrollment_group_id          text COLLATE "C" NOT NULL, -- folded
    enrollment_group_id_spelling text    NOT NULL,
    created_at                   bigint  NOT NULL,
    etag                         text    NOT NULL,
    updated_at                   bigint  NOT NULL,
    registration_id_prefix       text COLLATE "C",          -- folded; NULL: every registration id
    attestation                  text    NOT NULL,          -- symmetric_key, signing_certificates or ca_references
    sealed_keys                  bytea,                     -- as in individual_enrollment, and so are all below
    primary_certificate          bytea,
    secondary_certificate        bytea,
    primary_ca                   text COLLATE "C",
    primary_ca_spelling          text,
    secondary_ca                 text COLLATE "C",
    secondary_ca_spelling        text,
    provisioning_status          text    NOT NULL,
    allocation_policy            text,
    hubs                         text[]  NOT NULL,
    initial_twin                 text,
    iot_edge                     boolean NOT NULL,
    update_hub_assignment        boolean,
    migrate_device_data          boolean,
    other_members                text,
    sealed_webhook_url           bytea,
    webhook_api_version          text,
    PRIMARY KEY (id_scope, enrollment_group_id)
);
COMMENT ON TABLE enrollment_group IS 'Entries of the enrollment list that admit many devices each';
-- Finds the groups of a prefix, and those without one. Neither holds all groups of an ID scope: a plan that is made while there are
-- few groups must not find one by its id there.
CREATE INDEX enrollment_group_prefix ON enrollment_group (id_scope, registration_id_prefix)
    WHERE registration_id_prefix IS NOT NULL;
CREATE INDEX enrollment_group_open ON enrollment_group (id_scope, created_at, enrollment_group_id)
    WHERE registration_id_prefix IS NULL AND attestation = 'symmetric_key';
CREATE INDEX enrollment_group_disabled ON enrollment_group (id_scope, enrollment_group_id)
    WHERE provisioning_status = 'disabled';
CREATE INDEX enrollment_group_x509 ON enrollment_group (id_scope, enrollment_group_id)
    WHERE attestation IN ('client_certificates', 'signing_certificates', 'ca_references');
CREATE INDEX enrollment_group_policy ON enrollment_group (id_scope, allocation_policy, enrollment_group_id)
    WHERE allocation_policy IS NOT NULL;
CREATE INDEX enrollment_group_hubs ON enrollment_group (id_scope, enrollment_group_id) WHERE hubs <> '{}';

CREATE TABLE enrollment_group_anchor (
    id_scope            text COLLATE "C" NOT NULL,
    anchor              text COLLATE "C" NOT NULL, -- subject/ and the name's hash in hexadecimal, or ca/ and the folded name
    enrollment_group_id text COLLATE "C" NOT NULL, -- folded
    PRIMARY KEY (id_scope, anchor, enrollment_group_id)
);
COMMENT ON TABLE enrollment_group_anchor
    IS 'What chains find groups by: the subject of a signing certificate, or the name of a CA certificate';
CREATE INDEX enrollment_group_anchor_group ON enrollment_group_anchor (id_scope, enrollment_group_id);

CREATE TABLE enrollment_group_version (
    id_scope text COLLATE "C" PRIMARY KEY,
    version  bigint NOT NULL
);
COMMENT ON TABLE enrollment_group_version IS 'Counts the writes to groups without a prefix, so that a node knows whether those it '
    'remembers are current. Whoever writes a group holds the row of its ID scope: what may be no more than so many is counted under it';

CREATE TABLE ca_certificate (
    id_scope          text COLLATE "C" NOT NULL,
    name              text COLLATE "C" NOT NULL, -- folded
    name_spelling     text    NOT NULL,
    created_at        bigint  NOT NULL,
    etag              text    NOT NULL,
    updated_at        bigint  NOT NULL,
    certificate       bytea   NOT NULL,          -- DER
    is_verified       boolean NOT NULL,
    verification_code text,                      -- what a proof must have as its common name; NULL: none was asked for
    PRIMARY KEY (id_scope, name)
);
COMMENT ON TABLE ca_certificate IS 'CA certificates that were uploaded';

CREATE TABLE ca_certificate_version (
    id_scope text COLLATE "C" PRIMARY KEY,
    version  bigint NOT NULL
);
COMMENT ON TABLE ca_certificate_version IS 'The same as enrollment_group_version, for the CA certificates of an ID scope';

CREATE TABLE registration (
    id_scope                   text COLLATE "C" NOT NULL,
    registration_id            text COLLATE "C" NOT NULL, -- folded
    registration_id_spelling   text   NOT NULL,           -- of the first registration
    created_at                 bigint NOT NULL,
    etag                       text   NOT NULL,
    updated_at                 bigint NOT NULL,
    entry_kind                 text   NOT NULL,           -- individual or group
    entry_id                   text COLLATE "C" NOT NULL, -- folded
    entry_id_spelling          text   NOT NULL,
    operation_guid             uuid   NOT NULL,
    operation_began_at         bigint NOT NULL,
    operation_storage_root_key bytea,                     -- TPM2B_PUBLIC, of the TPM that the operation was proved by
    payload                    text,                      -- JSON object: what the webhook that chose the hub has for the device
    strays_until               bigint,                    -- until then a call that was given up may still make the device
    state                      text   NOT NULL,           -- choosing, assigning, assigned, failed or disabled
    substatus                  text,                      -- assigned: initial, reprovisioned_to_initial, data_migrated or data_reset
    failure                    text,                      -- failed: one of the words for why
    failure_status             bigint,                    -- failed, webhook_status: that status
    failure_said               text,                      -- failed, hub_refused: what the hub said
    -- Where the device lives, whatever the state; NULL: nowhere yet. What it authenticates with: keys derived over a spelling, a
    -- certificate by its SHA-256, a TPM by its storage root key (TPM2B_PUBLIC), or, where all three are NULL, the enrollment's own keys.
    hub                        text COLLATE "C",
    device_id                  text,                      -- set if hub is
    derived_spelling           text,
    thumbprint                 bytea,
    storage_root_key           bytea,
    -- assigning: where it is to live. choosing: what verified is in the last three.
    target_hub                 text COLLATE "C",
    target_device_id           text,
    target_derived_spelling    text,
    target_thumbprint          bytea,
    target_storage_root_key    bytea,
    -- What it waits for. Set in the states choosing and assigning alone.
    waiting_kind               text COLLATE "C",          -- choosing: webhook; assigning: hub
    waiting_peer               text COLLATE "C",          -- whom it asks: host and port of a webhook, or ID scope and hubs
    waiting_due_at             bigint,                    -- when it may be claimed
    waiting_tries              bigint,                    -- how often it was claimed: the number of the newest claim
    waiting_is_leased          boolean,                   -- claimed, and neither written nor given back since
    waiting_payload            text,                      -- choosing: JSON that the device sent; NULL: none
    waiting_certificate        bytea,                     -- choosing: DER of the device's; NULL: none
    waiting_predates           boolean,                   -- choosing: the device predates reprovisioning
    waiting_takes_along        boolean,                   -- assigning: whether it brings along what it has at the hub that it leaves
    waiting_iot_edge           boolean,                   -- assigning
    waiting_initial_twin       text,                      -- assigning: JSON object; NULL: none
    waiting_since              bigint,                    -- assigning
    waiting_unanswered_at      bigint,                    -- assigning; NULL: no call was given up
    PRIMARY KEY (id_scope, registration_id)
);
COMMENT ON TABLE registration IS 'One record for each device: where it lives, and how its latest operation stands';
-- Lists the records of a group in the order of their registration ids.
CREATE INDEX registration_group ON registration (id_scope, entry_id, registration_id) WHERE entry_kind = 'group';
-- What is due, peer by peer.
CREATE INDEX registration_waiting ON registration (waiting_kind, waiting_peer, waiting_due_at)
    WHERE waiting_due_at IS NOT NULL;

CREATE TABLE hub_device (
    id_scope             text COLLATE "C" NOT NULL,
    hub                  text COLLATE "C" NOT NULL, -- folded
    device_id            text COLLATE "C" NOT NULL, -- as written: hubs tell case apart
    hub_spelling         text    NOT NULL,
    created_at           bigint  NOT NULL,
    twin                 text,                      -- JSON object
    registration_id      text    NOT NULL,          -- as written
    sealed_keys          bytea   NOT NULL,          -- as in shared_access_policy; empty where the thumbprints are set
    primary_thumbprint   bytea,                     -- SHA-256 of the certificate that it authenticates with
    secondary_thumbprint bytea,
    iot_edge             boolean NOT NULL,
    status               text    NOT NULL,          -- enabled or disabled
    updated_at           bigint  NOT NULL,
    PRIMARY KEY (id_scope, hub, device_id)
);
COMMENT ON TABLE hub_device IS 'Devices of local hubs';

CREATE TABLE clean_up (
    id_scope        text COLLATE "C" NOT NULL,
    hub             text COLLATE "C" NOT NULL, -- folded
    device_id       text COLLATE "C" NOT NULL, -- as written: hubs tell case apart
    hub_spelling    text   NOT NULL,
    guid            uuid   NOT NULL,           -- tells it from an earlier one of the same device
    registration_id text   NOT NULL,           -- as written
    ordered_at      bigint NOT NULL,
    confirm_at      bigint,                    -- looked at once more then; NULL: it is done when the device is gone
    peer            text COLLATE "C" NOT NULL, -- whom it asks, as waiting_peer of a registration
    tries           bigint NOT NULL,           -- how often it was claimed: the number of the newest claim
    due_at          bigint NOT NULL,           -- when it may be claimed
    problem         text,                      -- why it is not done; NULL before the first try
    PRIMARY KEY (id_scope, hub, device_id)
);
COMMENT ON TABLE clean_up IS 'Devices that are to be gone from hubs outside';
CREATE INDEX clean_up_waiting ON clean_up (peer, due_at);

CREATE TABLE audit (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the oldest are deleted, so that it only rises
    id_scope     text COLLATE "C" NOT NULL,
    at           bigint NOT NULL,
    policy       text,                      -- name of a shared access policy; NULL: the token of the admin listener
    address      text,
    tracking_id  text,
    action       text NOT NULL,             -- created, replaced, deleted, enabled or disabled
    subject_kind text NOT NULL,             -- what the subject is: enrollment, enrollmentGroup, registration, certificate, ...
    subject      text COLLATE "C" NOT NULL, -- folded
    spelling     text NOT NULL,
    etag         text                       -- what was written; NULL: deleted
);
COMMENT ON TABLE audit IS 'Who changed what, and when; written with the change';
CREATE INDEX audit_scope ON audit (id_scope, number);
CREATE INDEX audit_subject ON audit (id_scope, subject, number);

CREATE TABLE turn (
    name  text COLLATE "C" PRIMARY KEY,
    taken bigint NOT NULL
);
COMMENT ON TABLE turn IS 'Rows that are held while something is done that only one may do at a time: instances, their settings are '
    'written; check, it is tried whether a write would be durable';
INSERT INTO turn (name, taken) VALUES ('instances', 0), ('check', 0);
