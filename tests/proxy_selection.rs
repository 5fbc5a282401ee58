//! Who is sent where by the proxy: a table worked out by hand (`tests/proxy_selection/table.txt`), and every combination
//! of the options and of what three servers can be like against a second opinion (`tests/proxy_selection/model.rs`).

#[path = "proxy_selection/farm.rs"]
mod farm;
#[path = "proxy_selection/model.rs"]
mod model;
#[path = "proxy_selection/table.rs"]
mod table;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use farm::{Farm, IDLE, client};
use model::{Case, Condition};
use pen_dsr::config::Balance;
use pen_dsr::config::proxy::{Method, Selection};
use pen_dsr::lb::maglev::Member;
use pen_dsr::lb::{ClientHash, Generation, Seed, maglev};
use pen_dsr::proxy::select::{Choice, Client, Selector, Tried, View};

const SIZE: u32 = 251;

#[test]
fn clients_go_where_the_table_says() {
    let rows = table::rows();
    assert!(rows.len() > 100, "only {} rows", rows.len());
    for row in rows {
        row.play();
    }
}

/// Everything that a server can be like, with what rule 3 says of it.
const CONDITIONS: [Condition; 7] = {
    const fn condition(name: &'static str, view: View, first: bool, new: bool, known: bool) -> Condition {
        Condition { name, view, first, new, known }
    }
    [
        condition("idle", IDLE, true, true, true),
        condition("down", View { usable: false, ..IDLE }, false, false, false),
        condition("denied", View { permits: false, ..IDLE }, false, false, false),
        // The limits are set by `limits`, as they depend on the load.
        condition("past soft", View { soft: 1, ..IDLE }, true, false, true),
        condition("past hard", View { hard: 1, ..IDLE }, true, false, false),
        condition("weightless", View { weight: 0, ..IDLE }, false, false, true),
        condition("known only", View { known_only: true, ..IDLE }, false, false, true),
    ]
};

/// Connections, weight and priority number of three servers.
const LOADS: [[(u32, u32, u32); 3]; 3] =
    [[(3, 1, 1), (3, 1, 1), (3, 1, 1)], [(4, 1, 3), (8, 4, 2), (8, 8, 2)], [(2, 1, 5), (4, 2, 5), (9, 4, 7)]];

fn view(condition: Condition, (connections, weight, prio): (u32, u32, u32)) -> View {
    let limit = |set: u32| if set == 0 { 0 } else { connections };
    let View { soft, hard, .. } = condition.view;
    let weight = weight * condition.view.weight;
    View { connections, weight, prio, soft: limit(soft), hard: limit(hard), ..condition.view }
}

fn booleans() -> [bool; 2] {
    [false, true]
}

/// Where the client is before it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Past {
    Unknown,
    At(usize),
    /// It was at the first, but its time is over.
    Expired,
}

