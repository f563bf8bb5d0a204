//! Bars of text: pictures where there is only a terminal.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The bar that is so many eighths high, less one: 0 is the lowest, 7 the highest, and what lies outside is clamped.
pub(super) fn bar(height: f64) -> char {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the eight levels"
    )]
    let level = height.round().clamp(0.0, 7.0) as usize;
    LEVELS[level]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_are_clamped() {
        let heights = [-3.0, 0.0, 3.4, 7.0, f64::INFINITY, f64::NAN];
        assert_eq!(heights.map(bar), ['▁', '▁', '▄', '█', '█', '▁']);
    }
}
