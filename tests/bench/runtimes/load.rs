//! The clients of a relay and the server behind it: one thread is both, so that nothing but the relay has to be waited for.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use pen_dsr::os::{pin_thread, raise_file_limit};
use stats_alloc::Region;

use crate::ALLOCATOR;
use crate::relay::{Kind, Relay};

/// Whatever takes longer than this has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of a request, and of an answer.
const MESSAGE: usize = 100;
/// Connections of one measurement at most: each leaves two ports in TIME_WAIT, for a minute.
const MOST_CONNECTIONS: usize = 4096;
/// Bytes that are written or read at a time where much is downloaded.
const PIECE: usize = 256 << 10;
/// MB (10^6 bytes) of one download.
const MEGABYTES: usize = 8;

/// A relay with its clients and its server.
pub struct Load {
    relay: Relay,
    server: TcpListener,
    /// The processor of who writes what is downloaded.
    talker: usize,
}

/// The ends of a connection through the relay: the client's and the server's.
struct Pair {
    client: TcpStream,
    server: TcpStream,
}

impl Load {
    /// A relay on the first of these processors; the calling thread goes to the second, who writes downloads to the third.
    pub fn on(kind: Kind, [relay, own, talker]: [usize; 3]) -> Load {
        pin_thread(own).expect("this thread may run on a processor of --cpus");
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port of loopback");
        let address = server.local_addr().expect("its address");
        Load { relay: Relay::start(kind, relay, address).expect("a relay"), server, talker }
    }

    /// The relay's CPU time of a request and its answer over one of `count` connections that stay, each of which has one
    /// on its way; us.
    pub fn requests(&mut self, count: usize, time: Duration) -> f64 {
        let mut pairs: Vec<Pair> = (0..count).map(|_| self.pair()).collect();
        self.per_unit(time, usize::MAX, |_| {
            pairs.iter_mut().for_each(|pair| send(&mut pair.client));
            pairs.iter_mut().for_each(|pair| answer(&mut pair.server));
            pairs.iter_mut().for_each(|pair| receive(&mut pair.client));
            count
        })
    }

    /// The same of a new connection, `count` of them at a time, each with a request and its answer; us.
    pub fn connections(&mut self, count: usize, time: Duration) -> f64 {
        self.per_unit(time, MOST_CONNECTIONS, |load| {
            let clients = (0..count).map(|_| {
                let mut client = load.connect();
                send(&mut client);
                client
            });
            let clients: Vec<TcpStream> = clients.collect();
            let servers = (0..count).map(|_| {
                let mut server = load.accept();
                answer(&mut server);
                server
            });
            let servers: Vec<TcpStream> = servers.collect();
            clients.into_iter().for_each(|mut client| receive(&mut client));
            for mut server in servers {
                assert_eq!(server.read(&mut [0]).expect("the end"), 0, "the client said nothing more");
            }
            count
        })
    }

    /// The same of a MB (10^6 bytes) that the server sends over a connection that stays; us.
    pub fn download(&mut self, time: Duration) -> f64 {
        let Pair { mut client, mut server } = self.pair();
        let talker = self.talker;
        let (sent, mut received) = (vec![1; PIECE], vec![0; PIECE]);
        self.per_unit(time, usize::MAX, |_| {
            thread::scope(|scope| {
                scope.spawn(|| {
                    pin_thread(talker).expect("this thread may run on a processor of --cpus");
                    for at in (0..MEGABYTES * 1_000_000).step_by(PIECE) {
                        server.write_all(&sent[..PIECE.min(MEGABYTES * 1_000_000 - at)]).expect("room at last");
                    }
                });
                let mut left = MEGABYTES * 1_000_000;
                while left > 0 {
                    let bytes = client.read(&mut received).expect("what the server sent");
                    assert!(bytes > 0, "the server goes on");
                    left -= bytes;
                }
            });
            MEGABYTES
        })
    }

    /// Bytes of heap of each of `count` connections, or as many as there are descriptors for, that have carried one
    /// request.
    pub fn idle(&mut self, count: usize) -> f64 {
        let descriptors = raise_file_limit().expect("getrlimit(2)");
        // Four each: the client's, the server's, and the relay's two.
        let count = count.min(usize::try_from(descriptors).unwrap_or(usize::MAX).saturating_sub(64) / 4);
        let mut pairs = Vec::with_capacity(count);
        // What is made for the first one stays for all.
        let _first = self.pair();
        let region = Region::new(ALLOCATOR);
        pairs.extend((0..count).map(|_| self.pair()));
        // It answers behind what it was about.
        self.relay.cpu_time().expect("the relay's CPU time");
        let change = region.change();
        (change.bytes_allocated as f64 - change.bytes_deallocated as f64) / count as f64
    }

    /// CPU time of a unit, in us: `work` is done again and again, and says how many units it was.
    fn per_unit(&mut self, time: Duration, most: usize, mut work: impl FnMut(&Load) -> usize) -> f64 {
        // What is done for the first time is not counted.
        work(self);
        let before = self.relay.cpu_time().expect("the relay's CPU time");
        let start = Instant::now();
        let mut units = 0;
        while units == 0 || (start.elapsed() < time && units < most) {
            units += work(self);
        }
        let taken = self.relay.cpu_time().expect("the relay's CPU time") - before;
        taken.as_secs_f64() * 1e6 / units as f64
    }

    /// A connection that has carried one request.
    fn pair(&self) -> Pair {
        let mut client = self.connect();
        send(&mut client);
        let mut server = self.accept();
        answer(&mut server);
        receive(&mut client);
        Pair { client, server }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.relay.address).expect("the relay listens"))
    }

    fn accept(&self) -> TcpStream {
        let mut waited = [PollFd::new(self.server.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut waited, PollTimeout::try_from(PATIENCE).expect("some seconds")).expect("poll(2)");
        assert_eq!(ready, 1, "the relay connects to the server");
        patient(self.server.accept().expect("a connection").0)
    }
}

/// `stream`, that does not wait for ever.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    stream.set_write_timeout(Some(PATIENCE)).expect("SO_SNDTIMEO");
    stream
}

fn send(client: &mut TcpStream) {
    client.write_all(&[1; MESSAGE]).expect("room for a request");
}

fn answer(server: &mut TcpStream) {
    let mut request = [0; MESSAGE];
    server.read_exact(&mut request).expect("a request");
    server.write_all(&request).expect("room for an answer");
}

fn receive(client: &mut TcpStream) {
    let mut answer = [0; MESSAGE];
    client.read_exact(&mut answer).expect("an answer");
    assert_eq!(answer, [1; MESSAGE], "as it was sent");
}
