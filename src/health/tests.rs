use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn refused() -> Reason {
    Reason::Refused { at: "10.0.0.100:80".parse().unwrap() }
}

fn silent() -> Reason {
    Reason::NoAnswer { at: "10.0.0.100:80".parse().unwrap(), within: Duration::from_secs(1) }
}

/// Starts the next probe when it is due.
fn start(health: &mut Health, now: &mut Instant) {
    *now = health.deadline().expect("no probe running").max(*now);
    assert!(health.poll(*now));
    assert_eq!(health.deadline(), None, "one at a time");
    assert!(!health.poll(*now + Duration::from_secs(3600)), "one at a time");
}

/// One probe that is answered at once.
fn probe(health: &mut Health, now: &mut Instant, result: Result<(), Reason>) -> Option<Change> {
    start(health, now);
    health.outcome(result, *now)
}

#[test]
fn the_first_verdict_needs_one_success_or_fall_failures() {
    let begin = Instant::now();
    let mut now = begin;
    let mut health = Health::new(Policy::default(), 1, now);
    assert_eq!((health.state(), health.is_usable(), health.streak()), (State::Unknown, true, Streak::None));
    assert!(health.deadline().unwrap() <= now + 200 * MS);
    assert_eq!(probe(&mut health, &mut now, Ok(())), Some(Change::Up));
    assert_eq!((health.state(), health.since()), (State::Up, now));
    assert_eq!(health.reason(), None);

    let mut now = begin;
    let mut health = Health::new(Policy::default(), 1, now);
    assert_eq!(probe(&mut health, &mut now, Err(refused())), None);
    let first = now;
    assert!(health.is_usable() && health.state() == State::Unknown);
    assert_eq!(probe(&mut health, &mut now, Err(refused())), None);
    assert_eq!(now, first + 500 * MS, "the doubt pace while unknown");
    assert_eq!(probe(&mut health, &mut now, Err(silent())), Some(Change::Down(silent())));
    assert_eq!((health.state(), health.is_usable(), health.reason()), (State::Down, false, Some(&silent())));
    assert_eq!(health.streak(), Streak::Failures(3));
}

#[test]
fn a_success_in_between_starts_the_count_anew() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy::default(), 1, now);
    probe(&mut health, &mut now, Ok(()));
    for _ in 0..5 {
        assert_eq!(probe(&mut health, &mut now, Err(refused())), None);
        assert_eq!(probe(&mut health, &mut now, Err(refused())), None);
        assert_eq!(health.streak(), Streak::Failures(2));
        assert_eq!(probe(&mut health, &mut now, Ok(())), None);
    }
    for _ in 0..3 {
        probe(&mut health, &mut now, Err(refused()));
    }
    assert_eq!(health.state(), State::Down);
    for _ in 0..5 {
        assert_eq!(probe(&mut health, &mut now, Ok(())), None);
        assert_eq!(probe(&mut health, &mut now, Err(silent())), None, "down already");
        assert_eq!(health.reason(), Some(&silent()), "the last reason, also while down");
    }
}

#[test]
fn doubt_is_fast_and_certainty_is_slow() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy { jitter: 0, ..Policy::default() }, 1, now);
    let mut last = None;
    let mut pause = |health: &mut Health, result| {
        probe(health, &mut now, result);
        let pause = last.map(|last| now - last);
        last = Some(now);
        pause
    };
    let (steady, doubt) = (Some(2000 * MS), Some(500 * MS));
    assert_eq!(pause(&mut health, Ok(())), None);
    assert_eq!(pause(&mut health, Ok(())), steady);
    assert_eq!(pause(&mut health, Err(refused())), steady);
    assert_eq!(pause(&mut health, Err(refused())), doubt);
    assert_eq!(pause(&mut health, Err(refused())), doubt);
    assert_eq!(health.state(), State::Down);
    assert_eq!(pause(&mut health, Err(refused())), steady);
    assert_eq!(pause(&mut health, Ok(())), steady);
    assert_eq!(pause(&mut health, Ok(())), doubt);
    assert_eq!(health.state(), State::Up);
    assert_eq!(pause(&mut health, Ok(())), steady);
}

#[test]
fn a_probe_never_starts_before_the_last_one_has_ended() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy::default(), 1, now);
    start(&mut health, &mut now);
    now += 1000 * MS;
    health.outcome(Err(silent()), now);
    assert_eq!(health.deadline(), Some(now), "the doubt pause is over, the next one follows at once");
}

