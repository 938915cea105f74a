//! How single values lie in columns.

use std::fmt::Display;
use std::str::FromStr;

use dps_core::enrollment::{AllocationPolicy, ProvisioningStatus};
use dps_core::ports::{HubDeviceStatus, StoreError};
use dps_core::registration::Substatus;
use dps_proto::key::{KeyPair, SymmetricKey};
use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::FromSql;
use zeroize::Zeroizing;

use super::fault::Fault;
use crate::sealing::Sealer;

/// Reads the columns of a row one after the other, in the order of its SELECT.
pub(super) struct Columns<'row> {
    row: &'row Row<'row>,
    next: usize,
}

impl<'row> Columns<'row> {
    pub(super) fn of(row: &'row Row<'row>) -> Self {
        Self { row, next: 0 }
    }

    /// The next column as it is.
    pub(super) fn value<T: FromSql>(&mut self) -> Result<T, Fault> {
        let value = self.row.get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    /// The next column, a text that is parsed.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&mut self) -> Result<T, Fault> {
        let text: String = self.value()?;
        self.parse(&text)
    }

    /// The next column, a text that is parsed, or NULL.
    pub(super) fn optional<T: FromStr<Err: Display>>(&mut self) -> Result<Option<T>, Fault> {
        let text: Option<String> = self.value()?;
        text.map(|text| self.parse(&text)).transpose()
    }

    /// The next column, one of a few words.
    pub(super) fn word<T: Word>(&mut self) -> Result<T, Fault> {
        self.optional_word()?.ok_or_else(|| self.unreadable("it is NULL"))
    }

    /// The next column, one of a few words or NULL.
    pub(super) fn optional_word<T: Word>(&mut self) -> Result<Option<T>, Fault> {
        let Some(text) = self.value::<Option<String>>()? else { return Ok(None) };
        let known = T::ALL.iter().find(|word| word.word() == text);
        known.copied().map(Some).ok_or_else(|| self.unreadable(format!("{text:?} is no word for it")))
    }

    /// The next column, a time.
    pub(super) fn time(&mut self) -> Result<Timestamp, Fault> {
        let nanoseconds: i64 = self.value()?;
        Timestamp::from_nanosecond(nanoseconds.into()).map_err(|error| self.unreadable(error))
    }

    /// The next column, a time or NULL.
    pub(super) fn optional_time(&mut self) -> Result<Option<Timestamp>, Fault> {
        let Some(nanoseconds) = self.value::<Option<i64>>()? else { return Ok(None) };
        let time = Timestamp::from_nanosecond(nanoseconds.into());
        time.map(Some).map_err(|error| self.unreadable(error))
    }

    /// A fault of the column that was read last.
    pub(super) fn unreadable(&self, why: impl Display) -> Fault {
        let column = self.next.saturating_sub(1);
        let row = self.row.as_ref();
        Fault::unreadable(format!("column {}: {why}", row.column_name(column).unwrap_or("?")))
    }

    fn parse<T: FromStr<Err: Display>>(&self, text: &str) -> Result<T, Fault> {
        text.parse().map_err(|error| self.unreadable(error))
    }
}

/// The column of a time: nanoseconds since 1970, which suffices from 1677 to 2262.
pub(super) fn nanoseconds(time: Timestamp) -> Result<i64, StoreError> {
    i64::try_from(time.as_nanosecond())
        .map_err(|_| StoreError::Unavailable(format!("{time} is too far from 1970 to be stored")))
}

/// The sealed form of a pair of keys. Spec: DPS-STORE-6.
pub(super) fn seal_keys(sealer: &Sealer, row_key: &str, keys: &KeyPair) -> Result<Vec<u8>, StoreError> {
    let (primary, secondary) = (keys.primary.expose(), keys.secondary.expose());
    let mut text = Zeroizing::new(Vec::with_capacity(1 + primary.len() + secondary.len()));
    // A key has at most 64 bytes.
    text.push(primary.len() as u8);
    text.extend_from_slice(primary);
    text.extend_from_slice(secondary);
    sealer.seal(row_key, &text)
}

