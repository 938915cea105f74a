-- Hubs that others run: operations that wait for them, devices that are to be gone from them, and how they are reached.
-- Spec: DPS-REG-40 to DPS-REG-47, DPS-HUB-10.

-- Operations wait for webhooks or for hubs outside. waiting_host is whom they ask: host and port of a webhook, or ID scope and hubs.
ALTER TABLE registration ADD COLUMN waiting_kind TEXT;            -- choosing: webhook; assigning: hub; NULL: it waits for nobody
-- 1: claimed, and neither written nor given back since: the next claim is that of a worker that another one left.
ALTER TABLE registration ADD COLUMN waiting_is_leased INTEGER NOT NULL DEFAULT 0;
ALTER TABLE registration ADD COLUMN waiting_takes_along INTEGER;  -- hub, as all below: 0 or 1
ALTER TABLE registration ADD COLUMN waiting_iot_edge INTEGER;     -- 0 or 1
ALTER TABLE registration ADD COLUMN waiting_initial_twin TEXT;    -- JSON object; NULL: none
ALTER TABLE registration ADD COLUMN waiting_since INTEGER;
ALTER TABLE registration ADD COLUMN waiting_unanswered_at INTEGER; -- NULL: no call was given up
-- Until then a call that was given up may still make the device; NULL: none was.
ALTER TABLE registration ADD COLUMN strays_until INTEGER;
-- failed with hub_refused: what the hub said.
ALTER TABLE registration ADD COLUMN failure_said TEXT;

UPDATE registration SET waiting_kind = 'webhook' WHERE waiting_due_at IS NOT NULL;
-- What was assigning had nobody to wait for; it is looked at as soon as there is a worker.
UPDATE registration
    SET waiting_kind = 'hub', waiting_host = id_scope || '/' || lower(target_hub), waiting_tries = 0,
        waiting_due_at = operation_began_at, waiting_since = operation_began_at, waiting_takes_along = 0,
        waiting_iot_edge = 0
    WHERE state = 'assigning';

DROP INDEX registration_waiting;
CREATE INDEX registration_waiting ON registration (waiting_kind, waiting_host, waiting_due_at)
    WHERE waiting_due_at IS NOT NULL;

-- Devices that are to be gone from a hub outside. Spec: DPS-REG-43.
CREATE TABLE clean_up (
    id_scope        TEXT    NOT NULL, -- folded
    hub             TEXT    NOT NULL, -- folded
    device_id       TEXT    NOT NULL, -- as written: hubs tell case apart
    hub_spelling    TEXT    NOT NULL,
    guid            BLOB    NOT NULL, -- 16 bytes; tells it from an earlier one of the same device
    registration_id TEXT    NOT NULL, -- as written
    ordered_at      INTEGER NOT NULL,
    confirm_at      INTEGER,          -- looked at once more then; NULL: it is done when the device is gone
    peer            TEXT    NOT NULL, -- whom it asks, as waiting_host of a registration
    tries           INTEGER NOT NULL, -- how often it was claimed
    due_at          INTEGER NOT NULL, -- when it may be claimed
    problem         TEXT              -- why it is not done; NULL before the first try
) STRICT;
CREATE UNIQUE INDEX clean_up_key ON clean_up (id_scope, hub, device_id);
CREATE INDEX clean_up_waiting ON clean_up (peer, due_at);

-- Settings of instances and of their hubs. Spec: DPS-REG-42, DPS-REG-46, DPS-REG-47, DPS-HUB-10.
ALTER TABLE instance ADD COLUMN when_source_unavailable TEXT NOT NULL DEFAULT 'fail';     -- fail or reset
ALTER TABLE instance ADD COLUMN passes_over_unhealthy_hubs INTEGER NOT NULL DEFAULT 0;    -- 0 or 1
ALTER TABLE linked_hub ADD COLUMN is_draining INTEGER NOT NULL DEFAULT 0;                 -- 0 or 1
ALTER TABLE linked_hub ADD COLUMN sealed_connection_string BLOB;                          -- azureIotHub alone: text