#[test]
fn suspicion_makes_the_next_probe_due_at_once_but_not_in_a_storm() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy::default(), 1, now);
    probe(&mut health, &mut now, Ok(()));
    let started = now;
    now += 100 * MS;
    health.hurry(now);
    assert_eq!(health.deadline(), Some(started + 500 * MS), "not sooner than in doubt");
    now += 1000 * MS;
    health.hurry(now);
    assert_eq!(health.deadline(), Some(started + 500 * MS), "and what is due stays due");
    probe(&mut health, &mut now, Ok(()));
    now += 600 * MS;
    health.hurry(now);
    assert_eq!(health.deadline(), Some(now));

    let (begin, mut probes) = (now, 0);
    while now < begin + Duration::from_secs(10) {
        health.hurry(now);
        if health.poll(now) {
            health.hurry(now);
            health.outcome(Ok(()), now);
            probes += 1;
        }
        now += MS;
    }
    assert!((19..=21).contains(&probes), "{probes} probes in 10 s of constant suspicion");
}

#[test]
fn suspicion_during_a_probe_asks_once_more() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy::default(), 1, now);
    probe(&mut health, &mut now, Ok(()));
    start(&mut health, &mut now);
    let started = now;
    health.hurry(now);
    assert!(!health.poll(now), "one at a time");
    health.outcome(Ok(()), now);
    assert_eq!(health.deadline(), Some(started + 500 * MS));
    probe(&mut health, &mut now, Ok(()));
    assert!(health.deadline().unwrap() > now + 1000 * MS, "once");
}

#[test]
fn an_outcome_without_a_probe_means_nothing() {
    let now = Instant::now();
    let mut health = Health::new(Policy { fall: 1, ..Policy::default() }, 1, now);
    assert_eq!(health.outcome(Err(refused()), now), None);
    assert_eq!((health.state(), health.streak(), health.reason()), (State::Unknown, Streak::None, None));
}

#[test]
fn a_new_policy_keeps_what_is_known() {
    let mut now = Instant::now();
    let slow = Policy { interval: Duration::from_secs(3600), doubt: Duration::from_secs(1800), ..Policy::default() };
    let mut health = Health::new(slow, 1, now);
    probe(&mut health, &mut now, Ok(()));
    assert!(health.deadline().unwrap() > now + Duration::from_secs(1000));
    health.set_policy(Policy { fall: 2, ..Policy::default() }, now);
    assert_eq!((health.state(), health.streak()), (State::Up, Streak::Successes(1)));
    assert!(health.deadline().unwrap() <= now + Duration::from_secs(3), "the new interval holds at once");
    probe(&mut health, &mut now, Err(refused()));
    health.set_policy(slow, now);
    assert!(health.deadline().unwrap() <= now + 500 * MS, "a probe that was due does not move away");
    health.set_policy(Policy { fall: 2, ..Policy::default() }, now);
    assert_eq!(probe(&mut health, &mut now, Err(refused())), Some(Change::Down(refused())));
    // While a probe is running, too.
    start(&mut health, &mut now);
    health.set_policy(Policy { rise: 1, ..Policy::default() }, now);
    assert_eq!(health.outcome(Ok(()), now), Some(Change::Up));
}

#[test]
fn senseless_policies_are_put_right() {
    let zero = Policy {
        interval: Duration::ZERO,
        timeout: Duration::MAX,
        rise: 0,
        fall: 0,
        jitter: 255,
        doubt: Duration::MAX,
    };
    for interval in [Duration::ZERO, Duration::MAX] {
        let mut now = Instant::now();
        let mut health = Health::new(Policy { interval, ..zero }, u64::MAX, now);
        assert_eq!(probe(&mut health, &mut now, Ok(())), Some(Change::Up));
        assert_eq!(probe(&mut health, &mut now, Err(refused())), Some(Change::Down(refused())));
        assert_eq!(probe(&mut health, &mut now, Ok(())), Some(Change::Up));
        assert!(health.timeout() > Duration::ZERO && health.timeout() <= LONGEST);
    }
}

#[test]
fn backends_that_start_together_take_turns() {
    let begin = Instant::now();
    let mut due = Vec::new();
    for seed in 0..20 {
        let mut now = begin;
        let mut health = Health::new(Policy::default(), seed, now);
        due.push(health.deadline().unwrap() - begin);
        probe(&mut health, &mut now, Ok(()));
        due.push(health.deadline().unwrap() - now);
    }
    let (first, pauses): (Vec<_>, Vec<_>) = due.chunks(2).map(|pair| (pair[0], pair[1])).unzip();
    assert!(first.iter().all(|d| *d < 200 * MS) && first.iter().max() > Some(&(100 * MS)), "{first:?}");
    assert!(pauses.iter().all(|p| (1800 * MS..=2200 * MS).contains(p)), "{pauses:?}");
    assert!(pauses.iter().max().unwrap().saturating_sub(*pauses.iter().min().unwrap()) > 200 * MS, "{pauses:?}");
}

#[test]
fn pauses_differ_from_one_to_the_next() {
    let mut now = Instant::now();
    let mut health = Health::new(Policy::default(), 1, now);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        probe(&mut health, &mut now, Ok(()));
        pauses.push(health.deadline().unwrap() - now);
    }
    pauses.sort();
    pauses.dedup();
    assert_eq!(pauses.len(), 20);
}

