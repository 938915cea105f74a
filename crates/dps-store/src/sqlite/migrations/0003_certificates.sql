-- Certificates: of entries, of devices at hubs, and the CA certificates of an instance. Spec: DPS-X509-4 to DPS-X509-10, DPS-X509-22 to
-- DPS-X509-25. What stood in x509_primary and x509_secondary, as text, is converted by the program in the same transaction.

-- `attestation` is symmetric_key, tpm, client_certificates, signing_certificates or ca_references. Certificates are DER.
ALTER TABLE individual_enrollment ADD COLUMN primary_certificate BLOB;    -- client_certificates, signing_certificates
ALTER TABLE individual_enrollment ADD COLUMN secondary_certificate BLOB;  -- the same, optional
ALTER TABLE individual_enrollment ADD COLUMN primary_ca TEXT;             -- ca_references: name, folded, and its spelling
ALTER TABLE individual_enrollment ADD COLUMN primary_ca_spelling TEXT;
ALTER TABLE individual_enrollment ADD COLUMN secondary_ca TEXT;           -- the same, optional
ALTER TABLE individual_enrollment ADD COLUMN secondary_ca_spelling TEXT;
ALTER TABLE individual_enrollment ADD COLUMN primary_thumbprint BLOB;     -- client_certificates: SHA-256
ALTER TABLE individual_enrollment ADD COLUMN secondary_thumbprint BLOB;
CREATE INDEX individual_enrollment_primary_thumbprint
    ON individual_enrollment (id_scope, primary_thumbprint) WHERE primary_thumbprint IS NOT NULL;
CREATE INDEX individual_enrollment_secondary_thumbprint
    ON individual_enrollment (id_scope, secondary_thumbprint) WHERE secondary_thumbprint IS NOT NULL;
CREATE INDEX individual_enrollment_primary_ca
    ON individual_enrollment (id_scope, primary_ca) WHERE primary_ca IS NOT NULL;
CREATE INDEX individual_enrollment_secondary_ca
    ON individual_enrollment (id_scope, secondary_ca) WHERE secondary_ca IS NOT NULL;

-- `attestation` is symmetric_key, signing_certificates or ca_references.
ALTER TABLE enrollment_group ADD COLUMN primary_certificate BLOB;
ALTER TABLE enrollment_group ADD COLUMN secondary_certificate BLOB;
ALTER TABLE enrollment_group ADD COLUMN primary_ca TEXT;
ALTER TABLE enrollment_group ADD COLUMN primary_ca_spelling TEXT;
ALTER TABLE enrollment_group ADD COLUMN secondary_ca TEXT;
ALTER TABLE enrollment_group ADD COLUMN secondary_ca_spelling TEXT;

-- What chains find groups by: the subject of a signing certificate, or the name of a CA certificate.
CREATE TABLE enrollment_group_anchor (
    id_scope            TEXT NOT NULL, -- folded
    anchor              TEXT NOT NULL, -- subject/ and the name's hash in hexadecimal, or ca/ and the folded name
    enrollment_group_id TEXT NOT NULL  -- folded
) STRICT;
CREATE UNIQUE INDEX enrollment_group_anchor_key ON enrollment_group_anchor (id_scope, anchor, enrollment_group_id);
CREATE INDEX enrollment_group_anchor_group ON enrollment_group_anchor (id_scope, enrollment_group_id);

CREATE TABLE ca_certificate (
    id_scope          TEXT    NOT NULL, -- folded
    name              TEXT    NOT NULL, -- folded
    name_spelling     TEXT    NOT NULL,
    etag              TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    certificate       BLOB    NOT NULL, -- DER
    is_verified       INTEGER NOT NULL, -- 0 or 1
    verification_code TEXT              -- what a proof must have as its common name; NULL: none was asked for
) STRICT;
CREATE UNIQUE INDEX ca_certificate_key ON ca_certificate (id_scope, name);

-- Counts the writes to the CA certificates of an ID scope, so that a reader knows whether those it remembers are current.
CREATE TABLE ca_certificate_version (
    id_scope TEXT    NOT NULL, -- folded
    version  INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX ca_certificate_version_key ON ca_certificate_version (id_scope);

-- SHA-256 of the certificate that the hub identity has, in place of keys.
ALTER TABLE registration ADD COLUMN thumbprint BLOB;
ALTER TABLE registration ADD COLUMN target_thumbprint BLOB;

-- The same for devices of local hubs; their sealed_keys are empty.
ALTER TABLE hub_device ADD COLUMN primary_thumbprint BLOB;
ALTER TABLE hub_device ADD COLUMN secondary_thumbprint BLOB;
