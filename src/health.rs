//! Is a backend well? From the outcomes of probes: rise and fall, a faster pace while in doubt.

use std::time::Duration;

/// When to probe, and how many outcomes decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Between the starts of two probes.
    pub interval: Duration,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Successes in a row that make it up.
    pub rise: u32,
    /// Failures in a row that make it down.
    pub fall: u32,
    /// Each interval is made longer or shorter by up to so many percent, so that probes do not march in step.
    pub jitter: u8,
    /// Between two probes while outcomes do not agree with the state.
    pub doubt: Duration,
}

impl Default for Policy {
    fn default() -> Policy {
        Policy {
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 3,
            jitter: 10,
            doubt: Duration::from_millis(500),
        }
    }
}
