//! How a count grows with n: the slope of a line through the logarithms.

/// The exponent e of the curve c·n^e that fits `points` (n, count) best, by least squares over their logarithms; none
/// where fewer than two different n have a count above 0.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
pub fn exponent(points: &[(u32, u64)]) -> Option<f64> {
    let logs: Vec<(f64, f64)> = points
        .iter()
        .filter(|(n, count)| *n > 0 && *count > 0)
        .map(|(n, count)| (f64::from(*n).ln(), (*count as f64).ln()))
        .collect();
    let many = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / many;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = logs.iter().map(|point| (point.0 - x).powi(2)).sum();
    let together: f64 = logs.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    (spread > 0.0).then(|| together / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_are_found_and_too_little_is_nothing() {
        for power in 1..=4_u32 {
            let points: Vec<(u32, u64)> = [8, 16, 24, 32, 48].map(|n| (n, 7 * u64::from(n).pow(power))).into();
            let found = exponent(&points).unwrap();
            assert!((found - f64::from(power)).abs() < 1e-9, "{found} for {power}");
        }
        assert_eq!(exponent(&[(8, 5)]), None);
        assert_eq!(exponent(&[(8, 5), (8, 9)]), None);
        assert_eq!(exponent(&[(8, 0), (16, 9)]), None);
    }
}
