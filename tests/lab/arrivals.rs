//! Clients that come and go all the time, from many addresses: each opens a connection, exchanges one message with a
//! server of [`serve`](crate::load::serve), and closes it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::{Lab, PATIENCE};
use crate::load::{PORT, REPLY, REQUEST};

/// An exchange that takes longer has failed.
const GIVE_UP: Duration = PATIENCE;
/// Between two connections of a thread.
const PAUSE: Duration = Duration::from_millis(5);

/// What has become of connections.
#[derive(Clone, Debug, Default)]
pub struct Served {
    /// Those that had their answer.
    pub served: usize,
    /// What the others had.
    pub failed: Vec<String>,
    /// The longest time between two that had their answer.
    pub gap: Duration,
    /// The longest that one took.
    pub longest: Duration,
}

impl std::fmt::Display for Served {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} new connections, {} failed, the longest took {} ms, {} ms between two at most",
            self.served,
            self.failed.len(),
            self.longest.as_millis(),
            self.gap.as_millis()
        )
    }
}

struct Ledger {
    seen: Served,
    last: Instant,
}

struct Shared {
    stop: AtomicBool,
    ledger: Mutex<Ledger>,
}

/// The clients; they end when this is dropped.
pub struct Arrivals {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Arrivals {
    /// Clients with addresses `sources` on the lab's client, a thread for each of `pairs`: its addresses and the VIP.
    pub fn start(lab: &Lab, pairs: Vec<(Vec<IpAddr>, IpAddr)>) -> Arrivals {
        let ledger = Ledger { seen: Served::default(), last: Instant::now() };
        let shared = Arc::new(Shared { stop: AtomicBool::new(false), ledger: Mutex::new(ledger) });
        let client = |(sources, vip): (Vec<IpAddr>, IpAddr)| {
            let shared = Arc::clone(&shared);
            lab.inside("client", move || come_and_go(&shared, &sources, SocketAddr::new(vip, PORT)))
        };
        let threads = pairs.into_iter().map(client).collect();
        Arrivals { shared, threads }
    }

    /// What was seen since the start or the last call.
    pub fn take(&self) -> Served {
        let mut ledger = self.ledger();
        let now = Instant::now();
        let mut seen = std::mem::take(&mut ledger.seen);
        seen.gap = seen.gap.max(now - ledger.last);
        ledger.last = now;
        seen
    }

    /// How many had their answer since the last [`Arrivals::take`].
    pub fn served(&self) -> usize {
        self.ledger().seen.served
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.shared.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a client's thread has panicked");
        }
    }
}

fn come_and_go(shared: &Shared, sources: &[IpAddr], to: SocketAddr) {
    for (number, &source) in (0u32..).zip(sources.iter().cycle()) {
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let began = Instant::now();
        let exchanged = exchange(source, to, number);
        let now = Instant::now();
        let mut ledger = shared.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        match exchanged {
            Ok(()) => {
                ledger.seen.served += 1;
                ledger.seen.gap = ledger.seen.gap.max(now.saturating_duration_since(ledger.last));
                ledger.seen.longest = ledger.seen.longest.max(now - began);
                ledger.last = now;
            }
            Err(e) => ledger.seen.failed.push(format!("{source} to {to}: {e}")),
        }
        drop(ledger);
        std::thread::sleep(PAUSE);
    }
}

fn exchange(source: IpAddr, to: SocketAddr, number: u32) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&to.into(), GIVE_UP)?;
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(GIVE_UP))?;
    let mut request = [0; REQUEST];
    request[..4].copy_from_slice(&number.to_be_bytes());
    stream.write_all(&request)?;
    let mut reply = [0; REPLY];
    stream.read_exact(&mut reply)?;
    if reply.ends_with(&request) { Ok(()) } else { Err(io::Error::other("an answer to somebody else")) }
}