/// The case that the promise is calculated for: it dies right behind an answer, and each probe takes its whole timeout.
#[test]
fn the_worst_case_uses_the_promised_time_up_but_for_late_starts() {
    for (interval, timeout, fall, doubt) in
        [(2000, 2000, 3, 500), (10_000, 10_000, 1, 10_000), (1000, 1000, 5, 1000), (30_000, 30_000, 2, 1)]
    {
        let policy = Policy {
            interval: interval * MS,
            timeout: timeout * MS,
            fall,
            doubt: doubt * MS,
            jitter: 0,
            ..Policy::default()
        };
        let mut now = Instant::now();
        let mut health = Health::new(policy, 1, now);
        probe(&mut health, &mut now, Ok(()));
        let died = now;
        let change = loop {
            start(&mut health, &mut now);
            now += policy.timeout;
            if let Some(change) = health.outcome(Err(silent()), now) {
                break change;
            }
        };
        assert_eq!(change, Change::Down(silent()));
        assert_eq!(now, died + policy.interval * fall + 800 * MS, "{policy:?}");
    }
}

/// How a backend answers, on a virtual clock.
#[derive(Clone, Copy, Debug)]
enum Failing {
    /// By a reset, after so many microseconds.
    Fast(u64),
    /// By silence.
    Silently,
}

fn policies() -> impl Strategy<Value = Policy> {
    (10u64..30_000, 1u64..=100, 1u32..8, 1u32..8, 0u8..=50, 1u64..=100).prop_map(
        |(interval, timeout, rise, fall, jitter, doubt)| Policy {
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis((interval * timeout / 100).max(1)),
            rise,
            fall,
            jitter,
            doubt: Duration::from_millis((interval * doubt / 100).max(1)),
        },
    )
}

fn failing() -> impl Strategy<Value = Failing> {
    prop_oneof![Just(Failing::Silently), (0u64..5000).prop_map(Failing::Fast)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    /// The promise of `health.rs`: whatever the policy, the phase and the way of failing.
    #[test]
    fn a_dead_backend_is_down_in_time_and_a_returned_one_up_after_rise_successes(
        policy in policies(),
        failing in failing(),
        seed: u64,
        dies_permille in 0u64..20_000, // of an interval
        answer_percent in 0u32..100, // of the timeout
        late_us in 0u64..10_000, // what starts a probe and sees its end comes so late
        flaps in prop::collection::vec(any::<bool>(), 0..12),
    ) {
        let begin = Instant::now();
        // All starts and ends of up to seven failures come late, on both ends: within the 200 ms that are set aside.
        let late = Duration::from_micros(late_us);
        let answer = policy.timeout * answer_percent / 100;
        let died = begin + policy.interval.mul_f64(dies_permille as f64 / 1000.0);
        let promised = died + policy.interval * policy.fall + Duration::from_secs(1);
        let mut health = Health::new(policy, seed, begin);
        let mut last: Option<(Instant, Instant)> = None;
        let mut flaps = flaps.into_iter();
        let mut now;
        let down = loop {
            now = health.deadline().unwrap() + late;
            prop_assert!(health.poll(now));
            let started = now;
            if let Some((start, end)) = last {
                prop_assert!(started >= end, "a start before the end of the one before");
                prop_assert!(started >= start + policy.doubt.min(steady_pause(&policy, 0.0)), "too soon");
                let longest = policy.interval.mul_f64(1.0 + f64::from(policy.jitter) / 100.0);
                prop_assert!(started <= end.max(start + longest) + late, "too late");
            }
            let result = if started + answer <= died {
                // Alive, and yet it may fail now and then: what happened before must not matter.
                now += answer;
                if flaps.next() == Some(true) { Err(refused()) } else { Ok(()) }
            } else {
                now = match failing {
                    Failing::Fast(micros) => now + Duration::from_micros(micros).min(policy.timeout),
                    Failing::Silently => now + policy.timeout,
                };
                Err(silent())
            };
            now += late;
            last = Some((started, now));
            let died_by_now = result == Err(silent());
            let change = health.outcome(result, now);
            // It may have been down before, and even about to come back.
            if died_by_now && health.state() == State::Down {
                break change;
            }
            prop_assert!(now <= promised, "{:?} after it died", now - died);
        };
        prop_assert!(now <= promised, "{:?} after it died", now - died);
        prop_assert!(down.is_none() || down == Some(Change::Down(silent())) || down == Some(Change::Down(refused())));
        prop_assert!(!health.is_usable());

        for n in 1..=policy.rise {
            now = health.deadline().unwrap();
            prop_assert!(health.poll(now));
            let change = health.outcome(Ok(()), now);
            prop_assert_eq!(change, (n == policy.rise).then_some(Change::Up), "success {}", n);
        }
        prop_assert_eq!((health.state(), health.since()), (State::Up, now));
    }
}
