//! Compares rows of logits.

/// The [`distance`] up to which two rows count as equal.
///
/// Kernels round differently when a batch has another shape. With half-precision keys and values the rows of real models are
/// up to 0.05 apart for this reason. Rows that were computed after different tokens are mostly more than 0.5 apart.
pub const TOLERANCE: f32 = 0.1;

/// How far apart two rows are: the root of the mean squared difference of their logits, divided by the standard deviation of the
/// logits in `expected`. 0 for equal rows. A logit that is not finite must be the same in both rows; otherwise, and for rows of
/// different lengths, the distance is infinite.
pub fn distance(expected: &[f32], found: &[f32]) -> f32 {
    let pairs = || expected.iter().zip(found);
    if expected.len() != found.len() || !pairs().all(comparable) {
        return f32::INFINITY;
    }
    let finite = || pairs().filter(|(logit, _)| logit.is_finite());
    let difference = rms(finite().map(|(&a, &b)| f64::from(a) - f64::from(b)));
    if difference == 0.0 {
        return 0.0;
    }
    let count = finite().count() as f64;
    let mean = finite().map(|(&logit, _)| f64::from(logit)).sum::<f64>() / count;
    let spread = rms(finite().map(|(&logit, _)| f64::from(logit) - mean));
    (difference / spread) as f32
}

fn comparable((a, b): (&f32, &f32)) -> bool {
    a.is_finite() && b.is_finite() || a == b
}

/// The root of the mean square. 0 for no values.
fn rms(values: impl Iterator<Item = f64>) -> f64 {
    let (mut count, mut sum) = (0.0_f64, 0.0);
    for value in values {
        count += 1.0;
        sum += value * value;
    }
    (sum / count.max(1.0)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_near_and_other_rows_are_far() {
        let row = [1.0, -2.0, 4.0, f32::NEG_INFINITY, 0.5];
        assert_eq!(distance(&row, &row), 0.0);
        let rounded = row.map(|logit| logit * 1.01);
        assert!((0.001..TOLERANCE).contains(&distance(&row, &rounded)));
        let other = [4.0, 1.0, -2.0, f32::NEG_INFINITY, 0.5];
        assert!(distance(&row, &other) > 0.5);
    }

    #[test]
    fn rows_that_cannot_be_compared_are_infinitely_far() {
        let row = [1.0, 2.0];
        for other in [[1.0, f32::NAN], [1.0, f32::INFINITY]] {
            assert_eq!(distance(&row, &other), f32::INFINITY);
            assert_eq!(distance(&other, &row), f32::INFINITY);
        }
        assert_eq!(distance(&row, &row[..1]), f32::INFINITY);
        // A row without a spread is equal to itself only.
        assert_eq!(distance(&[1.0, 1.0], &[1.0, 1.0]), 0.0);
        assert_eq!(distance(&[1.0, 1.0], &[1.0, 1.5]), f32::INFINITY);
    }
}
