//! Checks through the data path: what is sent to whom, and what comes of the answers.

use super::*;
use crate::config::VipConfig;
use crate::health::Policy;
use crate::probe::Check;
use crate::wire::{icmp, ip};

const MS: Duration = Duration::from_millis(1);

fn checked(change: impl FnOnce(&mut Balance)) -> Balance {
    let mut balance = balance();
    balance.health.check = Check::Icmp;
    balance.health.policy =
        Policy { interval: 500 * MS, timeout: 400 * MS, rise: 2, fall: 3, jitter: 0, doubt: 200 * MS };
    change(&mut balance);
    balance
}

/// Lets time pass; the backends whose numbers are in `well` answer their probes, all answer ARP.
fn live(d: &mut Director, now: &mut Instant, duration: Duration, well: &[u8]) -> Vec<Notice> {
    let end = *now + duration;
    let mut notices = Vec::new();
    loop {
        d.advance(*now);
        let sent: Vec<Vec<u8>> = std::iter::from_fn(|| d.poll_transmit()).collect();
        for frame in sent {
            if let Ok(Some(question)) = arp::parse(&frame[ether::HEADER_LEN..]) {
                let n = question.target.octets()[3];
                if (11..=12).contains(&n) {
                    d.handle_event(answer(n), *now);
                }
                continue;
            }
            let to = BE.iter().position(|mac| frame[..6] == mac.0).expect("a probe goes to a backend's MAC");
            assert_eq!(frame[6..12], OWN.0);
            // The VIP 10.0.0.199 is lost.
            if well.contains(&(11 + to as u8)) && frame[ether::HEADER_LEN + 19] != 199 {
                d.handle_event(Event::Probed(echo_reply(&frame[ether::HEADER_LEN..])), *now);
            }
        }
        notices.extend(std::iter::from_fn(|| d.poll_notice()));
        match d.poll_timeout().filter(|&next| next < end) {
            Some(next) => *now = next.max(*now),
            None => break,
        }
    }
    *now = end;
    notices
}

fn echo_reply(request: &[u8]) -> Vec<u8> {
    let header = ip::parse(ether::IPV4, request).unwrap();
    assert_eq!(header.source.to_string(), "10.0.0.2");
    let mut reply = request.to_vec();
    reply[12..16].copy_from_slice(&request[16..20]);
    reply[16..20].copy_from_slice(&request[12..16]);
    icmp::make_echo_reply(header.protocol, &mut reply[header.payload..header.end]);
    reply
}

fn in_service(d: &Director) -> Vec<bool> {
    d.tables().backends().iter().map(|backend| backend.in_service).collect()
}

#[test]
fn a_backend_that_does_not_answer_its_check_leaves_with_a_reason_and_returns() {
    let mut now = Instant::now();
    let mut d = director_for(checked(|_| {}), Start::default(), now);
    let said = live(&mut d, &mut now, Duration::from_secs(2), &[11, 12]);
    assert_eq!(said.iter().filter(|n| matches!(n, Notice::CheckPassed { .. })).count(), 2, "{said:?}");
    let said = live(&mut d, &mut now, Duration::from_millis(2500), &[11]);
    let reason = said.iter().find_map(|n| match n {
        Notice::CheckFailed { name, reason } if name == "be12" => Some(reason.to_string()),
        _ => None,
    });
    assert!(reason.is_some_and(|reason| reason.contains("loopback")), "{said:?}");
    assert_eq!(in_service(&d), [true, false]);
    assert_eq!(d.standings()[1].condition, Condition::Down);
    assert!(!d.tables().keeps_flows(d.tables().owner(1)), "its flows go elsewhere");
    live(&mut d, &mut now, Duration::from_secs(2), &[11, 12]);
    assert_eq!(in_service(&d), [true, true]);
}

#[test]
fn in_a_panic_all_are_used() {
    let mut now = Instant::now();
    let mut d = director_for(checked(|b| b.panic_threshold = 60), Start::default(), now);
    live(&mut d, &mut now, Duration::from_secs(2), &[11, 12]);
    let said = live(&mut d, &mut now, Duration::from_secs(3), &[11]);
    assert!(said.iter().any(|n| matches!(n, Notice::Panic { well: 1, all: 2, threshold: 60 })), "{said:?}");
    assert_eq!(in_service(&d), [true, true]);
    let said = live(&mut d, &mut now, Duration::from_secs(3), &[11, 12]);
    assert!(said.iter().any(|n| matches!(n, Notice::PanicOver { .. })), "{said:?}");
}

