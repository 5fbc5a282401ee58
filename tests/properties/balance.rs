//! How clients spread over backends, and how many move when the backends change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pen_dsr::lb::maglev::{DEFAULT_SIZE, Member, Table};
use pen_dsr::lb::{Backend, ClientHash, Generation, Protocols, Seed, Service, Settings, Tables, Vip};
use pen_dsr::wire::ether::Mac;

const CLIENTS: usize = 100_000;
const SEEDS: [u128; 3] = [0, 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff, u128::MAX / 3];

/// Random numbers that are the same in every run (SplitMix64): statistics do not fail by chance.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Half of them IPv4, half IPv6.
    fn client(&mut self) -> IpAddr {
        match self.next() {
            n if n & 1 == 0 => IpAddr::V4(Ipv4Addr::from((n >> 32) as u32)),
            n => IpAddr::V6(Ipv6Addr::from(u128::from(n) << 64 | u128::from(self.next()))),
        }
    }
}

fn clients(seed: u64) -> Vec<IpAddr> {
    let mut random = Random(seed);
    (0..CLIENTS).map(|_| random.client()).collect()
}

fn member(number: usize, weight: u32, up: bool) -> Member {
    let identity = format!("10.0.0.{}", 11 + number);
    if up { Member::up(&identity, weight) } else { Member::down(&identity, weight) }
}

fn equal(n: usize) -> Vec<Member> {
    (0..n).map(|i| member(i, 1, true)).collect()
}

/// Tables with one VIP that these members serve.
fn tables(members: &[Member], seed: u128) -> Tables {
    let slots = Arc::new(Table::build(members, Seed(seed), DEFAULT_SIZE));
    let current = Generation { hash: ClientHash::new(Seed(seed), false), slots };
    let services = vec![Service::new(0, Protocols::All, current)];
    let backend = |i: usize| Backend::up(Mac([2, 0, 0, 0, 0, 0x11 + i as u8]));
    let vips = vec![Vip { address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)), number: 0, services }];
    Tables::new(vips, (0..members.len()).map(backend).collect(), Settings::default())
}

/// Who serves each client, by identity.
fn choices<'a>(members: &'a [Member], seed: u128, clients: &[IpAddr]) -> Vec<&'a str> {
    let tables = tables(members, seed);
    let service = tables.service(0, 6, 80).expect("every port is served");
    clients
        .iter()
        .map(|client| &members[service.current.choose(*client, 0).backend.expect("a backend in service")].identity[..])
        .collect()
}

#[test]
fn clients_spread_by_weight_within_two_percent() {
    let clients = clients(1);
    let mut random = Random(2);
    let (mut worst, mut worst_relative) = (0f64, 0f64);
    for n in 2..=20 {
        let members: Vec<Member> = (0..n).map(|i| member(i, 1 + (random.next() % 10) as u32, true)).collect();
        let weights: u32 = members.iter().map(|member| member.weight).sum();
        let choices = choices(&members, u128::from(random.next()), &clients);
        for member in &members {
            let ideal = f64::from(member.weight) / f64::from(weights);
            let is = choices.iter().filter(|choice| **choice == member.identity).count() as f64 / CLIENTS as f64;
            worst = worst.max((is - ideal).abs());
            worst_relative = worst_relative.max((is - ideal).abs() / ideal);
            assert!((is - ideal).abs() <= 0.02, "{n} backends: {member:?} has {is:.4} of the clients, not {ideal:.4}");
        }
    }
    println!(
        "spread of {CLIENTS} clients over 2 to 20 backends of weight 1 to 10: worst deviation {:.2} % of all clients, {:.1} % of the backend's own share",
        worst * 100.0,
        worst_relative * 100.0
    );
}

#[test]
fn a_backend_that_goes_down_moves_its_own_clients_only_and_gets_them_back() {
    let clients = clients(3);
    for seed in SEEDS {
        let members = equal(10);
        let before = choices(&members, seed, &clients);
        for gone in 0..10 {
            let mut during = members.clone();
            during[gone].share = 0;
            let after = choices(&during, seed, &clients);
            let mut orphans = 0;
            for (before, after) in before.iter().zip(after) {
                if *before == members[gone].identity {
                    assert_ne!(after, members[gone].identity);
                    orphans += 1;
                } else {
                    assert_eq!(after, *before, "a client of another backend moved");
                }
            }
            assert!(orphans > CLIENTS / 20, "{orphans} clients moved to others");
        }
        assert_eq!(choices(&members, seed, &clients), before);
    }
}

/// The share of the other members' clients that move when one is taken out of the configuration: of each member.
fn moved_by_removal(members: &[Member], seed: u128, clients: &[IpAddr]) -> Vec<f64> {
    let before = choices(members, seed, clients);
    let share = |gone: &Member| {
        let rest: Vec<Member> = members.iter().filter(|member| member.identity != gone.identity).cloned().collect();
        let after = choices(&rest, seed, clients);
        let others = before.iter().zip(after).filter(|(before, _)| **before != gone.identity);
        let (mut all, mut moved) = (0u32, 0u32);
        for (before, after) in others {
            all += 1;
            moved += u32::from(*before != after);
        }
        f64::from(moved) / f64::from(all)
    };
    members.iter().map(share).collect()
}

#[test]
fn removing_one_of_ten_backends_moves_at_most_one_percent_of_the_others_clients() {
    let clients = clients(4);
    for seed in SEEDS {
        let moved = moved_by_removal(&equal(10), seed, &clients);
        let (average, worst) = (moved.iter().sum::<f64>() / 10.0, moved.iter().copied().fold(0.0, f64::max));
        println!(
            "removing one of 10 equal backends moves of the others' {CLIENTS} clients: {:.2} % on average, {:.2} % at worst (seed {seed:x})",
            average * 100.0,
            worst * 100.0
        );
        assert!(worst <= 0.01, "{moved:?}");
    }
}

#[test]
fn the_choice_is_the_same_on_every_balancer_whatever_the_order_of_its_backends() {
    let clients = &clients(5)[..10_000];
    let members: Vec<Member> = (0..7).map(|i| member(i, 1 + i as u32 % 3, i != 4)).collect();
    let mut reversed = members.clone();
    reversed.reverse();
    for seed in SEEDS {
        assert_eq!(choices(&members, seed, clients), choices(&members.clone(), seed, clients));
        assert_eq!(choices(&members, seed, clients), choices(&reversed, seed, clients));
    }
    assert_ne!(choices(&members, SEEDS[0], clients), choices(&members, SEEDS[1], clients));
}
