-- Who changed what, and when; written with the change. Spec: DPS-AUDIT-1.
CREATE TABLE audit (
    number       INTEGER PRIMARY KEY, -- the oldest are deleted, so that it only rises
    id_scope     TEXT    NOT NULL,    -- folded
    at           INTEGER NOT NULL,
    policy       TEXT,                -- name of a shared access policy; NULL: the token of the admin listener
    address      TEXT,
    tracking_id  TEXT,
    action       TEXT    NOT NULL,    -- created, replaced or deleted
    subject_kind TEXT    NOT NULL,    -- enrollment, enrollmentGroup, registration or certificate
    subject      TEXT    NOT NULL,    -- folded
    spelling     TEXT    NOT NULL,
    etag         TEXT                 -- what was written; NULL: deleted
) STRICT;
CREATE UNIQUE INDEX audit_key ON audit (id_scope, number);
CREATE INDEX audit_subject ON audit (id_scope, subject, number);
