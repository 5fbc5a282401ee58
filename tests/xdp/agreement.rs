//! The program and `explain` agree: the same tables, the same clients, the same backends.

use std::net::IpAddr;
use std::sync::Arc;

use pen_dsr::engine::Station;
use pen_dsr::lb::acl::{Acl, Action, Rule};
use pen_dsr::lb::maglev::{DEFAULT_SIZE, Member, Table};
use pen_dsr::lb::{Backend, ClientHash, Generation, Protocols, Seed, Service, Settings, Tables, Vip};
use pen_dsr::verdict::DropReason;
use pen_dsr::wire::ether::Mac;

use crate::golden::Outcome;
use crate::golden::config::SEED;
use crate::golden::frames::{Packet, ROUTER};
use crate::harness::Bench;
use crate::random::Random;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
const VIPS: [&str; 2] = ["10.0.0.100", "fd00::100"];
const CLIENTS: usize = 10_000;

fn backend_mac(number: usize) -> Mac {
    let [a, b] = (number as u16).to_be_bytes();
    Mac([2, 0, 0, 1, a, b])
}

/// Twenty backends of several weights, of which the `down` ones are not in service.
fn generation(down: &[usize], seed: Seed, with_port: bool) -> Generation {
    let member = |n: usize| {
        let share = if down.contains(&n) { 0 } else { 100 };
        Member { share, ..Member::up(&format!("be{n}"), 1 + n as u32 % 4) }
    };
    let members: Vec<Member> = (0..20).map(member).collect();
    let slots = Arc::new(Table::build(&members, seed, DEFAULT_SIZE));
    Generation { hash: ClientHash::new(seed, with_port), slots }
}

fn tables(current: &Generation, previous: Option<&Generation>, lists: [Option<&Arc<Acl>>; 2]) -> Tables {
    let vip = |(number, text): (usize, &str)| {
        let acl = lists[number].cloned();
        let service = Service { previous: previous.cloned(), acl, ..Service::new(0, Protocols::All, current.clone()) };
        Vip { address: text.parse().expect("an address"), number, services: vec![service] }
    };
    let vips = VIPS.into_iter().enumerate().map(vip).collect();
    let backends = (0..20).map(|n| Backend::up(backend_mac(n))).collect();
    Tables::new(vips, backends, Settings::default())
}

/// Any address of either family, few of which are near each other.
fn client(random: &mut Random) -> IpAddr {
    if random.permille(500) {
        IpAddr::from((random.next() as u32).to_be_bytes())
    } else {
        IpAddr::from((u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes())
    }
}

struct Seen {
    sent: usize,
    denied: usize,
}

/// Shows a packet of each of 10,000 clients to the program, and compares with what the tables say.
fn compare(bench: &mut Bench, tables: &Arc<Tables>, seed: u64, opens: bool) -> Seen {
    bench.install(Arc::clone(tables));
    let mut random = Random::new(1, seed);
    let mut seen = Seen { sent: 0, denied: 0 };
    for _ in 0..CLIENTS {
        let (client, port) = (client(&mut random), random.within(1, 65535) as u16);
        let vip = VIPS[usize::from(client.is_ipv6())];
        let packet = Packet::new(OWN.0, &client.to_string(), vip).sent_by(ROUTER);
        let frame = if opens { packet.syn(port, 443) } else { packet.tcp(port, 443, b"more") };
        let (outcome, in_kernel) = bench.show(&frame);
        assert!(in_kernel, "{client}: passed on");
        let service = tables.service(usize::from(client.is_ipv6()), 6, 443).expect("a service");
        let choice = match opens {
            true => service.current.choose(client, port),
            false => tables.elder_choice(service, client, port),
        };
        let must = if service.admits(client) {
            let mut sent = frame.clone();
            sent[..6].copy_from_slice(&backend_mac(choice.backend.expect("a backend")).0);
            sent[6..12].copy_from_slice(&OWN.0);
            seen.sent += 1;
            Outcome { sent: vec![sent], ..Outcome::default() }
        } else {
            seen.denied += 1;
            Outcome { dropped: Some(DropReason::Denied), ..Outcome::default() }
        };
        assert_eq!(outcome, must, "{client} port {port}");
    }
    seen
}

#[test]
fn ten_thousand_random_clients_are_where_explain_says() {
    let (all, some) = (generation(&[], SEED, false), generation(&[3, 7], SEED, false));
    let ported = generation(&[1], Seed(77), true);
    let none = [None, None];
    let Some(mut bench) = Bench::new("agreement", tables(&all, None, none), Station::new(OWN)) else { return };
    let mut show = |what: &str, tables: Tables, seed, opens| {
        let seen = compare(&mut bench, &Arc::new(tables), seed, opens);
        println!("{what}: {} as explain says, {} denied", seen.sent, seen.denied);
        seen
    };
    show("the client's address", tables(&all, None, none), 1, true);
    show("two backends are down", tables(&some, Some(&all), none), 2, true);
    show("older than what is remembered", tables(&some, Some(&all), none), 3, false);
    show("the client's port, too, and another seed", tables(&ported, Some(&some), none), 4, true);
    show("and older ones", tables(&ported, Some(&some), none), 5, false);
    let rule = |action, text: &str| Rule { action, network: text.parse().expect("a network") };
    let v4 = Arc::new(Acl::new(vec![rule(Action::Deny, "10.0.0.0/8"), rule(Action::Permit, "0.0.0.0/1")]));
    let v6 = Arc::new(Acl::new(vec![rule(Action::Deny, "4000::/2"), rule(Action::Permit, "::/0")]));
    let seen = show("some are denied", tables(&all, None, [Some(&v4), Some(&v6)]), 6, true);
    assert!(seen.sent > CLIENTS / 4 && seen.denied > CLIENTS / 4);
    let seen = show("another list", tables(&all, None, [Some(&v6), Some(&v6)]), 7, true);
    assert!(seen.denied > CLIENTS / 2, "no IPv4 address is permitted by a list of IPv6 networks");
}
