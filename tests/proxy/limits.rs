//! No server ever has more connections than its hard limit, however many loops and clients want one at the same moment.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Instant;

use pen_dsr::config::Config;
use pen_dsr::proxy::plan::{Acceptors, Plan};
use pen_dsr::proxy::select::{Client, Tried, Why};
use pen_dsr::proxy::server::Server;

use crate::harness::{PATIENCE, config, free_address, serve, start, uninterrupted};
use crate::process::wait_until;

/// How many there are at a time, and the most that there ever were.
#[derive(Default)]
pub struct Witness {
    now: AtomicU32,
    most: AtomicU32,
}

impl Witness {
    /// One more.
    pub fn enter(&self) {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
    }

    /// One less.
    pub fn leave(&self) {
        self.now.fetch_sub(1, SeqCst);
    }

    /// The most that there ever were at a time.
    pub fn most(&self) -> u32 {
        self.most.load(SeqCst)
    }
}

fn limited(servers: &[SocketAddr], limits: &[u32]) -> Config {
    let mut config = config(servers);
    config.proxy.selection.track = false;
    for (backend, &hard) in config.balance.backends.iter_mut().zip(limits) {
        backend.hard = hard;
    }
    config
}

#[test]
fn loops_that_accept_at_the_same_moment_never_open_more_connections_than_there_may_be() {
    const CLIENTS: usize = 48;
    const LIMITS: [u32; 2] = [3, 2];
    let witnesses = [(); 2].map(|()| Arc::new(Witness::default()));
    let servers = witnesses.clone().map(|witness| {
        let greet = move |mut stream: std::net::TcpStream| {
            witness.enter();
            let _ = stream.write_all(b"x");
            let _ = stream.read(&mut [0]);
            witness.leave();
        };
        serve(greet).0
    });
    let mut config = limited(&servers, &LIMITS);
    config.proxy.threads = 4;
    let proxy = start(&config);
    for round in 0..25 {
        let barrier = Barrier::new(CLIENTS);
        let served = thread::scope(|scope| {
            let client = || {
                barrier.wait();
                let mut stream = proxy.connect();
                let answer = uninterrupted(|| stream.read(&mut [0]));
                // Nobody leaves before all know what becomes of them.
                barrier.wait();
                u32::from(answer.is_ok_and(|n| n == 1))
            };
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
        });
        assert_eq!(served, LIMITS.iter().sum::<u32>(), "round {round}: every place is taken, and none twice");
        for (witness, limit) in witnesses.iter().zip(LIMITS) {
            assert!(witness.most() <= limit, "round {round}: {} connections, {limit} are allowed", witness.most());
        }
        let none = || proxy.proxy.plan().servers.iter().all(|server| server.connections() == 0);
        wait_until("the end of all connections", || {
            none() && witnesses.iter().all(|witness| witness.now.load(SeqCst) == 0)
        });
    }
}

#[test]
fn whoever_chooses_at_the_same_moment_gets_a_place_or_another_server_and_never_one_too_many() {
    const LIMITS: [u32; 3] = [2, 3, 1];
    for soft in [false, true] {
        let mut config = limited(&[free_address(), free_address(), free_address()], &LIMITS);
        if soft {
            for backend in &mut config.balance.backends {
                (backend.soft, backend.hard) = (backend.hard, backend.hard + 5);
            }
        }
        let epoch = Instant::now();
        let mut servers: Vec<Arc<Server>> = Vec::new();
        let mut server = |name: &str| {
            if let Some(known) = servers.iter().find(|server| server.name == name) {
                return Arc::clone(known);
            }
            let server = Arc::new(Server::new(servers.len() as u32, name, epoch));
            servers.push(Arc::clone(&server));
            server
        };
        let plan = Plan::new(&config, (None, true), &mut server, &mut Acceptors::new(), &mut Vec::new()).unwrap();
        let listener = &plan.listeners[0];
        let witnesses = LIMITS.map(|_| Witness::default());
        let turned_away = AtomicU32::new(0);
        let client = Client { address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)), port: 1000 };
        // Until there was one too many: on a slow machine they may come one after the other for a while.
        let goes_on = |n| n < 1500 || (turned_away.load(SeqCst) == 0 && epoch.elapsed() < PATIENCE);
        thread::scope(|scope| {
            for _ in 0..10 {
                scope.spawn(|| {
                    for _ in (0..).take_while(|&n| goes_on(n)) {
                        match listener.engage(&client, &mut Tried::new(), epoch) {
                            Ok((target, engaged)) => {
                                let witness = &witnesses[target.server.id as usize];
                                witness.enter();
                                thread::yield_now();
                                witness.leave();
                                drop(engaged);
                            }
                            Err(why) => {
                                assert_eq!(why, Why::Full);
                                turned_away.fetch_add(1, SeqCst);
                                thread::yield_now();
                            }
                        }
                    }
                });
            }
        });
        let seen = witnesses.each_ref().map(Witness::most);
        assert!(seen.iter().zip(LIMITS).all(|(&seen, limit)| seen <= limit), "{seen:?} at a time of {LIMITS:?}");
        assert!(turned_away.load(SeqCst) > 0, "there was never one too many");
        assert!(servers.iter().all(|server| server.connections() == 0));
    }
}