#[test]
fn every_combination_of_options_and_servers_is_as_the_second_opinion_says() {
    let tracking = Duration::from_secs(10);
    let pasts = [Past::Unknown, Past::Expired, Past::At(0), Past::At(1), Past::At(2)];
    let tries: [&[usize]; 5] = [&[], &[0], &[1], &[2, 0], &[0, 1, 2]];
    let mut seen = HashSet::new();
    let mut compared = 0u64;
    for (method_number, method) in Method::ALL.into_iter().enumerate() {
        for (track, stubborn, hash_port) in
            booleans().iter().flat_map(|&t| booleans().map(|s| (t, s))).flat_map(|(t, s)| booleans().map(|h| (t, s, h)))
        {
            if hash_port && !matches!(method, Method::Hash | Method::Consistent) {
                continue;
            }
            let selection = Selection { method, track, stubborn, hash_port, tracking, clients: 16 };
            let now = Instant::now() + Duration::from_secs(100);
            let come = client(compared as u32 % 200);
            let selectors = pasts.map(|past| {
                let selector = Selector::new(selection, Seed::default(), SIZE);
                match past {
                    Past::Unknown => {}
                    Past::At(n) => selector.served(&come, 100 + n as u32, now - Duration::from_secs(9)),
                    Past::Expired => selector.served(&come, 100, now - tracking),
                }
                selector
            });
            let mut lasts = [None; 5];
            for number in 0..CONDITIONS.len().pow(3) * LOADS.len() {
                let kinds = CONDITIONS.len();
                let conditions = [number, number / kinds, number / kinds / kinds].map(|n| CONDITIONS[n % kinds]);
                let loads = &LOADS[number / kinds.pow(3)];
                let views: [View; 3] = std::array::from_fn(|n| view(conditions[n], loads[n]));
                let mut farm = Farm::of(&views);
                let generation = generation(&farm, hash_port);
                for (past, (selector, last)) in pasts.iter().zip(selectors.iter().zip(&mut lasts)) {
                    selector.rebuild(&farm);
                    for tried in tries {
                        let mut failed = Tried::new();
                        tried.iter().for_each(|&n| failed.add(Choice::Server(n)));
                        for flags in 0..8 {
                            let (emergency, abuse, denied) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
                            (farm.emergency, farm.abuse) = (emergency, abuse);
                            let known = if let Past::At(n) = past { Some(*n) } else { None };
                            let case = Case {
                                selection,
                                emergency,
                                abuse,
                                denied,
                                conditions: &conditions,
                                loads,
                                known,
                                tried,
                                client: come,
                                last: *last,
                                generation: &generation,
                            };
                            let right = case.right();
                            let choice = selector.choose(&farm, &come, denied, &failed, now);
                            assert!(
                                right.choices.contains(&choice),
                                "{choice:?} instead of {:?} ({past:?}): {case:?}",
                                right.choices
                            );
                            *last = right.last.or(*last);
                            seen.insert((method_number, choice));
                            compared += 1;
                        }
                    }
                }
            }
        }
    }
    // Each method had every outcome: three servers, both substitutes, and six ways to be refused.
    assert_eq!(seen.len(), Method::ALL.len() * 11, "{seen:?}");
    assert!(compared > 1_000_000, "only {compared} cases");
}

/// How Direct Server Return chooses among these servers.
fn generation(farm: &Farm, hash_port: bool) -> Generation {
    let members: Vec<Member> = farm
        .servers
        .iter()
        .map(|server| {
            let weight = if server.view.known_only { 0 } else { server.view.weight };
            Member { share: if server.view.usable { 100 } else { 0 }, ..Member::up(&server.name, weight) }
        })
        .collect();
    let slots = maglev::Table::build(&members, Seed::default(), SIZE).into();
    Generation { hash: ClientHash::new(Seed::default(), hash_port), slots }
}

fn chosen(selector: &Selector, farm: &Farm, client: &Client) -> usize {
    match selector.choose(farm, client, false, &Tried::new(), Instant::now()) {
        Choice::Server(index) => index,
        other => panic!("{other:?}"),
    }
}

fn selector(method: Method) -> Selector {
    let selection = Selection { method, track: false, ..Selection::default() };
    Selector::new(selection, Seed(42), maglev::DEFAULT_SIZE)
}

/// The same clients by both ways of balancing, from the same configuration.
#[test]
fn consistent_sends_clients_where_direct_server_return_sends_them() {
    let weights = [1, 3, 2, 0];
    let mut farm = Farm::of(&weights.map(|weight| View { weight, ..IDLE }));
    let mut balance = Balance { seed: Seed(42), ..Balance::default() };
    for server in &farm.servers {
        balance.backends.push(pen_dsr::config::BackendConfig {
            weight: server.view.weight,
            ..pen_dsr::config::BackendConfig::named(&server.name)
        });
    }
    let selector = selector(Method::Consistent);
    for down in [None, Some(1)] {
        if let Some(down) = down {
            farm.servers[down].view.usable = false;
            balance.backends[down].maintenance = true;
        }
        selector.rebuild(&farm);
        let share = |backend: &pen_dsr::config::BackendConfig| if backend.maintenance { 0 } else { 100 };
        let members: Vec<Member> =
            balance.backends.iter().map(|b| Member { share: share(b), ..Member::up(&b.name, b.weight) }).collect();
        let generation = balance.generation(&members);
        for n in 0..2000 {
            for address in
                [client(n).address.unwrap(), std::net::Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(n)).into()]
            {
                let direct = generation.choose(address, 1000).backend;
                assert_eq!(Some(chosen(&selector, &farm, &Client { address: Some(address), port: 1000 })), direct);
            }
        }
    }
}