/// The keys of a sealed pair.
pub(super) fn open_keys(sealer: &Sealer, row_key: &str, sealed: &[u8]) -> Result<KeyPair, Fault> {
    let text = sealer.open(row_key, sealed)?;
    let unreadable = || Fault::unreadable(format!("the secret of {row_key} is no pair of keys"));
    let (length, keys) = text.split_first().ok_or_else(unreadable)?;
    let (primary, secondary) = keys.split_at_checked(usize::from(*length)).ok_or_else(unreadable)?;
    let key = |bytes: &[u8]| SymmetricKey::from_bytes(bytes.to_vec()).map_err(|_| unreadable());
    Ok(KeyPair { primary: key(primary)?, secondary: key(secondary)? })
}

/// A value that is stored as one of a few words.
pub(super) trait Word: Copy + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
}

impl Word for ProvisioningStatus {
    const ALL: &'static [Self] = &[Self::Enabled, Self::Disabled];
    fn word(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
        }
    }
}

impl Word for AllocationPolicy {
    const ALL: &'static [Self] = &AllocationPolicy::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

impl Word for Substatus {
    const ALL: &'static [Self] = &[
        Self::InitialAssignment,
        Self::ReprovisionedToInitialAssignment,
        Self::DeviceDataMigrated,
        Self::DeviceDataReset,
    ];
    fn word(self) -> &'static str {
        match self {
            Self::InitialAssignment => "initial",
            Self::ReprovisionedToInitialAssignment => "reprovisioned_to_initial",
            Self::DeviceDataMigrated => "data_migrated",
            Self::DeviceDataReset => "data_reset",
        }
    }
}

impl Word for HubDeviceStatus {
    const ALL: &'static [Self] = &HubDeviceStatus::ALL;
    fn word(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_keeps_its_nanoseconds_from_1677_to_2262() {
        for text in [
            "1677-09-22T00:00:00Z",
            "1970-01-01T00:00:00Z",
            "2026-11-20T08:09:10.123456789Z",
            "2262-04-11T00:00:00Z",
        ] {
            let time: Timestamp = text.parse().unwrap();
            assert_eq!(Timestamp::from_nanosecond(nanoseconds(time).unwrap().into()).unwrap(), time);
        }
        assert!(nanoseconds("2263-01-01T00:00:00Z".parse().unwrap()).is_err());
    }

    /// DPS-STORE-6
    #[test]
    fn a_pair_of_keys_of_any_length_comes_back_from_its_sealed_form() {
        let sealer = Sealer::new(&crate::SealingKey::from_bytes([1; 32]));
        let key = |length| SymmetricKey::from_bytes(vec![length as u8; length]).unwrap();
        for (primary, secondary) in [(16, 64), (64, 16), (64, 64), (16, 16)] {
            let keys = KeyPair { primary: key(primary), secondary: key(secondary) };
            let opened = open_keys(&sealer, "row", &seal_keys(&sealer, "row", &keys).unwrap()).unwrap();
            assert_eq!(opened.primary.expose(), keys.primary.expose());
            assert_eq!(opened.secondary.expose(), keys.secondary.expose());
        }
    }

    /// DPS-STORE-6
    #[test]
    fn a_sealed_value_that_is_no_pair_of_keys_is_unreadable() {
        let sealer = Sealer::new(&crate::SealingKey::from_bytes([1; 32]));
        for text in [&[][..], &[16], &[16, 1], &[16; 17], &[200; 129]] {
            let opened = open_keys(&sealer, "row", &sealer.seal("row", text).unwrap());
            assert!(matches!(opened, Err(Fault::Stored(StoreError::Unreadable(_)))), "{opened:?}");
        }
    }
}
