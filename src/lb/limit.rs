//! A token bucket: at most so many of something a second.

use std::time::{Duration, Instant};

/// What one token is made of: as many parts as a second has nanoseconds, so that no rate is rounded.
const TOKEN: u128 = Duration::from_secs(1).as_nanos();

/// Tokens come at a steady rate, up to so many; each thing that is done takes one.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: u32,
    burst: u32,
    /// Parts of tokens that are there.
    level: u128,
    /// When that was so; `None` before the first look, when the bucket is full.
    filled: Option<Instant>,
}

impl Bucket {
    /// A bucket that holds `burst` tokens, is full, and gets `rate_per_second` new ones.
    pub fn new(rate_per_second: u32, burst: u32) -> Bucket {
        Bucket { rate: rate_per_second, burst, level: u128::from(burst) * TOKEN, filled: None }
    }

    /// Takes a token, if one is there. A time before that of the last call counts as that.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = self.filled.map_or(Duration::ZERO, |filled| now.saturating_duration_since(filled));
        // At most 2^94 nanoseconds at 2^32 a second.
        let new = since.as_nanos() * u128::from(self.rate);
        self.level = (self.level + new).min(u128::from(self.burst) * TOKEN);
        self.filled = Some(self.filled.map_or(now, |filled| filled.max(now)));
        match self.level.checked_sub(TOKEN) {
            Some(rest) => {
                self.level = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(bucket: &mut Bucket, now: Instant) -> usize {
        (0..1000).take_while(|_| bucket.take(now)).count()
    }

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, 3);
        assert_eq!(taken(&mut bucket, start), 3);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(99)), 0);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(100)), 1);
        assert_eq!(taken(&mut bucket, start + Duration::from_millis(300)), 2);
        assert_eq!(taken(&mut bucket, start + Duration::from_secs(3600)), 3, "no more than it holds");
    }

    #[test]
    fn a_rate_is_kept_however_often_it_is_looked_at() {
        let start = Instant::now();
        let mut bucket = Bucket::new(7, 2);
        let taken = (0..=1_000_000u64).filter(|n| bucket.take(start + Duration::from_micros(10 * n))).count();
        assert_eq!(taken, 72, "ten seconds at seven, and the two that were there");
    }

    #[test]
    fn time_that_runs_backwards_brings_nothing() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut bucket = Bucket::new(1, 1);
        assert!(bucket.take(start));
        assert!(!bucket.take(start - Duration::from_secs(30)));
        assert!(!bucket.take(start), "the way back to the start is no time that has passed");
    }

    #[test]
    fn nothing_a_second_is_never() {
        let start = Instant::now();
        assert_eq!(taken(&mut Bucket::new(0, 0), start + Duration::from_secs(1)), 0);
        assert_eq!(taken(&mut Bucket::new(u32::MAX, u32::MAX), start), 1000);
    }
}