#[test]
fn when_a_server_is_full_the_others_share_its_clients_and_each_finds_the_same_again() {
    let mut farm = Farm::of(&[IDLE; 5]);
    let selector = selector(Method::Consistent);
    selector.rebuild(&farm);
    let before: Vec<usize> = (0..5000).map(|n| chosen(&selector, &farm, &client(n))).collect();
    farm.servers[2].view = View { connections: 1, soft: 1, ..IDLE };
    let mut heirs = [0; 5];
    for (n, &owner) in before.iter().enumerate() {
        let now = chosen(&selector, &farm, &client(n as u32));
        assert_eq!(now, chosen(&selector, &farm, &client(n as u32)));
        if owner == 2 {
            heirs[now] += 1;
        } else {
            assert_eq!(now, owner);
        }
    }
    let quarter = heirs.iter().sum::<usize>() / 4;
    assert!(heirs[2] == 0 && [0, 1, 3, 4].iter().all(|&heir| heirs[heir].abs_diff(quarter) < 70), "{heirs:?}");
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_the_same_client() {
    let farm = Farm::of(&[IDLE; 7]);
    let mapped = |client: &Client| match client.address {
        Some(std::net::IpAddr::V4(address)) => Client { address: Some(address.to_ipv6_mapped().into()), ..*client },
        _ => unreachable!(),
    };
    let now = Instant::now();
    for method in [Method::Hash, Method::Consistent] {
        let selector = selector(method);
        selector.rebuild(&farm);
        assert!(
            (0..100).all(|n| { chosen(&selector, &farm, &client(n)) == chosen(&selector, &farm, &mapped(&client(n))) })
        );
    }
    let tracking = Selector::new(Selection::default(), Seed(0), SIZE);
    tracking.served(&mapped(&client(1)), 105, now);
    assert_eq!(chosen(&tracking, &farm, &client(1)), 5);
    assert_eq!(tracking.clients(Duration::MAX, 9, now)[0].address, client(1).address.unwrap());
}

#[test]
fn power_of_two_draws_everybody_and_spares_the_burdened() {
    let farm = Farm::of(&[0, 1, 2, 9].map(|connections| View { connections, ..IDLE }));
    let selector = selector(Method::PowerOfTwo);
    let mut got = [0; 4];
    (0..6000).for_each(|n| got[chosen(&selector, &farm, &client(n))] += 1);
    // Of the six pairs the first wins three, the second two, the third one.
    for (got, pairs) in got.iter().zip([3i32, 2, 1, 0]) {
        assert!((got - pairs * 1000).abs() < 150, "{got} of {pairs} pairs");
    }
}

#[test]
fn round_robin_stays_fair_among_event_loops() {
    let farm = Farm::of(&[IDLE, IDLE, View { usable: false, ..IDLE }, IDLE]);
    let selector = selector(Method::RoundRobin);
    let got: [AtomicUsize; 4] = Default::default();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for n in 0..6000 {
                    got[chosen(&selector, &farm, &client(n))].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    let got = got.map(AtomicUsize::into_inner);
    assert!(got[2] == 0 && [0, 1, 3].iter().all(|&n| got[n].abs_diff(8000) < 400), "{got:?}");
}

#[test]
fn a_reload_keeps_who_was_where_even_when_the_table_gets_another_size() {
    let now = Instant::now();
    let farm = Farm::of(&[IDLE; 3]);
    for clients in [65_536, 2] {
        let before = Selector::new(Selection::default(), Seed(0), SIZE);
        for n in 0..3 {
            before.served(&client(n), 102, now + Duration::from_secs(n.into()));
        }
        let mut after = Selector::new(Selection { clients, ..Selection::default() }, Seed(0), SIZE);
        after.adopt(&before);
        assert_eq!(after.known_clients(), clients.min(3) as usize);
        assert_eq!(chosen(&after, &farm, &client(2)), 2);
    }
}

#[test]
fn with_no_servers_nobody_is_chosen() {
    let mut farm = Farm::default();
    for method in Method::ALL {
        let selector = selector(method);
        selector.rebuild(&farm);
        for emergency in booleans() {
            farm.emergency = emergency;
            let choice = selector.choose(&farm, &client(1), false, &Tried::new(), Instant::now());
            assert_eq!(choice == Choice::Emergency, emergency, "{choice:?}");
        }
    }
}

#[test]
fn what_was_built_for_more_servers_chooses_none_that_is_gone() {
    let selector = selector(Method::Consistent);
    selector.rebuild(&Farm::of(&[IDLE; 9]));
    let fewer = Farm::of(&[IDLE; 2]);
    assert!((0..500).all(|n| chosen(&selector, &fewer, &client(n)) < 2));
}
