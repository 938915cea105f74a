-- TPM2B_PUBLIC of the storage root key of a device that is assigned by its TPM, and of the one that it is being assigned by. Spec: DPS-TPM-7.
ALTER TABLE registration ADD COLUMN storage_root_key BLOB;
ALTER TABLE registration ADD COLUMN target_storage_root_key BLOB;
