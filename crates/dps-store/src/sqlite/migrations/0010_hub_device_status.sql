-- Whether a device of a local hub may connect to the broker that is its hub. Spec: DPS-BROKER-12.

ALTER TABLE hub_device ADD COLUMN status TEXT NOT NULL DEFAULT 'enabled'; -- enabled or disabled
