//! Where clients connect, and what is done for them there.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use super::{BackendTls, TlsConfig};
use crate::lb::acl::Network;

/// One place where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    /// Where.
    pub address: Address,
    /// By TCP (or a Unix stream socket), or by UDP.
    pub transport: TransportProtocol,
    /// What is looked at.
    pub mode: Mode,
    /// TLS from clients.
    pub tls: Option<TlsConfig>,
    /// TLS to the servers.
    pub backend_tls: Option<BackendTls>,
    /// The servers' port; 0: each backend's own, or else that of `address`.
    pub backend_port: u16,
    /// The names of the servers; empty: all.
    pub backends: Vec<String>,
    /// Connect to servers from the client's own address?
    pub transparent: bool,
    /// The addresses that connections to servers come from, at most one of a family.
    pub source: Vec<IpAddr>,
    /// Peers that begin their connections with a PROXY header, version 1 or 2; others must not.
    pub accept_proxy: Vec<Network>,
    /// Begin connections to servers with a PROXY header.
    pub send_proxy: Option<ProxyHeader>,
    /// The access list that clients have to pass, instead of [`Balance::client_acl`](crate::config::Balance::client_acl).
    pub client_acl: Option<u8>,
}

impl ListenConfig {
    /// A plain listener at `address`.
    pub fn new(address: Address, transport: TransportProtocol) -> ListenConfig {
        ListenConfig {
            address,
            transport,
            mode: Mode::Stream,
            tls: None,
            backend_tls: None,
            backend_port: 0,
            backends: Vec::new(),
            transparent: false,
            source: Vec::new(),
            accept_proxy: Vec::new(),
            send_proxy: None,
            client_acl: None,
        }
    }

    /// What it is called among the settings and in messages: `listen 0.0.0.0:80/tcp`.
    pub fn setting(&self) -> String {
        format!("listen {}/{}", self.address, self.transport)
    }
}

/// Where clients connect. `Ord`, to tell listeners apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Address {
    /// An address and a port; `0.0.0.0` and `[::]` are every address of their family.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Its port; 0 for a Unix socket.
    pub fn port(&self) -> u16 {
        match self {
            Address::Ip(address) => address.port(),
            Address::Unix(_) => 0,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// TCP or UDP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportProtocol {
    /// TCP, or a Unix stream socket.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for TransportProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TransportProtocol::Tcp => "tcp",
            TransportProtocol::Udp => "udp",
        })
    }
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: bytes go both ways as they come.
    #[default]
    Stream,
    /// HTTP: each request is read, gets headers, and finds its server (`-H`).
    Http(Forwarded),
}

/// Which headers are given to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarded {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    pub x_forwarded: bool,
    /// `Forwarded` (RFC 7239).
    pub forwarded: bool,
    /// What becomes of a client's own headers of these names.
    pub own: OwnHeader,
}

impl Default for Forwarded {
    fn default() -> Forwarded {
        Forwarded { x_forwarded: true, forwarded: false, own: OwnHeader::Replace }
    }
}

/// What becomes of the headers of these names that a client sends itself. Those of peers that are trusted
/// ([`ProxyConfig::trusted`](super::ProxyConfig::trusted)) are appended to, whatever this says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OwnHeader {
    /// They are taken out, and ours put in.
    #[default]
    Replace,
    /// Ours is added behind them.
    Append,
    /// They are taken out, and none put in.
    Drop,
}

impl fmt::Display for OwnHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            OwnHeader::Replace => "replace",
            OwnHeader::Append => "append",
            OwnHeader::Drop => "drop",
        })
    }
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyHeader {
    /// Version 1: a line of text.
    V1,
    /// Version 2: binary.
    V2,
}

impl fmt::Display for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ProxyHeader::V1 => "v1",
            ProxyHeader::V2 => "v2",
        })
    }
}
