//! What becomes of backends that are drained, weighed, added, taken off, and of the rest meanwhile.

use super::*;
use crate::counters::FlowCounters;
use crate::lb::Tables;

/// A director whose two backends have answered.
fn settled(now: &mut Instant, change: impl FnOnce(&mut Balance)) -> Director {
    let mut balance = balance();
    change(&mut balance);
    let mut d = director_for(balance, Start::default(), *now);
    d.advance(*now);
    d.handle_event(answer(11), *now);
    d.handle_event(answer(12), *now);
    clear(&mut d);
    d
}

fn clear(d: &mut Director) {
    while d.poll_notice().is_some() {}
    while d.poll_transmit().is_some() {}
    d.poll_tables();
}

fn notices(d: &mut Director) -> Vec<Notice> {
    std::iter::from_fn(|| d.poll_notice()).collect()
}

/// Percent of the slots per backend number.
fn shares(tables: &Tables) -> Vec<usize> {
    let slots = &tables.vips()[0].services[0].current.slots;
    slots.shares(tables.backends().len()).iter().map(|n| (n * 100 + slots.size() / 2) / slots.size()).collect()
}

fn keeps(tables: &Tables, number: usize) -> bool {
    tables.keeps_flows(tables.owner(number))
}

#[test]
fn a_drained_backend_keeps_its_flows_until_none_is_left() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    let flows = FlowCounters::default();
    flows.added(0, true);
    assert!(d.set_duty("be11", Duty::Draining, 1, now));
    let tables = d.poll_tables().expect("new tables");
    assert_eq!((shares(&tables), keeps(&tables, 0)), (vec![0, 100], true));
    d.observe(&flows);
    assert_eq!(d.standings()[0].condition, Condition::Draining);
    flows.removed(0, true);
    d.observe(&flows);
    assert_eq!(d.standings()[0].condition, Condition::Drained);
    assert!(matches!(notices(&mut d)[..], [Notice::Duty { left: 1, .. }, Notice::Duty { duty: Duty::Drained, .. }]));
    assert!(d.set_duty("be11", Duty::Active, 0, now));
    assert_eq!(shares(d.tables()), [50, 50]);
    assert!(!d.set_duty("be99", Duty::Active, 0, now));
}

#[test]
fn maintenance_and_blacklisting_give_the_flows_away() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    d.set_duty("be12", Duty::Blacklisted(now + Duration::from_secs(5)), 0, now);
    assert_eq!((shares(d.tables()), keeps(d.tables(), 1)), (vec![100, 0], false));
    let end = now + Duration::from_secs(5);
    while now < end {
        now = d.poll_timeout().expect("there is always something").min(end);
        d.advance(now);
        d.handle_event(answer(11), now);
        d.handle_event(answer(12), now);
    }
    assert_eq!((shares(d.tables()), keeps(d.tables(), 1)), (vec![50, 50], true));
}

#[test]
fn who_returns_from_the_blacklist_goes_on_with_what_it_did() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| b.backends[1].maintenance = true);
    d.set_duty("be11", Duty::Draining, 3, now);
    for name in ["be11", "be12"] {
        d.set_duty(name, Duty::Blacklisted(now + Duration::from_secs(1)), 3, now);
        d.set_duty(name, Duty::Blacklisted(now + Duration::from_secs(2)), 3, now);
    }
    pass(&mut d, &mut now, Duration::from_millis(1900));
    assert!(d.standings().iter().all(|s| s.condition == Condition::Blacklisted));
    pass(&mut d, &mut now, Duration::from_millis(200));
    let conditions: Vec<Condition> = d.standings().iter().map(|s| s.condition).collect();
    assert_eq!(conditions, [Condition::Draining, Condition::Maintenance]);
}

#[test]
fn a_backend_that_is_added_causes_no_panic() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| b.panic_threshold = 90);
    let mut more = (**d.balance()).clone();
    more.backends.extend([backend(13), backend(14), backend(15)]);
    d.reconfigure(Arc::new(more), now);
    assert!(notices(&mut d).is_empty());
    assert_eq!(shares(d.tables()), [50, 50, 0, 0, 0]);
}

