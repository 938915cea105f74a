//! What migrations do that SQL cannot. Spec: DPS-STORE-7.

use dps_core::x509::{Certificate, NoCertificate};
use rusqlite::{Connection, params};

use super::OpenError;
use crate::signer_columns::CLIENT_CERTIFICATES;

/// Certificates of individual enrollments, once kept as the text that was given. One that cannot be read admitted nobody, but its
/// enrollment may keep a device out: it is not for a program to drop.
pub(super) fn certificates(connection: &Connection) -> Result<(), OpenError> {
    let select =
        "SELECT rowid, registration_id_spelling, x509_primary, x509_secondary FROM individual_enrollment
                  WHERE attestation = 'x509'";
    let update = "UPDATE individual_enrollment
                  SET attestation = ?2, primary_certificate = ?3, primary_thumbprint = ?4, secondary_certificate = ?5,
                      secondary_thumbprint = ?6
                  WHERE rowid = ?1";
    let mut statement = connection.prepare(select)?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (rowid, registration_id): (i64, String) = (row.get(0)?, row.get(1)?);
        let read = |text: Option<String>| {
            let read = text.map(|text| text.parse::<Certificate>()).transpose();
            read.map_err(|why: NoCertificate| OpenError::Certificate {
                registration_id: registration_id.clone(),
                why: why.to_string(),
            })
        };
        let (primary, secondary) = (read(row.get(2)?)?, read(row.get(3)?)?);
        let der = |certificate: &Option<Certificate>| {
            certificate.as_ref().map(|certificate| certificate.der().to_vec())
        };
        let thumbprint = |certificate: &Option<Certificate>| {
            certificate.as_ref().map(|certificate| certificate.thumbprint().as_bytes().to_vec())
        };
        connection.execute(
            update,
            params![
                rowid,
                CLIENT_CERTIFICATES,
                der(&primary),
                thumbprint(&primary),
                der(&secondary),
                thumbprint(&secondary),
            ],
        )?;
    }
    drop(rows);
    drop(statement);
    connection.execute_batch(
        "ALTER TABLE individual_enrollment DROP COLUMN x509_primary;
         ALTER TABLE individual_enrollment DROP COLUMN x509_secondary;",
    )?;
    Ok(())
}
