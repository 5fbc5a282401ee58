//! The words of the command line: Pen's server syntax and its extensions.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::process::parse_socket_word;
use super::{BackendConfig, VipConfig, limits};
use crate::failure::Failure;
use crate::lb::Protocols;
use crate::wire::ether::Mac;

/// The longest name of a host that DNS knows, in bytes (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 253;

/// A client, for `explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port, if given.
    pub port: Option<u16>,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.address, self.port) {
            (address, None) => write!(f, "{address}"),
            (IpAddr::V4(address), Some(port)) => write!(f, "{address}:{port}"),
            (IpAddr::V6(address), Some(port)) => write!(f, "[{address}]:{port}"),
        }
    }
}

/// An address with an optional port: `10.0.0.1`, `10.0.0.1:80`, `fd00::1`, `[fd00::1]`, `[fd00::1]:80`.
pub(super) fn endpoint(word: &str) -> Option<Endpoint> {
    if let Ok(address) = word.parse::<IpAddr>() {
        return Some(Endpoint { address, port: None });
    }
    if let Ok(socket) = word.parse::<SocketAddr>() {
        return Some(Endpoint { address: socket.ip(), port: Some(socket.port()) });
    }
    let bare = word.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse().ok().map(|address| Endpoint { address: IpAddr::V6(address), port: None })
}

/// Can `address` be one host's on a segment?
pub(crate) fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || broadcast)
}

/// `VIP[:port]`.
///
/// # Errors
/// Usage: no address, or one that cannot be a host's.
pub fn parse_vip(word: &str) -> Result<VipConfig, Failure> {
    let Some(Endpoint { address, port }) = endpoint(word) else {
        return Err(Failure::usage(format!(
            "{word:?} is not a virtual address: write ADDRESS or ADDRESS:PORT (10.0.0.100, 10.0.0.100:80, [fd00::100]:80); the VIP comes first, then the backends"
        )));
    };
    if !is_host(address) {
        return Err(Failure::usage(format!("{word:?} cannot be a virtual address: it is not the address of one host")));
    }
    Ok(VipConfig::new(address, port.unwrap_or(0)))
}

/// `CLIENT[:port]`.
///
/// # Errors
/// Usage: no address.
pub fn parse_client(word: &str) -> Result<Endpoint, Failure> {
    endpoint(word).ok_or_else(|| {
        Failure::usage(format!(
            "{word:?} is not a client: write ADDRESS or ADDRESS:PORT (192.0.2.7:40000, [2001:db8::7]:40000)"
        ))
    })
}

/// Can `address` be a server's of the proxy? As [`is_host`], and this machine's own.
pub(super) fn is_server(address: IpAddr) -> bool {
    is_host(address) || address.is_loopback()
}

/// `HOST[@MAC][:port[:soft[:hard[:weight[:prio]]]]]`, the MAC also at the end; HOST is a name, an IPv4 address, or an
/// IPv6 address, which needs brackets when something follows. Or `/PATH[::soft...]`, a Unix socket. Loopback addresses
/// and sockets are the proxy's alone: [`Config::validate`](super::Config::validate) says so.
///
/// # Errors
/// Usage: what is wrong with the word, and how it should be.
pub fn parse_backend(word: &str) -> Result<BackendConfig, Failure> {
    let bad = |what: String| {
        Failure::usage(format!(
            "backend {word:?}: {what}; write HOST[@MAC][:PORT[:SOFT[:HARD[:WEIGHT[:PRIO]]]]], an IPv6 HOST in brackets"
        ))
    };
    let (text, mac) = match word.split_once('@') {
        _ if word.starts_with('/') => (word.to_owned(), None),
        None => (word.to_owned(), None),
        Some((host, rest)) => {
            let (mac, rest) = rest.split_at_checked(17).ok_or_else(|| bad(format!("{rest:?} is not a MAC address")))?;
            (format!("{host}{rest}"), Some(parse_station(mac).map_err(bad)?))
        }
    };
    let (host, fields) = if text.parse::<IpAddr>().is_ok() {
        (text.as_str(), "")
    } else if let Some(rest) = text.strip_prefix('[') {
        let (inside, rest) = rest.split_once(']').ok_or_else(|| bad("a bracket is not closed".to_owned()))?;
        inside.parse::<std::net::Ipv6Addr>().map_err(|_| bad(format!("{inside:?} is not an IPv6 address")))?;
        let fields = if rest.is_empty() {
            rest
        } else {
            rest.strip_prefix(':').ok_or_else(|| bad(format!("{rest:?} after the bracket")))?
        };
        (inside, fields)
    } else {
        text.split_once(':').unwrap_or((&text, ""))
    };
    let mut backend = if host.starts_with('/') {
        parse_socket_server(host).map_err(bad)?
    } else {
        let (name, address) = parse_host(host).map_err(bad)?;
        BackendConfig { address, mac, ..BackendConfig::named(&name) }
    };
    let names = ["port", "soft limit", "hard limit", "weight", "priority"];
    let values: Vec<&str> = if fields.is_empty() { Vec::new() } else { fields.split(':').collect() };
    if values.len() > names.len() {
        return Err(bad(format!("{} fields after the host, {} are known", values.len(), names.len())));
    }
    for (name, value) in names.into_iter().zip(values) {
        // An empty field keeps its default, so that a weight can be given alone: be1::::3.
        if value.is_empty() {
            continue;
        }
        let limit = *if name == "port" { limits::PORT } else { limits::WEIGHT }.end();
        let number = value
            .parse::<u32>()
            .ok()
            .filter(|&n| n <= limit)
            .ok_or_else(|| bad(format!("the {name} {value:?} is not a number from 0 to {limit}")))?;
        match name {
            "port" => backend.port = number as u16,
            "soft limit" => backend.soft = number,
            "hard limit" => backend.hard = number,
            "weight" => backend.weight = number,
            _ => backend.prio = number,
        }
    }
    if backend.path.is_some() && backend.port != 0 {
        return Err(bad("a Unix socket has no port".to_owned()));
    }
    Ok(backend)
}

