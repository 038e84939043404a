//! Measures the step time of each choice of threads, before the first request.

use std::time::{Duration, Instant};

use tenon_plugin_api::Error;

use super::tuner::ThreadChoice;

/// The choices worth trying with up to `most` threads. Their thread counts are each number up to four, two for each
/// doubling above, half of `most`, `most - 1` and `most`. Each count is tried with threads that spin and with threads that
/// sleep.
pub fn choices(most: u32) -> Vec<ThreadChoice> {
    let mut counts: Vec<_> = (1..=most)
        .filter(|&count| is_step(count) || [most / 2, most - 1, most].contains(&count))
        .collect();
    counts.reverse();
    // Half and all of the threads come first, because calibration may run out of time.
    counts.sort_by_key(|&count| match count {
        _ if count == (most / 2).max(1) => 0,
        _ if count == most => 1,
        _ => 2,
    });
    let spinning = counts.iter().map(|&threads| ThreadChoice {
        threads,
        poll: SPIN,
    });
    // A single thread never waits for another.
    let sleeping = counts
        .iter()
        .filter(|&&threads| threads > 1)
        .map(|&threads| ThreadChoice { threads, poll: 0 });
    spinning.chain(sleeping).collect()
}

/// ggml's own default: threads spin for a while, then sleep.
const SPIN: u32 = 50;
/// Enough rounds for a median. A fast model needs no more.
const MAX_ROUNDS: usize = 5;
/// Choices that are measured however long they take. With busy neighbours, one step with all threads may last a second.
const AT_LEAST: usize = 2;

/// Whether the count is one of 1, 2, 3, 4, 6, 8, 12, 16, 24, …
fn is_step(count: u32) -> bool {
    let power = 1 << count.ilog2();
    count == power || 2 * count == 3 * power
}

/// Median seconds of `run` for each choice. None if `limit` was over before its turn. The first two choices are measured in
/// any case.
///
/// # Errors
/// The first error of `run`.
pub fn measure(
    choices: &[ThreadChoice],
    limit: Duration,
    mut run: impl FnMut(ThreadChoice) -> Result<Duration, Error>,
) -> Result<Vec<Option<f64>>, Error> {
    let started = Instant::now();
    let mut seconds = vec![Vec::with_capacity(MAX_ROUNDS); choices.len()];
    // The choices take turns, so that a disturbance affects all of them.
    for round in 0..MAX_ROUNDS {
        for (at, choice) in choices.iter().enumerate() {
            let needed = round == 0 && at < AT_LEAST;
            if needed || started.elapsed() < limit {
                seconds[at].push(run(*choice)?.as_secs_f64());
            }
        }
    }
    Ok(seconds.into_iter().map(median).collect())
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stay_few_on_large_machines() {
        let counts = |most| {
            let choices = choices(most);
            let mut counts: Vec<_> = choices.iter().map(|choice| choice.threads).collect();
            counts.sort_unstable();
            counts.dedup();
            counts
        };
        assert_eq!(counts(1), [1]);
        assert_eq!(counts(2), [1, 2]);
        assert_eq!(counts(5), [1, 2, 3, 4, 5]);
        assert_eq!(counts(64), [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 63, 64]);
        assert_eq!(choices(2).len(), 3);
    }

    #[test]
    fn the_median_of_each_choice_counts() {
        let choices = choices(2);
        let mut runs = 0;
        let seconds = measure(&choices, Duration::MAX, |choice| {
            runs += 1;
            // The first round is slow for every choice.
            let disturbance = if runs <= 3 { 50 } else { 1 };
            Ok(Duration::from_millis(
                disturbance * u64::from(choice.threads),
            ))
        });
        let expected = choices.iter().map(|one| Some(f64::from(one.threads) / 1e3));
        assert_eq!(seconds.unwrap(), expected.collect::<Vec<_>>());
        assert_eq!(runs, 15);
    }

    #[test]
    fn when_time_is_up_half_and_all_of_the_threads_are_known() {
        let seconds = measure(&choices(4), Duration::ZERO, |choice| {
            Ok(Duration::from_secs(choice.threads.into()))
        });
        let seconds = seconds.unwrap();
        assert_eq!(seconds[..2], [Some(2.0), Some(4.0)]);
        assert!(seconds[2..].iter().all(Option::is_none));
    }
}
