-- TPM2B_PUBLIC of the storage root key of the TPM that the latest operation was proved by. Spec: DPS-TPM-1.
ALTER TABLE registration ADD COLUMN operation_storage_root_key BLOB;
UPDATE registration SET operation_storage_root_key = coalesce(target_storage_root_key, storage_root_key);