#[test]
fn nobody_is_dropped_without_a_word() {
    let mut now = Instant::now();
    let mut d = director_for(checked(|_| {}), Start::default(), now);
    live(&mut d, &mut now, Duration::from_secs(2), &[11, 12]);
    let said = live(&mut d, &mut now, Duration::from_secs(3), &[]);
    assert!(said.contains(&Notice::NoBackend), "{said:?}");
    let said = live(&mut d, &mut now, Duration::from_secs(3), &[12]);
    assert!(said.contains(&Notice::SomeBackend), "{said:?}");
}

#[test]
fn another_check_keeps_what_is_believed_until_it_is_answered() {
    let mut now = Instant::now();
    let mut d = director_for(checked(|_| {}), Start::default(), now);
    live(&mut d, &mut now, Duration::from_secs(4), &[11]);
    assert_eq!(in_service(&d), [true, false]);
    let mut other = (**d.balance()).clone();
    other.health.check = Check::Link;
    d.reconfigure(Arc::new(other.clone()), now);
    assert_eq!(in_service(&d), [true, true], "the link is all that counts now");
    other.health.check = Check::Icmp;
    d.reconfigure(Arc::new(other), now);
    live(&mut d, &mut now, Duration::from_secs(4), &[12]);
    assert_eq!(in_service(&d), [false, true]);
}

#[test]
fn a_backend_that_is_added_waits_for_its_check() {
    let mut now = Instant::now();
    let mut d = director_for(checked(|b| b.backends.truncate(1)), Start::default(), now);
    live(&mut d, &mut now, Duration::from_secs(2), &[11]);
    let mut more = (**d.balance()).clone();
    more.backends.push(backend(12));
    d.reconfigure(Arc::new(more), now);
    live(&mut d, &mut now, Duration::from_secs(4), &[11]);
    assert_eq!(in_service(&d), [true, false], "it answers ARP, and no more");
    live(&mut d, &mut now, Duration::from_secs(4), &[11, 12]);
    assert_eq!(in_service(&d), [true, true]);
}

#[test]
fn one_lost_vip_of_many_takes_a_backend_out_and_keeps_it_out() {
    let mut now = Instant::now();
    let many = checked(|b| b.vips = (150..200).map(|n| VipConfig::new([10, 0, 0, n].into(), 0)).collect());
    let mut d = director_for(many, Start::default(), now);
    live(&mut d, &mut now, Duration::from_secs(10), &[11, 12]);
    assert_eq!(in_service(&d), [false, false]);
    let said = live(&mut d, &mut now, Duration::from_secs(20), &[11, 12]);
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn a_round_that_is_answered_in_part_keeps_nobody_busy() {
    let mut now = Instant::now();
    let two = checked(|b| b.vips = [100, 199].map(|n| VipConfig::new([10, 0, 0, n].into(), 0)).to_vec());
    let mut d = director_for(two, Start::default(), now);
    let end = now + Duration::from_secs(5);
    let mut wakes = 0;
    while now < end {
        live(&mut d, &mut now, Duration::ZERO, &[11, 12]);
        now = d.poll_timeout().expect("backends are checked").max(now);
        wakes += 1;
        assert!(wakes < 500, "{:?} have passed", end - now);
    }
}

#[test]
fn who_stands_by_asks_from_an_address_of_its_own() {
    let mut now = Instant::now();
    let source: IpAddr = "10.0.0.60".parse().unwrap();
    let shared = checked(|b| b.health.source4 = Some("10.0.0.60".parse().unwrap()));
    let mut d = director_for(shared, Start { silent: true, ..Start::default() }, now);
    let sources = |d: &Director| (d.tables().settings().probe_sources.clone(), d.tables().settings().answered.clone());
    assert_eq!(sources(&d), (vec!["10.0.0.2".parse().unwrap()], vec![]));
    live(&mut d, &mut now, Duration::from_secs(2), &[11, 12]);
    assert_eq!(in_service(&d), [true, true]);
    d.take_over(now);
    assert_eq!(sources(&d), (vec![source], vec![source]));
    d.advance(now);
    assert!(arps(&mut d).iter().any(|m| IpAddr::V4(m.sender) == source && m.sender == m.target), "and says so");
}
