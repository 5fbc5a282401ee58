use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::thread;

use super::*;

/// Threads that want places at the same time, and how often each of them does.
const THREADS: usize = 8;
const ROUNDS: usize = 4_000;

fn server() -> Arc<Server> {
    Arc::new(Server::new(0, "be", Instant::now()))
}

fn address() -> SockAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 80)).into()
}

/// Counts those that are there at a time, beside what is tested.
#[derive(Default)]
struct Witness {
    now: AtomicU32,
    most: AtomicU32,
}

impl Witness {
    fn enter(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }
}

#[test]
fn threads_that_want_places_at_the_same_time_never_have_more_than_there_are() {
    for (most, hard, limit) in [(0, 3, 3), (2, 5, 2), (5, 2, 2)] {
        let (server, address) = (server(), address());
        let (witness, had) = (Witness::default(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        let Some(engaged) = Engaged::new(&server, &address, most, hard) else {
                            thread::yield_now();
                            continue;
                        };
                        witness.enter();
                        had.fetch_add(1, SeqCst);
                        thread::yield_now();
                        witness.leave();
                        drop(engaged);
                    }
                });
            }
        });
        let seen = witness.most.load(SeqCst);
        assert!(seen <= limit, "{seen} at a time, {limit} are allowed");
        assert!(had.load(SeqCst) >= limit);
        assert_eq!(server.places.load(Relaxed), 0, "each is given back once");
    }
}

#[test]
fn those_that_are_kept_ready_leave_room_and_are_no_more_than_the_limit_with_the_others() {
    const HARD: u32 = 4;
    let (server, address) = (server(), address());
    let witness = Witness::default();
    thread::scope(|scope| {
        for n in 0..THREADS {
            let (server, address, witness) = (&server, &address, &witness);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if n % 2 == 0 {
                        drop(Kept::new(server, address, HARD));
                        continue;
                    }
                    let Some(engaged) = Engaged::new(server, address, 0, HARD) else { continue };
                    witness.enter();
                    thread::yield_now();
                    witness.leave();
                    drop(engaged.keep());
                }
            });
        }
    });
    let seen = witness.most.load(SeqCst);
    assert!(seen <= HARD, "{seen} at a time");
    assert_eq!(server.places.load(Relaxed), 0);

    let engaged: Vec<Engaged> = (0..HARD).filter_map(|_| Engaged::new(&server, &address, 0, HARD)).collect();
    assert!(Kept::new(&server, &address, HARD).is_none(), "none is made ready where there is no room");
    let kept: Vec<Kept> = engaged.into_iter().filter_map(|engaged| engaged.keep().ok()).collect();
    assert_eq!((server.connections(), server.kept()), (0, HARD));
    // Who comes does not have to wait for those that serve nobody, and they are in the way from then on.
    let engaged = Engaged::new(&server, &address, 0, HARD).expect("a place");
    assert!(engaged.crowds() && kept.iter().all(Kept::crowds));
    let engaged = engaged.keep().expect_err("one too many to be kept");
    drop(engaged);
    assert!(!kept.iter().any(Kept::crowds));
}

#[test]
fn without_a_limit_nothing_is_counted_of_those_that_are_kept() {
    let (server, address) = (server(), address());
    let engaged = Engaged::new(&server, &address, 0, 0).expect("a place");
    assert_eq!(server.connections(), 1);
    let kept = engaged.keep().expect("it is kept");
    assert_eq!(server.places.load(Relaxed), 0);
    drop((kept, Kept::new(&server, &address, 0)));
    assert_eq!(server.places.load(Relaxed), 0);
}

#[test]
fn that_a_server_fails_is_told_once_a_second() {
    let start = Instant::now();
    let server = Server::new(0, "be", start);
    let told = |ms: u64| server.is_news(start + Duration::from_millis(ms));
    assert!(told(5) && !told(5) && !told(1004) && told(1005) && !told(2004) && told(9000));
}

#[test]
fn what_failed_at_one_place_says_nothing_of_another() {
    let server = server();
    let (now, time) = (Instant::now(), Duration::from_secs(60));
    let left_out = || server.blacklisted_for(now).is_some();
    server.settle(1);
    server.suspect(1, time, now);
    server.settle(1);
    assert!(left_out(), "it is where it was");
    server.settle(2);
    assert!(!left_out());
    // Whoever tried the old place hears only now that it is of no use.
    server.suspect(1, time, now);
    assert!(!left_out());
    server.suspect(2, time, now);
    assert!(left_out());
    server.blacklist(time, now);
    server.settle(3);
    assert!(left_out(), "the operator has said so");
}
