//! The few statistics that the benchmark reports.

/// The middle of `values`; the mean of the two in the middle where their number is even. `None` where there are none.
pub(super) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    Some((sorted[sorted.len() / 2 - 1] + upper) / 2.0)
}

/// The smallest of `values` that is not below `percent` of them (nearest rank). `None` where there are none.
pub(super) fn percentile(values: &[u64], percent: u8) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * usize::from(percent.min(100))).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// How much the second member grows for each step of the first, between two points. `None` where there is no step.
pub(super) fn slope(from: (f64, f64), to: (f64, f64)) -> Option<f64> {
    let steps = to.0 - from.0;
    (steps != 0.0).then(|| (to.1 - from.1) / steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_there() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[7.0]), Some(7.0));
        assert_eq!(median(&[9.0, 1.0, 5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 5.0, 6.0]), Some(5.5));
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[3], 99), Some(3));
        let values: Vec<u64> = (1..=100).rev().collect();
        assert_eq!(
            [0, 50, 95, 99, 100].map(|percent| percentile(&values, percent)),
            [1, 50, 95, 99, 100].map(Some)
        );
        assert_eq!(percentile(&[10, 20, 30, 40], 50), Some(20));
        assert_eq!(percentile(&[10, 20, 30, 40], 51), Some(30));
    }

    #[test]
    fn the_slope_leaves_out_what_does_not_grow() {
        assert_eq!(slope((1_000.0, 50_000.0), (5_000.0, 90_000.0)), Some(10.0));
        assert_eq!(slope((1_000.0, 1.0), (1_000.0, 2.0)), None);
    }
}
