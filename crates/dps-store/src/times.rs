//! Times as stores of tables keep them.

use dps_core::ports::StoreError;
use jiff::Timestamp;

/// The column of a time: nanoseconds since 1970, which suffices from 1677 to 2262.
pub(crate) fn nanoseconds(time: Timestamp) -> Result<i64, StoreError> {
    i64::try_from(time.as_nanosecond())
        .map_err(|_| StoreError::Unavailable(format!("{time} is too far from 1970 to be stored")))
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
}
