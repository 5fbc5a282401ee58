mod checks;
mod states;

use std::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::config::{BackendConfig, VipConfig};
use crate::engine::Station;
use crate::lb::Backend;
use crate::wire::arp;
use crate::wire::ether;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 2]);
const BE: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 0x11]), Mac([2, 0, 0, 0, 0, 0x12])];

fn backend(n: u8) -> BackendConfig {
    BackendConfig { address: Some(IpAddr::V4(Ipv4Addr::new(10, 0, 0, n))), ..BackendConfig::named(&format!("be{n}")) }
}

fn balance() -> Balance {
    Balance {
        vips: vec![VipConfig::new("10.0.0.100".parse().unwrap(), 0)],
        backends: vec![backend(11), backend(12)],
        ..Balance::default()
    }
}

fn director_for(balance: Balance, start: Start, now: Instant) -> Director {
    let segment = Segment { ipv4: vec![("10.0.0.2".parse().unwrap(), 24)], ..Segment::new(Station::new(OWN)) };
    Director::new(Arc::new(balance), segment, start, now)
}

fn director(now: Instant) -> Director {
    director_for(balance(), Start::default(), now)
}

fn arps(director: &mut Director) -> Vec<arp::Message> {
    std::iter::from_fn(|| director.poll_transmit())
        .filter_map(|f| arp::parse(&f[ether::HEADER_LEN..]).unwrap())
        .collect()
}

fn answer(n: u8) -> Event {
    Event::Answer { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)), mac: BE[usize::from(n - 11)] }
}

fn pass(director: &mut Director, now: &mut Instant, duration: Duration) {
    let end = *now + duration;
    while let Some(next) = director.poll_timeout().filter(|&next| next <= end) {
        *now = next.max(*now);
        director.advance(*now);
    }
    *now = end;
}

#[test]
fn it_probes_then_asks_then_announces() {
    let mut now = Instant::now();
    let mut d = director(now);
    d.advance(now);
    let first = arps(&mut d);
    assert_eq!(first[0].sender, Ipv4Addr::UNSPECIFIED, "a probe for the VIP");
    assert_eq!(
        first[1..].iter().map(|m| (m.sender.octets()[3], m.target.octets()[3])).collect::<Vec<_>>(),
        [(2, 11), (2, 12)]
    );
    pass(&mut d, &mut now, Duration::from_millis(300));
    let announced = arps(&mut d);
    assert!(announced.iter().any(|m| m.sender == m.target && m.sender_mac == OWN), "{announced:?}");
}

#[test]
fn a_silent_backend_leaves_the_table_and_returns_when_it_answers() {
    let mut now = Instant::now();
    let mut d = director(now);
    d.advance(now);
    d.handle_event(answer(11), now);
    pass(&mut d, &mut now, Duration::from_secs(2));
    let tables = d.poll_tables().expect("changed tables");
    assert_eq!(tables.backend(1), Some(&Backend::nobody()));
    let slots = &tables.vips()[0].services[0].current.slots;
    assert!((0..slots.size()).all(|s| slots.member(s) == Some(0)));
    pass(&mut d, &mut now, Duration::from_secs(4));
    d.handle_event(answer(12), now);
    let tables = d.poll_tables().expect("changed tables");
    assert_eq!(tables.backend(1), Some(&Backend::up(BE[1])));
    let notices: Vec<Notice> = std::iter::from_fn(|| d.poll_notice()).collect();
    assert!(
        matches!(&notices[..], [Notice::BackendUp { .. }, Notice::BackendDown { .. }, .., Notice::BackendUp { .. }]),
        "{notices:?}"
    );
}

#[test]
fn a_claimed_vip_is_reported_and_defended_but_not_in_a_storm() {
    let mut now = Instant::now();
    let mut d = director(now);
    d.advance(now);
    d.handle_event(answer(11), now);
    arps(&mut d);
    while d.poll_notice().is_some() {}
    for _ in 0..100 {
        d.handle_event(Event::Claim { address: "10.0.0.100".parse().unwrap(), mac: BE[0] }, now);
        now += Duration::from_millis(50);
    }
    assert_eq!(arps(&mut d).iter().filter(|m| m.sender == m.target).count(), 1);
    let Some(Notice::VipClaimed { backend: Some(name), .. }) = d.poll_notice() else { panic!("not reported") };
    assert_eq!(name, "be11");
    assert_eq!(d.poll_notice(), None);
}
