//! Predicts how long a step takes, from recent steps of about the same number of tokens.
//!
//! The prediction decides how many prompt tokens fit into a step beside decoding sequences, and whether drafts pay.

use std::time::Duration;

/// Moving averages of step times, one for each power of two of tokens.
#[derive(Debug, Default)]
pub struct StepCost {
    seen: [Option<Point>; BUCKETS],
}

/// The average step of a bucket.
#[derive(Clone, Copy, Debug)]
struct Point {
    tokens: f32,
    ms: f32,
}

const BUCKETS: usize = 20;

/// Weight of the newest step: after a dozen steps the earlier ones hardly count.
const NEWEST: f32 = 0.2;

impl StepCost {
    /// Records a step.
    pub fn record(&mut self, tokens: u32, took: Duration) {
        let new = Point {
            tokens: tokens as f32,
            ms: took.as_secs_f32() * 1e3,
        };
        let bucket = &mut self.seen[bucket_of(tokens)];
        *bucket = Some(match *bucket {
            Some(old) => Point {
                tokens: old.tokens + NEWEST * (new.tokens - old.tokens),
                ms: old.ms + NEWEST * (new.ms - old.ms),
            },
            None => new,
        });
    }

    /// Milliseconds that a step with `tokens` tokens takes. The time is interpolated between the sizes seen, grows in proportion
    /// above them, and is that of the smallest size below them. None before the first step.
    pub fn predict_ms(&self, tokens: u32) -> Option<f32> {
        let tokens = tokens as f32;
        let points = || self.seen.iter().flatten();
        let below = points().rfind(|point| point.tokens <= tokens);
        let above = points().find(|point| point.tokens > tokens);
        match (below, above) {
            (Some(below), Some(above)) => {
                let part = (tokens - below.tokens) / (above.tokens - below.tokens);
                Some(below.ms + part * (above.ms - below.ms))
            }
            (Some(below), None) => Some(below.ms * tokens / below.tokens),
            (None, Some(above)) => Some(above.ms),
            (None, None) => None,
        }
    }

    /// Most tokens, up to `max`, that a step of `ms` milliseconds can have. `max` before the first step.
    pub fn tokens_within(&self, ms: f32, max: u32) -> u32 {
        let fits = |tokens: u32| self.predict_ms(tokens).is_none_or(|cost| cost <= ms);
        if fits(max) {
            return max;
        }
        let (mut fitting, mut too_many) = (0, max);
        while too_many - fitting > 1 {
            let middle = fitting.midpoint(too_many);
            match fits(middle) {
                true => fitting = middle,
                false => too_many = middle,
            }
        }
        fitting
    }
}

fn bucket_of(tokens: u32) -> usize {
    (tokens.max(1).ilog2() as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(steps: &[(u32, u64)]) -> StepCost {
        let mut cost = StepCost::default();
        for &(tokens, ms) in steps {
            cost.record(tokens, Duration::from_millis(ms));
        }
        cost
    }

    #[test]
    fn sizes_between_those_seen_are_interpolated() {
        let cost = cost(&[(1, 10), (128, 645)]);
        assert_eq!(cost.predict_ms(1), Some(10.0));
        assert_eq!(cost.predict_ms(65), Some(330.0));
        assert_eq!(cost.predict_ms(256), Some(1290.0));
    }

    #[test]
    fn nothing_is_known_before_the_first_step() {
        assert_eq!(cost(&[]).predict_ms(1), None);
        assert_eq!(cost(&[]).tokens_within(1.0, 512), 512);
        assert_eq!(cost(&[(64, 9)]).predict_ms(1), Some(9.0));
    }

    #[test]
    fn a_step_takes_what_its_time_allows() {
        let cost = cost(&[(1, 10), (101, 110)]);
        assert_eq!(cost.tokens_within(60.0, 512), 51);
        assert_eq!(cost.tokens_within(1e6, 512), 512);
        assert_eq!(cost.tokens_within(1.0, 512), 0);
    }

    #[test]
    fn what_was_is_forgotten() {
        let mut steps = vec![(1, 100); 5];
        steps.extend(vec![(1, 10); 30]);
        assert!(cost(&steps).predict_ms(1).unwrap() < 11.0);
    }
}
