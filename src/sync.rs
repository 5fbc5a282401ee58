//! Two balancers: the one that has the VIPs tells the other of its flows, so that it knows them when it takes over.
//!
//! Datagrams to one peer, by the host's own stack: what is lost is told again in the next round through the flow table.
//! Nothing is asked for and nothing is answered. Both must have the same `--seed`: it keys the names of the flows, those of
//! the backends, and the code that each datagram is signed with.

mod datagram;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use siphasher::sip::SipHasher13;
use tracing::{debug, warn};

pub use datagram::{MOST_RECORDS, Shared, decode, encode};

use crate::failure::{Failure, Sysexit};
use crate::lb::Seed;

/// The port unless another one is given.
pub const DEFAULT_PORT: u16 = 7364;
/// Datagrams that may wait for the main thread.
const QUEUE: usize = 1024;
/// Between two complaints about datagrams that are not understood.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// The key of a flow table whose flows are told to another balancer: the same on both.
pub fn flow_key(seed: Seed) -> (u64, u64) {
    let (k0, k1) = seed.keys();
    let part = |what: &str| SipHasher13::new_with_keys(k0, k1).hash(what.as_bytes());
    (part("flow table key, first half"), part("flow table key, second half"))
}

/// What a backend is called between balancers, which number them each in their own way.
pub fn backend_code(seed: Seed, name: &str) -> u64 {
    let (k0, k1) = seed.keys();
    SipHasher13::new_with_keys(k1, k0).hash(name.as_bytes())
}

/// The socket, opened while still privileged.
pub struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
    seed: Seed,
}

/// The two ends of a peer that is served by threads.
pub struct Channels {
    /// Flows to tell of; what finds no room is told in the next round.
    pub tell: Sender<Vec<Shared>>,
    /// Flows that were told of.
    pub told: Receiver<Vec<Shared>>,
}

impl Peer {
    /// Opens the port that is told at: that which the peer is told at.
    ///
    /// # Errors
    /// Another program has it.
    pub fn open(address: SocketAddr, seed: Seed) -> Result<Peer, Failure> {
        let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind((any, address.port())).map_err(|e| {
            Failure::new(
                Sysexit::Unavailable,
                format!(
                    "UDP port {} cannot be opened for the peer's flows: {e}; give another with --peer ADDRESS:PORT",
                    address.port()
                ),
            )
        })?;
        Ok(Peer { socket, address, seed })
    }

    /// Starts to tell and to listen.
    ///
    /// # Errors
    /// No threads.
    pub fn serve(self) -> Result<Channels, Failure> {
        let os_error = |e: io::Error| Failure::new(Sysexit::OsErr, format!("no thread for the peer's flows: {e}"));
        let (tell, to_tell) = bounded(QUEUE);
        let (heard, told) = bounded(QUEUE);
        let Peer { socket, address, seed } = self;
        let sender = socket.try_clone().map_err(os_error)?;
        let spawn = |name: &str, body: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop).map_err(os_error)
        };
        spawn("sync-tell", Box::new(move || talk(&sender, address, seed, &to_tell)))?;
        spawn("sync-hear", Box::new(move || listen(&socket, address, seed, &heard)))?;
        Ok(Channels { tell, told })
    }
}

/// Tells the peer what there is to tell, until nobody has anything to tell any more.
fn talk(socket: &UdpSocket, peer: SocketAddr, seed: Seed, flows: &Receiver<Vec<Shared>>) {
    for batch in flows {
        for part in batch.chunks(MOST_RECORDS) {
            // A peer that is away is no news.
            if let Err(e) = socket.send_to(&encode(seed, part), peer) {
                debug!("flows cannot be told to {peer}: {e}");
            }
        }
    }
}

/// Hears what the peer tells, until nobody wants to know any more.
fn listen(socket: &UdpSocket, peer: SocketAddr, seed: Seed, heard: &Sender<Vec<Shared>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut complained = None::<std::time::Instant>;
    loop {
        let (length, from) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // The peer's port is closed while it is away: an ICMP error that says so ends nothing.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused || e.kind() == io::ErrorKind::Interrupted => {
                continue;
            }
            Err(e) => {
                warn!("the peer's flows cannot be heard any more: {e}");
                return;
            }
        };
        if from.ip() != peer.ip() {
            continue;
        }
        match decode(seed, &buffer[..length]) {
            Ok(flows) => {
                if let Err(TrySendError::Disconnected(_)) = heard.try_send(flows) {
                    return;
                }
            }
            Err(why) => {
                if complained.is_none_or(|last| last.elapsed() >= COMPLAINT_INTERVAL) {
                    complained = Some(std::time::Instant::now());
                    warn!("flows told by {from} are not taken: {why}");
                }
            }
        }
    }
}
