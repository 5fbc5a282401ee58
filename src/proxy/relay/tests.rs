use std::net::{Shutdown, TcpListener, TcpStream};

use mio::Poll;
use socket2::Socket;

use super::super::event_loop::EventLoop;
use super::super::http_session::Idle;
use super::super::plan::{Acceptors, Plan};
use super::super::shared::Shared;
use super::super::stream::{Owner, Stream};
use super::*;
use crate::config::proxy::{Address, ListenConfig, ProxyHeader, TransportProtocol};
use crate::config::{BackendConfig, Config};

/// A stream of `owner`'s, and its peer.
fn stream(core: &mut Core, owner: Owner) -> (usize, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = Socket::from(listener.accept().unwrap().0);
    socket.set_nonblocking(true).unwrap();
    (core.adopt(Stream::new(socket, owner, false)).unwrap(), peer)
}

#[test]
fn a_connection_that_is_made_at_once_and_broken_at_once_leaves_no_session() {
    let (poll, now) = (Poll::new().unwrap(), Instant::now());
    let registry = poll.registry().try_clone().unwrap();
    let shared = Arc::new(Shared::new(crossbeam_channel::unbounded().0, now));
    let mut config = Config::default();
    let server = BackendConfig { address: Some("127.0.0.1".parse().unwrap()), ..BackendConfig::named("be") };
    config.balance.backends.push(server);
    config.proxy.limits.idlers = 1;
    let mut listen = ListenConfig::new(Address::Ip("127.0.0.1:1".parse().unwrap()), TransportProtocol::Tcp);
    listen.send_proxy = Some(ProxyHeader::V1);
    config.proxy.listeners.push(listen);
    let known = &mut |name: &str| shared.server(name);
    let plan = Plan::new(&config, (None, true), known, &mut Acceptors::new(), &mut Vec::new()).unwrap();
    let listener = &plan.listeners[0];
    let target = &listener.targets()[0];
    let mut core = EventLoop::new(poll, registry, Arc::clone(&shared), crossbeam_channel::unbounded().1).core;
    // It is kept ready, its peer is there, and nothing can be written to it.
    let (ready, _server) = stream(&mut core, Owner::Idle(target.server.id));
    core.streams[ready].socket().unwrap().shutdown(Shutdown::Write).unwrap();
    let idle = Idle { stream: ready, since: core.tick, kept: target.keep_one().unwrap() };
    core.pool.put(listener, target.server.id, idle);
    let (client, _client) = stream(&mut core, Owner::Session(0, Side::Client));
    let admitted = Admitted::new(&shared.connections, 1).unwrap();
    let begun = Relay::begin(&mut core, 0, Arc::clone(listener), (client, Peer::default()), admitted);
    assert!(matches!(begun, Ok(None)));
    core.bury();
    // No stream is left that it could take for its own, nothing is counted any more.
    assert_eq!((core.streams.len(), core.pending), (0, 0));
    assert_eq!((target.server.connections(), shared.connections()), (0, 0));
}