#[test]
fn a_weight_of_nothing_takes_no_clients_and_keeps_flows() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    let mut changed = (**d.balance()).clone();
    changed.backends[0].weight = 0;
    d.reconfigure(Arc::new(changed), now);
    assert_eq!((shares(d.tables()), keeps(d.tables(), 0)), (vec![0, 100], true));
}

#[test]
fn one_that_is_added_serves_from_its_first_sign_of_life_and_one_that_is_taken_off_keeps_its_number() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    let before = (**d.balance()).clone();
    let mut more = before.clone();
    more.backends.insert(0, backend(13));
    d.reconfigure(Arc::new(more.clone()), now);
    assert_eq!(shares(d.tables()), [50, 50, 0], "it has not answered yet, and the others have their numbers still");
    d.advance(now);
    d.handle_event(Event::Answer { address: "10.0.0.13".parse().unwrap(), mac: Mac([2, 0, 0, 0, 0, 0x13]) }, now);
    assert_eq!(shares(d.tables()), [33, 33, 33]);
    assert!(keeps(d.tables(), 2));
    let flows = FlowCounters::default();
    flows.added(2, true);
    d.reconfigure(Arc::new(before.clone()), now);
    d.observe(&flows);
    assert_eq!((shares(d.tables()), keeps(d.tables(), 2)), (vec![50, 50, 0], true), "it keeps its flows");
    assert_eq!(d.standings()[2].condition, Condition::Leaving);
    d.reconfigure(Arc::new(more.clone()), now);
    assert_eq!((shares(d.tables()), d.standings()[0].condition), (vec![33, 33, 33], Condition::Up), "it is back");
    d.reconfigure(Arc::new(before), now);
    flows.moved(2, true, false);
    d.observe(&flows);
    assert!(keeps(d.tables(), 2), "the client has ended it, but may be listening");
    flows.removed(2, false);
    d.observe(&flows);
    assert_eq!((d.standings().len(), keeps(d.tables(), 2)), (2, false));
    d.reconfigure(Arc::new(more), now);
    assert_eq!(d.standings().iter().map(|s| s.number).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn one_that_stands_by_does_not_know_when_the_last_flow_has_gone() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| b.predecessor = Duration::from_secs(20));
    d.go_silent(now);
    let mut fewer = (**d.balance()).clone();
    fewer.backends.truncate(1);
    d.reconfigure(Arc::new(fewer), now);
    d.observe(&FlowCounters::default());
    assert_eq!((shares(d.tables()), keeps(d.tables(), 1)), (vec![100, 0], true));
    pass(&mut d, &mut now, Duration::from_millis(10));
    d.take_over(now);
    d.observe(&FlowCounters::default());
    assert!(keeps(d.tables(), 1), "its flows have yet to show themselves");
    for _ in 0..100 {
        pass(&mut d, &mut now, Duration::from_millis(201));
        d.handle_event(answer(11), now);
        d.handle_event(answer(12), now);
    }
    d.observe(&FlowCounters::default());
    assert!(!keeps(d.tables(), 1) && d.standings().len() == 1);
}

#[test]
fn one_that_is_taken_off_is_checked_as_all_others_are() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    let mut other = (**d.balance()).clone();
    other.backends.truncate(1);
    d.reconfigure(Arc::new(other.clone()), now);
    other.health.check = crate::probe::Check::Icmp;
    d.reconfigure(Arc::new(other), now);
    for _ in 0..100 {
        pass(&mut d, &mut now, Duration::from_millis(200));
        d.handle_event(answer(11), now);
        d.handle_event(answer(12), now);
    }
    assert!(d.standings().iter().all(|s| s.condition == Condition::Down || s.condition == Condition::Leaving));
    assert!(!keeps(d.tables(), 1), "it answers ARP, and no echo request");
}

#[test]
fn the_table_before_a_change_decides_about_older_flows_for_its_time() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| b.predecessor = Duration::from_secs(20));
    let first = d.tables().vips()[0].services[0].current.clone();
    for weight in [3, 7, 2] {
        let mut changed = (**d.balance()).clone();
        changed.backends[0].weight = weight;
        d.reconfigure(Arc::new(changed), now);
        now += Duration::from_secs(1);
    }
    let previous = d.tables().vips()[0].services[0].previous.clone().expect("a generation before");
    assert!(previous.slots == first.slots, "the oldest counts");
    let end = now + Duration::from_secs(30);
    while now < end {
        now = d.poll_timeout().expect("there is always something").min(end);
        d.advance(now);
        d.handle_event(answer(11), now);
        d.handle_event(answer(12), now);
    }
    assert!(d.tables().vips()[0].services[0].previous.is_none());
}

