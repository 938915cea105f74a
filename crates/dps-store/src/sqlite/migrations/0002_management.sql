-- What the service API lists and returns. Spec: DPS-STORE-11, DPS-SERVICE-16.

-- JSON object of the members that were written with an entry and mean nothing here; NULL: none.
ALTER TABLE individual_enrollment ADD COLUMN other_members TEXT;
ALTER TABLE enrollment_group ADD COLUMN other_members TEXT;

-- Lists the records of a group in the order of their registration ids.
CREATE INDEX registration_group ON registration (id_scope, entry_id, registration_id) WHERE entry_kind = 'group';
