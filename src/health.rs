//! Is a backend well? From the outcomes of probes: rise and fall, a faster pace while in doubt.
//!
//! Pure, like [`crate::neighbor`]: it says when a probe is due, is told how each ended, and says what has changed. What
//! a probe is does not matter here.
//!
//! # How long a dead backend may stay in service
//!
//! A backend that fails from some moment on is down within `interval * fall + 1 s`, provided that probes are started
//! when they are due (200 ms of that second are set aside for starts that come late). The worst case is a backend that
//! dies right behind a probe that it has answered, and that answers with silence, so that each probe takes its whole
//! timeout:
//!
//! ```text
//! answered   dies                 1st failure          2nd                          down
//! |----------|--------------------|--------------------|------ ... -----------------|
//! start      <- steady pause ->   <- max(doubt, timeout) -> (fall - 1 times)  <- timeout ->
//! ```
//!
//! With a timeout near the interval that sum would be more than promised. Then the steady pause is made shorter than
//! the interval: probing more often harms nobody, a shorter timeout would call slow backends dead.

mod direct;
mod reason;

use std::time::{Duration, Instant};

pub use direct::{Direct, Trouble};
pub use reason::{Obstacle, Reason};

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

/// What the promise allows beyond `interval * fall`, less what is set aside for probes that are started late.
const ALLOWANCE: Duration = Duration::from_millis(1000 - 200);

/// The first probes of many backends are spread over as much, if the interval is not shorter.
const FIRST_SPREAD: Duration = Duration::from_millis(200);

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_secs(86_400);

/// What is believed of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No verdict yet. It counts as up: a balancer that has just started must not turn clients away.
    Unknown,
    /// It serves.
    Up,
    /// It does not.
    Down,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It serves, for the first time or again.
    Up,
    /// It does not serve any more, and why.
    Down(Reason),
}

/// Outcomes in a row, of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Streak {
    /// No probe has ended yet.
    None,
    /// So many have succeeded since the last failure.
    Successes(u32),
    /// So many have failed since the last success.
    Failures(u32),
}

/// The health of one backend.
#[derive(Clone, Debug)]
pub struct Health {
    policy: Policy,
    seed: u64,
    state: State,
    since: Instant,
    streak: Streak,
    reason: Option<Reason>,
    /// When the last probe was started.
    started: Option<Instant>,
    /// When the next one is to start, unless one is running.
    next: Instant,
    running: bool,
    /// Something suspicious happened while a probe was running.
    suspicious: bool,
    /// How many probes have been started: what makes each pause another one.
    count: u64,
}

impl Health {
    /// A backend of which nothing is known. Values of `policy` that make no sense are put right: a timeout or a doubt
    /// above the interval, a rise or fall of 0. `seed` makes backends that start together take turns.
    pub fn new(policy: Policy, seed: u64, now: Instant) -> Health {
        let policy = sensible(policy);
        let spread = FIRST_SPREAD.min(policy.interval);
        Health {
            policy,
            seed,
            state: State::Unknown,
            since: now,
            streak: Streak::None,
            reason: None,
            started: None,
            next: now + spread.mul_f64(fraction(seed, 0)),
            running: false,
            suspicious: false,
            count: 0,
        }
    }

    /// What is believed.
    pub fn state(&self) -> State {
        self.state
    }

    /// May clients be sent there?
    pub fn is_usable(&self) -> bool {
        self.state != State::Down
    }

    /// Why the last failed probe failed. It may be long ago: see [`Health::streak`].
    pub fn reason(&self) -> Option<&Reason> {
        self.reason.as_ref()
    }

    /// Since when the state is what it is.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// How the last probes ended.
    pub fn streak(&self) -> Streak {
        self.streak
    }

    /// How long a probe may take: the policy's timeout, at most its interval.
    pub fn timeout(&self) -> Duration {
        self.policy.timeout
    }

    /// When the next probe is to start; `None` while one is running.
    pub fn deadline(&self) -> Option<Instant> {
        (!self.running).then_some(self.next)
    }

    /// Is a probe to be started now? `true` counts as its start: it has to be followed by [`Health::outcome`].
    pub fn poll(&mut self, now: Instant) -> bool {
        if self.running || now < self.next {
            return false;
        }
        self.running = true;
        self.started = Some(now);
        self.count += 1;
        true
    }

    /// The running probe has ended. Without one nothing happens.
    pub fn outcome(&mut self, result: Result<(), Reason>, now: Instant) -> Option<Change> {
        if !std::mem::take(&mut self.running) {
            return None;
        }
        let change = match result {
            Ok(()) => self.success(now),
            Err(reason) => self.failure(reason, now),
        };
        let suspicious = std::mem::take(&mut self.suspicious);
        self.next = self.next_start(suspicious).max(now);
        change
    }

