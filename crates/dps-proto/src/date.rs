//! Dates as bodies hold them. Spec: DPS-ID-7.

use jiff::Timestamp;

/// UTC with seven fraction digits, `2022-08-31T22:02:50.5163352Z`: .NET and Java both read it. Spec: DPS-ID-7.
pub fn format(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%7fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DPS-ID-7
    #[test]
    fn a_date_has_seven_fraction_digits_even_when_they_are_zero() {
        assert_eq!(
            format(Timestamp::new(1_661_983_370, 516_335_299).unwrap()),
            "2022-08-31T22:02:50.5163352Z"
        );
        assert_eq!(format(Timestamp::new(1_661_983_370, 0).unwrap()), "2022-08-31T22:02:50.0000000Z");
    }
}
