-- Settings of service instances that the store keeps. Spec: DPS-INST-1, DPS-INST-8.
--
-- An instance whose etag is NULL has the settings of a configuration, and those here mean nothing.

ALTER TABLE instance ADD COLUMN etag TEXT;
ALTER TABLE instance ADD COLUMN created_at INTEGER;
ALTER TABLE instance ADD COLUMN updated_at INTEGER;
ALTER TABLE instance ADD COLUMN service_hosts TEXT NOT NULL DEFAULT '[]'; -- JSON array, folded
ALTER TABLE instance ADD COLUMN allocation_policy TEXT;                   -- hashed or static
ALTER TABLE instance ADD COLUMN claim_across_groups TEXT;                 -- allow or refuse
ALTER TABLE instance ADD COLUMN allow_v1_leaf INTEGER;                    -- 0 or 1
ALTER TABLE instance ADD COLUMN allow_v1_self_signed_anchor INTEGER;      -- 0 or 1
ALTER TABLE instance ADD COLUMN allow_ca_leaf TEXT;                       -- enrolled, always or never
ALTER TABLE instance ADD COLUMN enforce_anchor_expiry INTEGER;            -- 0 or 1
-- 1: nobody is served by it any more, and what belongs to it is being deleted.
ALTER TABLE instance ADD COLUMN is_deleted INTEGER NOT NULL DEFAULT 0;

CREATE TABLE linked_hub (
    id_scope          TEXT    NOT NULL, -- folded
    hub               TEXT    NOT NULL, -- folded
    hub_spelling      TEXT    NOT NULL,
    position          INTEGER NOT NULL, -- among those of the instance, from 0
    kind              TEXT    NOT NULL, -- local or static
    allocation_weight INTEGER NOT NULL,
    applies_policy    INTEGER NOT NULL, -- 0 or 1: whether entries that name no hubs may choose it
    networks          TEXT    NOT NULL  -- JSON array, such as 10.1.0.0/16
) STRICT;
CREATE UNIQUE INDEX linked_hub_key ON linked_hub (id_scope, hub);

CREATE TABLE shared_access_policy (
    id_scope    TEXT    NOT NULL, -- folded
    policy      TEXT    NOT NULL, -- folded
    spelling    TEXT    NOT NULL,
    position    INTEGER NOT NULL, -- among those of the instance, from 0
    rights      TEXT    NOT NULL, -- JSON array of their words
    sealed_keys BLOB    NOT NULL  -- as in individual_enrollment
) STRICT;
CREATE UNIQUE INDEX shared_access_policy_key ON shared_access_policy (id_scope, policy);
