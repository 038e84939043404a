//! An allowance for each minute: requests or tokens.

use std::{
    num::NonZeroU32,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The time in which an empty bucket becomes full, in nanoseconds.
const FILLING: u64 = 60 * 1_000_000_000;

/// The time from which nanoseconds are counted.
static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// A bucket that holds the allowance of a minute, and is refilled steadily. It may be overdrawn: then it takes longer until
/// something is left. (The crate `governor` refuses to take more than the bucket holds, but the tokens of an answer are known only
/// after they were generated.)
#[derive(Debug, Default)]
pub struct Bucket {
    /// When the bucket will be full, if nothing else is taken. What is missing now follows from the time until then.
    full_at: AtomicU64,
}

/// How full a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketLevel {
    /// The number that a full bucket holds.
    pub limit: u32,
    /// The number that the bucket holds now.
    pub left: u32,
    /// The time in which it becomes full, if nothing else is taken.
    pub full_in: Duration,
}

impl Bucket {
    /// Takes one. The error is the time after which there is one.
    pub fn take_one(&self, limit: NonZeroU32) -> Result<(), Duration> {
        self.take_one_at(now(), limit)
    }

    /// Takes `count`, even if the bucket holds less.
    pub fn overdraw(&self, limit: NonZeroU32, count: u64) {
        self.overdraw_at(now(), limit, count);
    }

    /// How full the bucket is.
    pub fn level(&self, limit: NonZeroU32) -> BucketLevel {
        self.level_at(now(), limit)
    }

    /// The time after which there is one. Zero if there is one now.
    pub fn wait_for_one(&self, limit: NonZeroU32) -> Duration {
        self.wait_for_one_at(now(), limit)
    }

    fn take_one_at(&self, now: u64, limit: NonZeroU32) -> Result<(), Duration> {
        let take = |full_at: u64| {
            let then = full_at.max(now) + time_of(1, limit);
            (then - now <= FILLING).then_some(then)
        };
        let taken = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken
            .map(|_| ())
            .map_err(|_| self.wait_for_one_at(now, limit))
    }

    fn overdraw_at(&self, now: u64, limit: NonZeroU32, count: u64) {
        let time = time_of(count, limit);
        let take = |full_at: u64| Some(full_at.max(now).saturating_add(time));
        // Never refused.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
    }

    fn level_at(&self, now: u64, limit: NonZeroU32) -> BucketLevel {
        let missing = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        let there = u128::from(FILLING.saturating_sub(missing));
        let left = there * u128::from(limit.get()) / u128::from(FILLING);
        BucketLevel {
            limit: limit.get(),
            // At most the limit.
            left: left as u32,
            full_in: Duration::from_nanos(missing),
        }
    }

    fn wait_for_one_at(&self, now: u64, limit: NonZeroU32) -> Duration {
        let missing = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        let then = missing.saturating_add(time_of(1, limit));
        Duration::from_nanos(then.saturating_sub(FILLING))
    }
}

fn now() -> u64 {
    // Enough for 584 years.
    START.elapsed().as_nanos() as u64
}

/// The time in which this many are refilled.
fn time_of(count: u64, limit: NonZeroU32) -> u64 {
    count.saturating_mul(FILLING) / u64::from(limit.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const TWELVE: NonZeroU32 = NonZeroU32::new(12).unwrap();

    #[track_caller]
    fn check(bucket: &Bucket, now: u64, left: u32, full_in_secs: u64) {
        let expected = BucketLevel {
            limit: 12,
            left,
            full_in: Duration::from_secs(full_in_secs),
        };
        assert_eq!(bucket.level_at(now, TWELVE), expected);
    }

    #[test]
    fn a_full_bucket_is_emptied_at_once_and_refilled_steadily() {
        let bucket = Bucket::default();
        check(&bucket, 0, 12, 0);
        for left in (0..12).rev() {
            bucket.take_one_at(0, TWELVE).unwrap();
            check(&bucket, 0, left, u64::from(12 - left) * 5);
        }
        let wait = bucket.take_one_at(2 * SECOND, TWELVE).unwrap_err();
        assert_eq!(wait, Duration::from_secs(3));
        check(&bucket, 4 * SECOND, 0, 56);
        bucket.take_one_at(5 * SECOND, TWELVE).unwrap();
        check(&bucket, 65 * SECOND, 12, 0);
        check(&bucket, 1000 * SECOND, 12, 0);
    }

    #[test]
    fn what_is_overdrawn_is_refilled_first() {
        let bucket = Bucket::default();
        bucket.overdraw_at(0, TWELVE, 18);
        check(&bucket, 0, 0, 90);
        assert_eq!(bucket.wait_for_one_at(0, TWELVE), Duration::from_secs(35));
        assert!(bucket.take_one_at(34 * SECOND, TWELVE).is_err());
        check(&bucket, 36 * SECOND, 1, 54);
        assert_eq!(bucket.wait_for_one_at(36 * SECOND, TWELVE), Duration::ZERO);
        for _ in 0..20 {
            bucket.overdraw_at(36 * SECOND, TWELVE, u64::MAX);
        }
        assert_eq!(bucket.level_at(u64::MAX - 1, TWELVE).left, 11);
    }
}
