-- Custom allocation. Spec: DPS-REG-26, DPS-REG-30, DPS-REG-32.
ALTER TABLE individual_enrollment ADD COLUMN sealed_webhook_url BLOB;  -- NULL: none
ALTER TABLE individual_enrollment ADD COLUMN webhook_api_version TEXT; -- set if the URL is
ALTER TABLE enrollment_group ADD COLUMN sealed_webhook_url BLOB;
ALTER TABLE enrollment_group ADD COLUMN webhook_api_version TEXT;

-- What the webhook that chose the hub has for the device: a JSON object.
ALTER TABLE registration ADD COLUMN payload TEXT;
-- failed, webhook_status: that status.
ALTER TABLE registration ADD COLUMN failure_status INTEGER;

-- State choosing: the operation waits for a webhook. What verified is in the columns of the target, whose hub is NULL.
ALTER TABLE registration ADD COLUMN waiting_due_at INTEGER;      -- when it may be claimed; set in this state alone, as all below
ALTER TABLE registration ADD COLUMN waiting_host TEXT;           -- of the webhook
ALTER TABLE registration ADD COLUMN waiting_tries INTEGER;       -- how often it was claimed
ALTER TABLE registration ADD COLUMN waiting_payload TEXT;        -- JSON that the device sent; NULL: none
ALTER TABLE registration ADD COLUMN waiting_certificate BLOB;    -- DER of the device's; NULL: none
ALTER TABLE registration ADD COLUMN waiting_predates INTEGER;    -- 0 or 1: the device predates reprovisioning
CREATE INDEX registration_waiting ON registration (waiting_host, waiting_due_at) WHERE waiting_due_at IS NOT NULL;
