//! The plot of tokens a second, as lines of an SVG.

use serde::Serialize;

use crate::metrics::{HISTORY_SPAN, Slice, Totals};

/// The size of the area with the lines, in units of the SVG.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 140.0;

/// The plot. Points are `x,y` pairs with spaces between them.
#[derive(Debug, Serialize)]
pub struct Plot {
    /// The value at the upper edge, in tokens a second.
    top: f64,
    answers: String,
    prompts: String,
}

impl Plot {
    pub fn new(slices: &[Slice]) -> Self {
        let answers = line(slices, |counted| counted.completion_tokens);
        let prompts = line(slices, |counted| counted.prompt_tokens);
        let all = answers.iter().chain(&prompts);
        let top = round_up(all.map(|&(_, rate)| rate).fold(0.0, f64::max));
        Self {
            top,
            answers: points(&answers, top),
            prompts: points(&prompts, top),
        }
    }
}

/// For each slice, the x coordinate of its end, and its tokens a second.
fn line(slices: &[Slice], tokens: impl Fn(&Totals) -> f64) -> Vec<(f64, f64)> {
    let slices = slices.iter().map(|slice| {
        let age = slice.age.as_secs_f64() / HISTORY_SPAN.as_secs_f64();
        let seconds = slice.length.as_secs_f64();
        let right = WIDTH * (1.0 - age).max(0.0);
        (right, tokens(&slice.counted) / seconds)
    });
    slices.collect()
}

fn points(line: &[(f64, f64)], top: f64) -> String {
    let points = line.iter().map(|(right, rate)| {
        let down = HEIGHT * (1.0 - rate / top);
        format!("{right:.1},{down:.1}")
    });
    points.collect::<Vec<_>>().join(" ")
}

/// Rounds up to the next of 1, 2, 5, 10, 20, 50 and so on.
fn round_up(value: f64) -> f64 {
    let mut power = 1.0;
    loop {
        for step in [1.0, 2.0, 5.0] {
            if value <= step * power {
                return step * power;
            }
        }
        power *= 10.0;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lines_go_from_the_left_to_the_right_and_up_to_a_round_number() {
        let slice = |age, completion_tokens| Slice {
            age: Duration::from_secs(age),
            length: Duration::from_secs(5),
            counted: Totals {
                completion_tokens,
                prompt_tokens: 10.0,
                ..Totals::default()
            },
        };
        let plot = Plot::new(&[slice(600, 0.0), slice(300, 150.0), slice(0, 75.0)]);
        assert_eq!(plot.top, 50.0);
        assert_eq!(plot.answers, "0.0,140.0 300.0,56.0 600.0,98.0");
        assert_eq!(plot.prompts, "0.0,134.4 300.0,134.4 600.0,134.4");
        assert_eq!(Plot::new(&[]).top, 1.0);
    }

    #[test]
    fn the_upper_edge_is_round() {
        for (value, expected) in [
            (0.0, 1.0),
            (1.1, 2.0),
            (3.0, 5.0),
            (51.0, 100.0),
            (1400.0, 2000.0),
        ] {
            assert_eq!(round_up(value), expected);
        }
    }
}
