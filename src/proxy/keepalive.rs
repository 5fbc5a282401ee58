//! Whether peers that say nothing are there still: from a certain age on, the system asks them (SO_KEEPALIVE). Sooner it would
//! be a system call that connections of one request do not need.

use std::time::{Duration, Instant};

use super::core::Core;
use super::plan::Listener;
use super::wheel::{Tick, ticks};

/// A session that has lived for so long has its peers asked.
const ESTABLISHED: Duration = Duration::from_secs(30);

impl Core {
    /// When a session with these streams has to be looked at, so that their peers are asked.
    pub(super) fn keep_alive_due(&self, streams: impl IntoIterator<Item = usize>) -> Tick {
        let asked = streams.into_iter().all(|key| self.streams.get(key).is_none_or(|stream| stream.kept_alive));
        if asked { Tick::MAX } else { self.tick + ticks(ESTABLISHED) }
    }

    /// Has the peers of `streams` asked as `listener` says, if their session, which began at `began`, is old enough.
    pub(super) fn keep_alive(&mut self, listener: &Listener, began: Instant, streams: impl IntoIterator<Item = usize>) {
        if self.now < began + ESTABLISHED {
            return;
        }
        for key in streams {
            if let Some(stream) = self.streams.get_mut(key) {
                stream.keep_alive(listener.settings.tcp.keepalive);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use mio::Poll;
    use socket2::{SockRef, Socket};

    use super::super::core::Peer;
    use super::super::event_loop::{EventLoop, Session};
    use super::super::h2_session::H2;
    use super::super::http_session::Http;
    use super::super::plan::{Acceptors, Plan};
    use super::super::relay::Relay;
    use super::super::server::Engaged;
    use super::super::shared::{Admitted, Shared};
    use super::super::stream::{Owner, Side, Stream};
    use super::*;
    use crate::config::proxy::{Address, ListenConfig, TransportProtocol};
    use crate::config::{BackendConfig, Config};

    /// A loop's things, whose time the test makes pass, and whose peers say nothing.
    struct Silence {
        core: Core,
        listener: Arc<Listener>,
        peers: Vec<TcpStream>,
    }

    impl Silence {
        /// With this `keepalive`.
        fn new(keepalive: Duration) -> Silence {
            let (poll, now) = (Poll::new().unwrap(), Instant::now());
            let registry = poll.registry().try_clone().unwrap();
            let shared = Arc::new(Shared::new(crossbeam_channel::unbounded().0, now));
            let mut config = Config::default();
            let at = "127.0.0.1:1".parse().unwrap();
            let server = BackendConfig { address: Some("127.0.0.1".parse().unwrap()), ..BackendConfig::named("be") };
            config.balance.backends.push(server);
            config.proxy.tcp.keepalive = keepalive;
            // Who has asked for nothing yet is not let go of meanwhile.
            config.proxy.timeouts.request = Duration::from_secs(3600);
            config.proxy.listeners.push(ListenConfig::new(Address::Ip(at), TransportProtocol::Tcp));
            let known = &mut |name: &str| shared.server(name);
            let plan = Plan::new(&config, (None, true), known, &mut Acceptors::new(), &mut Vec::new()).unwrap();
            let listener = Arc::clone(&plan.listeners[0]);
            let core = EventLoop::new(poll, registry, shared, crossbeam_channel::unbounded().1).core;
            Silence { core, listener, peers: Vec::new() }
        }

        /// A stream of the session with number 0.
        fn stream(&mut self, side: Side) -> usize {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            self.peers.push(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
            let socket = Socket::from(listener.accept().unwrap().0);
            socket.set_nonblocking(true).unwrap();
            let mut stream = Stream::new(socket, Owner::Session(0, side), false);
            stream.writable = true;
            self.core.adopt(stream).unwrap()
        }

        fn relay(&mut self) -> (Session, Vec<usize>) {
            let (client, server) = (self.stream(Side::Client), self.stream(Side::Server));
            let target = &self.listener.targets()[0];
            let engaged = Engaged::new(&target.server, &target.address, 0, 0).unwrap();
            let listener = Arc::clone(&self.listener);
            let relay = Relay::of_tunnel(&self.core, 0, listener, (client, Peer::default()), (server, engaged), None);
            (Session::Relay(Box::new(relay)), vec![client, server])
        }

        fn http(&mut self) -> (Session, Vec<usize>) {
            let client = self.stream(Side::Client);
            let listener = Arc::clone(&self.listener);
            let session = Http::begin(&mut self.core, 0, listener, (client, Peer::default()), None, None);
            (session.unwrap(), vec![client])
        }

        fn h2(&mut self) -> (Session, Vec<usize>) {
            let client = self.stream(Side::Client);
            let admitted = Admitted::new(&self.core.shared.connections, 9).unwrap();
            let listener = Arc::clone(&self.listener);
            let session = H2::begin(&mut self.core, 0, listener, (client, Peer::default()), admitted);
            (session.unwrap(), vec![client])
        }

        /// Lets `time` go by, with the looks at `session` that it asks for, as a loop does.
        fn pass(&mut self, mut session: Session, time: Duration) -> Option<Session> {
            let end = self.core.tick + ticks(time);
            while session.deadline(&self.core) <= end {
                let by = session.deadline(&self.core).max(self.core.tick + 1) - self.core.tick;
                self.core.now += super::super::wheel::TICK * by as u32;
                self.core.tick += by;
                session = session.look(&mut self.core, 0)?;
            }
            let by = end - self.core.tick;
            self.core.now += super::super::wheel::TICK * by as u32;
            self.core.tick = end;
            Some(session)
        }

        /// After how much silence the peer of `stream` is asked; `None`: never.
        fn asked_after(&self, stream: usize) -> Option<Duration> {
            let socket = SockRef::from(self.core.streams[stream].socket().unwrap());
            socket.keepalive().unwrap().then(|| socket.tcp_keepalive_time().unwrap())
        }
    }

    type Begin = fn(&mut Silence) -> (Session, Vec<usize>);

    #[test]
    fn peers_of_sessions_that_last_are_asked_and_those_of_short_ones_cost_no_call() {
        for begin in [Silence::relay as Begin, Silence::http, Silence::h2] {
            let mut silence = Silence::new(Duration::from_secs(77));
            let (session, streams) = begin(&mut silence);
            let session = silence.pass(session, Duration::from_secs(29)).unwrap();
            assert!(streams.iter().all(|&stream| silence.asked_after(stream).is_none()));
            silence.pass(session, Duration::from_secs(31)).unwrap();
            for stream in streams {
                assert_eq!(silence.asked_after(stream), Some(Duration::from_secs(77)));
            }
        }
    }

    #[test]
    fn with_a_keepalive_of_zero_nobody_is_asked() {
        for begin in [Silence::relay as Begin, Silence::http, Silence::h2] {
            let mut silence = Silence::new(Duration::ZERO);
            let (session, streams) = begin(&mut silence);
            silence.pass(session, Duration::from_secs(600)).unwrap();
            assert!(streams.iter().all(|&stream| silence.asked_after(stream).is_none()));
        }
    }
}
