//! What the proxy is to do: listeners, how servers are selected, limits, timeouts, TLS, headers, access log.
//!
//! The servers themselves are the backends of [`Balance`](super::Balance), which Direct Server Return and the proxy share.

mod listen;
mod log;
mod selection;
mod tls;
mod words;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use listen::{Address, Forwarded, ListenConfig, Mode, OwnHeader, ProxyHeader, TransportProtocol};
pub use log::{AccessLog, LogLayout, LogTarget};
pub use selection::{Method, Selection};
pub use tls::{BackendTls, CertificateFiles, ClientCertificates, TlsConfig, TlsVersion};
pub(crate) use words::items;
pub use words::{TlsVersions, parse_listener};

/// All that is asked of the proxy; without listeners there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// Where clients connect.
    pub listeners: Vec<ListenConfig>,
    /// How a client's server is found.
    pub selection: Selection,
    /// How much at a time.
    pub limits: ProxyLimits,
    /// How long.
    pub timeouts: ProxyTimeouts,
    /// Options of TCP connections.
    pub tcp: TcpOptions,
    /// One line for each connection or request.
    pub access_log: Option<AccessLog>,
    /// Event loops; 0: one for each processor.
    pub threads: usize,
    /// The folder that becomes the root once everything is set up (`-j`).
    pub chroot: Option<PathBuf>,
    /// A Unix socket over which a successor takes the listeners over.
    pub handover: Option<PathBuf>,
    /// Peers whose `X-Forwarded-For` and `Forwarded` are believed, and appended to.
    pub trusted: Vec<crate::lb::acl::Network>,
    /// Serves clients that an access list keeps out (`-B`).
    pub abuse: Option<super::BackendConfig>,
}

/// How much at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyLimits {
    /// Connections of clients at a time, of all listeners together (`-x`).
    pub connections: u32,
    /// Connections to servers that are being made at a time.
    pub pending: u32,
    /// Connections that are accepted before others are served (`-m`).
    pub accept_batch: u32,
    /// Connections that may wait to be accepted (`-q`).
    pub backlog: u32,
    /// The longest head of a request or response, bytes.
    pub head: u32,
    /// Idle connections that each event loop keeps ready to each server, made before they are wanted.
    pub idlers: u32,
    /// Idle connections to each server, from earlier requests, that each event loop keeps.
    pub reuse: u32,
    /// Clients whose datagrams are relayed at a time.
    pub udp_clients: u32,
}

impl Default for ProxyLimits {
    fn default() -> ProxyLimits {
        ProxyLimits {
            connections: 20_000,
            pending: 4096,
            accept_batch: 64,
            backlog: 4096,
            head: 32_768,
            idlers: 0,
            reuse: 256,
            udp_clients: 20_000,
        }
    }
}

/// How long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyTimeouts {
    /// Until a server has accepted a connection (`-t`).
    pub connect: Duration,
    /// A connection on which nothing moves, in either direction, is closed; zero: never.
    pub idle: Duration,
    /// Until a client's TLS handshake, PROXY header and first request head are there.
    pub request: Duration,
    /// While a response of HTTP has not begun, nothing may move for so long; zero: no other limit than `idle`.
    pub response: Duration,
    /// The same for a server's silence, before its response or within it, when the client has ended its side (RFC 9112
    /// section 9.6) and may have gone; zero: no other limit.
    pub client_fin: Duration,
    /// How long a server that could not be connected to is left out (`-b`).
    pub blacklist: Duration,
    /// How long an idle connection to a server is kept for reuse.
    pub reuse: Duration,
    /// A UDP client that has been silent for so long is forgotten.
    pub udp: Duration,
    /// After TERM, how long connections may take to end by themselves.
    pub drain: Duration,
}

impl Default for ProxyTimeouts {
    fn default() -> ProxyTimeouts {
        ProxyTimeouts {
            connect: Duration::from_secs(5),
            idle: Duration::from_secs(3600),
            request: Duration::from_secs(30),
            response: Duration::from_secs(60),
            client_fin: Duration::from_secs(10),
            blacklist: Duration::from_secs(30),
            reuse: Duration::from_secs(30),
            udp: Duration::from_secs(60),
            drain: Duration::from_secs(30),
        }
    }
}

/// Options of TCP connections, tcp(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOptions {
    /// Send what there is at once (TCP_NODELAY).
    pub nodelay: bool,
    /// Once the server has closed, and the client has got all, close instead of waiting for what it still sends.
    pub fastclose: bool,
    /// Ask a silent peer whether it is there, after so long; zero: do not.
    pub keepalive: Duration,
    /// Move bulk within the kernel, where it can be done (splice(2)).
    pub splice: bool,
}

impl Default for TcpOptions {
    fn default() -> TcpOptions {
        TcpOptions { nodelay: true, fastclose: false, keepalive: Duration::from_secs(120), splice: true }
    }
}

impl ProxyConfig {
    /// Is there nothing to listen on?
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }
}

/// The address that connections to servers come from, of a family.
pub(crate) fn source_of(sources: &[IpAddr], ipv4: bool) -> Option<IpAddr> {
    sources.iter().copied().find(|source| source.is_ipv4() == ipv4)
}
