//! The choice of a server allocates nothing. Alone in its process, as allocations of all threads are counted.

#[path = "proxy_selection/farm.rs"]
#[allow(dead_code)]
mod farm;

use std::alloc::System;
use std::hint::black_box;
use std::time::Instant;

use farm::{Farm, IDLE, client};
use pen_dsr::config::proxy::{Method, Selection};
use pen_dsr::lb::{Seed, maglev};
use pen_dsr::proxy::select::{Choice, Selector, Tried, View};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

#[test]
fn a_choice_allocates_nothing_nor_does_remembering_a_client_that_is_known() {
    let full = View { connections: 1, soft: 1, hard: 2, ..IDLE };
    for method in Method::ALL {
        let mut farm = Farm::of(&[IDLE; 100]);
        (0..50).for_each(|n| farm.servers[n * 2].view = full);
        let selector = Selector::new(Selection { method, ..Selection::default() }, Seed(1), maglev::DEFAULT_SIZE);
        selector.rebuild(&farm);
        let now = Instant::now();
        (0..1000).for_each(|n| selector.served(&client(n), 100 + n % 100, now));
        let allocations = || {
            let region = Region::new(ALLOCATOR);
            for n in 0..2000 {
                let mut tried = Tried::new();
                for _ in 0..4 {
                    let choice = black_box(selector.choose(&farm, &client(n), false, &tried, now));
                    assert!(matches!(choice, Choice::Server(_)));
                    tried.add(choice);
                }
                selector.served(&client(n % 1000), 7, now);
            }
            let change = region.change();
            change.allocations + change.reallocations
        };
        // What the thread that waits for this one allocates meanwhile is counted, too; it does not do so each time.
        assert_eq!((0..5).map(|_| allocations()).min(), Some(0), "{method}");
    }
}