/// A server at a Unix socket, which is its name, too.
pub(crate) fn parse_socket_server(text: &str) -> Result<BackendConfig, String> {
    if !text.starts_with('/') {
        return Err(format!("{text:?} does not begin with a slash: write the whole path of the Unix socket"));
    }
    Ok(BackendConfig { path: Some(parse_socket_word(text)?), ..BackendConfig::named(text) })
}

/// What a backend can be called.
pub(crate) fn parse_name(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > LONGEST_NAME || text.chars().any(odd) || text.parse::<usize>().is_ok() {
        return Err(format!(
            "{text:?} is no name of a backend: 1 to {LONGEST_NAME} bytes without blanks, and no number"
        ));
    }
    Ok(text.to_owned())
}

/// `backend` with its port in its name, if it has one: as servers of the proxy are called, of which a host may have
/// several.
pub(crate) fn named_with_port(mut backend: BackendConfig) -> BackendConfig {
    if backend.port != 0 && backend.path.is_none() && backend.host.is_none() {
        let name = with_port(&backend.name, backend.port);
        backend.host = Some(std::mem::replace(&mut backend.name, name));
    }
    backend
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// What [`parse_backend`] reads as `backend`, as far as a word can say it: the emergency backend's.
pub(crate) fn backend_word(backend: &BackendConfig) -> String {
    let name = backend.host.as_ref().unwrap_or(&backend.name);
    let host = if name.contains(':') && backend.path.is_none() { format!("[{name}]") } else { name.clone() };
    let mac = backend.mac.map_or(String::new(), |mac| format!("@{mac}"));
    let BackendConfig { port, soft, hard, weight, prio, .. } = backend;
    match (port, soft, hard, weight, prio) {
        (0, 0, 0, 1, 0) => format!("{host}{mac}"),
        _ => format!("{host}{mac}:{port}:{soft}:{hard}:{weight}:{prio}"),
    }
}

/// A host: a name, or an address, which is given back too, in its canonical form as the name.
pub(crate) fn parse_host(text: &str) -> Result<(String, Option<IpAddr>), String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match is_server(address) {
            true => Ok((address.to_string(), Some(address))),
            false => Err(format!("{address} is not the address of one host")),
        };
    }
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | '%');
    if text.is_empty() || text.len() > LONGEST_NAME || text.starts_with('-') || !text.chars().all(is_name) {
        return Err(format!("{text:?} is not a host: write its name or its address"));
    }
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("{text:?} is not a host: no name, and no IPv4 address either"));
    }
    Ok((text.to_owned(), None))
}

/// The address of one host.
pub(crate) fn parse_host_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if is_host(address) => Ok(address),
        Ok(address) => Err(format!("{address} is not the address of one host")),
        Err(_) => Err(format!("{text:?} is not an address: write 10.0.0.100 or fd00::100, without port or prefix")),
    }
}

/// As [`parse_host_address`], or an address of this machine's own: of what the proxy connects to, and from.
pub(crate) fn parse_server_address(text: &str) -> Result<IpAddr, String> {
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => Ok(address),
        _ => parse_host_address(text),
    }
}

/// The MAC of one station.
pub(crate) fn parse_station(text: &str) -> Result<Mac, String> {
    let mac: Mac = text.parse().map_err(|e| format!("{text:?} is {e}"))?;
    if mac.is_station() { Ok(mac) } else { Err(format!("{mac} is not the address of one station")) }
}