    fn success(&mut self, now: Instant) -> Option<Change> {
        let successes = match self.streak {
            Streak::Successes(n) => n.saturating_add(1),
            Streak::None | Streak::Failures(_) => 1,
        };
        self.streak = Streak::Successes(successes);
        let needed = match self.state {
            State::Up => return None,
            // The first verdict need not wait: nobody has been told that it is down.
            State::Unknown => 1,
            State::Down => self.policy.rise,
        };
        (successes >= needed).then(|| {
            self.turn(State::Up, now);
            Change::Up
        })
    }

    fn failure(&mut self, reason: Reason, now: Instant) -> Option<Change> {
        let failures = match self.streak {
            Streak::Failures(n) => n.saturating_add(1),
            Streak::None | Streak::Successes(_) => 1,
        };
        self.streak = Streak::Failures(failures);
        self.reason = Some(reason.clone());
        (self.state != State::Down && failures >= self.policy.fall).then(|| {
            self.turn(State::Down, now);
            Change::Down(reason)
        })
    }

    fn turn(&mut self, state: State, now: Instant) {
        self.state = state;
        self.since = now;
    }

    /// Something suspicious happened, a question that was not answered or an error: the next probe is due at once, but
    /// not more often than the doubt interval.
    pub fn hurry(&mut self, now: Instant) {
        if self.running {
            // The running one may have been answered before it happened.
            self.suspicious = true;
        } else {
            let earliest = self.started.map_or(now, |started| started + self.policy.doubt);
            self.next = self.next.min(earliest.max(now));
        }
    }

    /// Goes on with another policy: state and streak stay, outcomes still to come are counted by the new numbers.
    pub fn set_policy(&mut self, policy: Policy, now: Instant) {
        self.policy = sensible(policy);
        let next = match self.started {
            Some(_) => self.next_start(false).max(now),
            None => now + FIRST_SPREAD.min(self.policy.interval),
        };
        // What was due earlier stays so: it may have been hurried.
        self.next = self.next.min(next);
    }

    /// The running probe, if there is one, will have no outcome; another is due at once.
    pub fn abandon(&mut self, now: Instant) {
        self.running = false;
        self.next = now;
    }

    /// Do the last outcomes disagree with the state?
    fn in_doubt(&self) -> bool {
        match (self.state, self.streak) {
            (State::Unknown, _) | (State::Up, Streak::Failures(_)) | (State::Down, Streak::Successes(_)) => true,
            (State::Up | State::Down, _) => false,
        }
    }

    /// When the probe after the last one is due.
    fn next_start(&self, suspicious: bool) -> Instant {
        let steady = steady_pause(&self.policy, fraction(self.seed, self.count));
        // A doubt interval can be longer than a steady pause that had to be shortened.
        let pause = if suspicious || self.in_doubt() { self.policy.doubt.min(steady) } else { steady };
        self.started.map_or(self.since, |started| started + pause)
    }
}

/// `policy` with values that can be meant.
fn sensible(policy: Policy) -> Policy {
    let interval = policy.interval.clamp(SHORTEST, LONGEST);
    Policy {
        interval,
        timeout: policy.timeout.clamp(SHORTEST, interval),
        rise: policy.rise.max(1),
        fall: policy.fall.max(1),
        jitter: policy.jitter.min(90),
        doubt: policy.doubt.clamp(SHORTEST, interval),
    }
}

/// From the start of a probe to that of the next one while all is as believed: the interval, jittered by `fraction`
/// (0 to 1), and short enough to keep the promise at the head of this file.
fn steady_pause(policy: &Policy, fraction: f64) -> Duration {
    let Policy { interval, timeout, fall, .. } = *policy;
    let jitter = f64::from(policy.jitter) / 100.0;
    let later_failures = policy.doubt.max(timeout) * (fall - 1) + timeout;
    let longest = (interval * fall + ALLOWANCE).saturating_sub(later_failures).min(interval.mul_f64(1.0 + jitter));
    longest.mul_f64((1.0 + jitter * (2.0 * fraction - 1.0)) / (1.0 + jitter))
}

/// A number from 0 to below 1 for the `n`th pause.
fn fraction(seed: u64, n: u64) -> f64 {
    (scatter(seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))) >> 11) as f64 / (1u64 << 53) as f64
}

/// A number that has nothing in common with those of neighbouring seeds (the output function of SplitMix64).
pub(crate) fn scatter(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