#[test]
fn the_same_configuration_again_is_no_change() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    let digest = d.digest();
    d.reconfigure(Arc::clone(d.balance()), now);
    assert!(!d.has_previous());
    assert_eq!(d.digest(), digest);
    now += Duration::from_secs(1);
    assert!(notices(&mut d).is_empty());
}

#[test]
fn what_returns_slowly_grows_and_the_others_shrink() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| b.slow_start = Duration::from_secs(10));
    assert_eq!(shares(d.tables()), [50, 50], "at the start there is no slow start");
    // be12 falls silent, and returns.
    let silent = now + Duration::from_secs(10);
    while now < silent {
        now = d.poll_timeout().expect("there is always something").min(silent);
        d.advance(now);
        d.handle_event(answer(11), now);
    }
    assert_eq!(shares(d.tables()), [100, 0]);
    let mut seen = vec![];
    let end = now + Duration::from_secs(20);
    while now < end {
        now = d.poll_timeout().expect("there is always something").min(end);
        d.advance(now);
        d.handle_event(answer(11), now);
        d.handle_event(answer(12), now);
        seen.push(shares(d.tables())[1]);
    }
    assert!(seen.is_sorted() && seen[0] <= 3 && seen.contains(&25) && seen.last() == Some(&50), "{seen:?}");
}

#[test]
fn without_a_link_of_our_own_nobody_is_judged() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |_| {});
    d.link_down();
    pass(&mut d, &mut now, Duration::from_secs(60));
    assert!(arps(&mut d).iter().all(|m| m.sender == m.target), "nobody is asked");
    assert_eq!((shares(d.tables()), keeps(d.tables(), 0)), (vec![50, 50], true));
    d.link_up(now);
    pass(&mut d, &mut now, Duration::from_secs(5));
    assert_eq!(shares(d.tables()), [0, 0], "now their silence means something");
}

#[test]
fn the_emergency_backend_serves_when_nobody_else_does() {
    let mut now = Instant::now();
    let mut d = settled(&mut now, |b| {
        b.emergency = Some(BackendConfig { mac: Some(Mac([2, 0, 0, 0, 0, 0x99])), ..BackendConfig::named("spare") });
    });
    assert_eq!(shares(d.tables()), [50, 50, 0]);
    d.set_duty("be11", Duty::Draining, 5, now);
    d.set_duty("be12", Duty::Maintenance, 5, now);
    assert_eq!(shares(d.tables()), [0, 0, 100]);
    assert!(notices(&mut d).iter().any(|n| matches!(n, Notice::Emergency { name } if name == "spare")));
    d.set_duty("be12", Duty::Active, 0, now);
    assert_eq!(shares(d.tables()), [0, 100, 0]);
    assert!(keeps(d.tables(), 2), "the flows that it has got stay with it");
    now += Duration::from_secs(1);
    assert!(notices(&mut d).contains(&Notice::SomeBackend));
}

#[test]
fn one_that_stands_by_says_nothing_until_it_takes_over() {
    let mut now = Instant::now();
    let mut d = director_for(balance(), Start { silent: true, ..Start::default() }, now);
    d.advance(now);
    pass(&mut d, &mut now, Duration::from_secs(3));
    d.handle_event(Event::Claim { address: "10.0.0.100".parse().unwrap(), mac: BE[0] }, now);
    assert!(arps(&mut d).iter().all(|m| m.target != Ipv4Addr::new(10, 0, 0, 100)), "no word about the VIP");
    assert!(d.tables().settings().silent);
    d.take_over(now);
    assert_eq!(arps(&mut d).iter().filter(|m| m.sender == m.target).count(), 1, "at once");
    assert!(!d.tables().settings().silent);
    d.go_silent(now);
    pass(&mut d, &mut now, Duration::from_secs(5));
    assert!(arps(&mut d).iter().all(|m| m.sender != m.target));
}