/// `tcp`, `udp` or `all`.
pub(crate) fn parse_protocols(text: &str) -> Result<Protocols, String> {
    match text {
        "tcp" => Ok(Protocols::Tcp),
        "udp" => Ok(Protocols::Udp),
        "all" => Ok(Protocols::All),
        _ => Err(format!("{text:?} is none of tcp, udp, all")),
    }
}

/// What [`parse_protocols`] reads.
pub(crate) fn protocols_word(protocols: Protocols) -> &'static str {
    match protocols {
        Protocols::Tcp => "tcp",
        Protocols::Udp => "udp",
        Protocols::All => "all",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vips_are_addresses_with_or_without_a_port() {
        for (word, expected) in [
            ("10.0.0.100", "10.0.0.100"),
            ("10.0.0.100:80", "10.0.0.100:80"),
            ("10.0.0.100:0", "10.0.0.100"),
            ("fd00::100", "fd00::100"),
            ("[fd00::100]", "fd00::100"),
            ("[fd00::100]:53", "[fd00::100]:53"),
        ] {
            assert_eq!(parse_vip(word).unwrap().to_string(), expected);
        }
        for bad in [
            "",
            "be1",
            "10.0.0.256",
            "10.0.0.1:65536",
            "0.0.0.0",
            "224.0.0.1",
            "127.0.0.1",
            "::",
            "::1",
            "ff02::1",
            "255.255.255.255",
            "10.0.0.1:",
        ] {
            assert!(parse_vip(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pens_server_syntax_is_read() {
        let backend = parse_backend("be1:80:10:20:3:4").unwrap();
        assert_eq!(
            (backend.name.as_str(), backend.port, backend.soft, backend.hard, backend.weight, backend.prio),
            ("be1", 80, 10, 20, 3, 4)
        );
        assert_eq!(parse_backend("be1").unwrap(), BackendConfig::named("be1"));
        assert_eq!(parse_backend("be1::::7").unwrap().weight, 7);
        let v6 = parse_backend("[fd00::11]:0:0:0:2").unwrap();
        assert_eq!((v6.address, v6.weight), ("fd00::11".parse().ok(), 2));
        assert_eq!(parse_backend("fd00::11").unwrap().address, "fd00::11".parse().ok());
    }

    #[test]
    fn servers_of_the_proxy_may_be_on_this_machine_and_several_on_a_host() {
        let server = |word: &str| named_with_port(parse_backend(word).unwrap());
        let near = server("127.0.0.1:8001:::3");
        assert_eq!((near.name.as_str(), near.host.as_deref()), ("127.0.0.1:8001", Some("127.0.0.1")));
        assert_eq!((near.port, near.address, near.weight), (8001, "127.0.0.1".parse().ok(), 3));
        assert_eq!(server("[::1]:80").name, "[::1]:80");
        assert_eq!((server("be1").name, server("be1").host), ("be1".to_owned(), None));
        let socket = server("/run/x.sock:0:1:2:3:4");
        assert_eq!((socket.name.as_str(), socket.path.as_deref()), ("/run/x.sock", Some("/run/x.sock".as_ref())));
        assert_eq!((socket.soft, socket.hard, socket.weight, socket.prio), (1, 2, 3, 4));
        for word in ["127.0.0.1:8001:0:0:3:0", "[::1]:80:0:0:1:0", "/run/x.sock", "/run/x.sock:0:1:2:3:4", "be1"] {
            assert_eq!(backend_word(&server(word)), word);
        }
        for (bad, why) in [("/run/x.sock:80", "no port"), ("/run/", "folder"), ("/run/a b", "blank")] {
            let failure = parse_backend(bad).unwrap_err();
            assert!(failure.message.contains(why), "{bad}: {failure}");
        }
    }

    #[test]
    fn a_static_mac_stands_behind_the_host_or_at_the_end() {
        let mac = Some("02:00:00:00:00:01".parse().unwrap());
        for word in [
            "be1@02:00:00:00:00:01",
            "be1@02:00:00:00:00:01:80:0:0:2",
            "be1:80:0:0:2@02:00:00:00:00:01",
            "[fd00::1]@02:00:00:00:00:01",
        ] {
            assert_eq!(parse_backend(word).unwrap().mac, mac, "{word}");
        }
    }

    #[test]
    fn bad_backends_are_refused() {
        for bad in [
            "",
            ":80",
            "be1:x",
            "be1:65536",
            "be1:-1",
            "be1:1:2:3:4:5:6",
            "be1@02:00",
            "be1@ff:ff:ff:ff:ff:ff",
            "[fd00::1",
            "[be1]:80",
            "[fd00::1]80",
            "0.0.0.0",
            "224.0.0.5",
            "be 1",
            "be1/24",
            "be1@02:00:00:00:00:0g",
            "-x",
            "be1@00:00:00:00:00:00",
        ] {
            assert!(parse_backend(bad).is_err(), "{bad}");
        }
    }
}
