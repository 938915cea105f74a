-- What lists of some entries only find them by, in the order of their ids. Spec: DPS-SERVICE-23. None holds the entries of a plain
-- fleet (enabled, symmetric keys, any hub, the instance's policy), so that writing those costs no more than before.
CREATE INDEX individual_enrollment_disabled ON individual_enrollment (id_scope, registration_id)
    WHERE provisioning_status = 'disabled';
CREATE INDEX individual_enrollment_x509 ON individual_enrollment (id_scope, registration_id)
    WHERE attestation IN ('client_certificates', 'signing_certificates', 'ca_references');
CREATE INDEX individual_enrollment_tpm ON individual_enrollment (id_scope, registration_id) WHERE attestation = 'tpm';
CREATE INDEX individual_enrollment_policy ON individual_enrollment (id_scope, allocation_policy, registration_id)
    WHERE allocation_policy IS NOT NULL;
CREATE INDEX individual_enrollment_hubs ON individual_enrollment (id_scope, registration_id) WHERE hubs <> '[]';

-- The same of groups. There are no TPM groups.
CREATE INDEX enrollment_group_disabled ON enrollment_group (id_scope, enrollment_group_id)
    WHERE provisioning_status = 'disabled';
CREATE INDEX enrollment_group_x509 ON enrollment_group (id_scope, enrollment_group_id)
    WHERE attestation IN ('client_certificates', 'signing_certificates', 'ca_references');
CREATE INDEX enrollment_group_policy ON enrollment_group (id_scope, allocation_policy, enrollment_group_id)
    WHERE allocation_policy IS NOT NULL;
CREATE INDEX enrollment_group_hubs ON enrollment_group (id_scope, enrollment_group_id) WHERE hubs <> '[]';
