//! The proxy's settings as words: on the command line, in the file, in commands.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use super::super::{Lookup, process::parse_socket_word, words};
use super::{Address, LogLayout, LogTarget, Method, OwnHeader, ProxyHeader, TlsVersion, TransportProtocol};
use crate::config::nearest::nearest;
use crate::failure::{Failure, Sysexit};

/// The one of `all` that `text` is the word of.
fn one_of<T: Copy + Display>(what: &str, text: &str, all: &[T]) -> Result<T, String> {
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    let found = words.iter().position(|word| word == text).and_then(|at| all.get(at));
    found.copied().ok_or_else(|| {
        let near = nearest(text, words.iter().map(String::as_str));
        let near = near.map_or(String::new(), |near| format!("; {near:?} is one"));
        format!("{text:?} is no {what}{near}: write {}", either(&words))
    })
}

/// `a, b or c`.
fn either(words: &[String]) -> String {
    match words {
        [front @ .., last] if !front.is_empty() => format!("{} or {last}", front.join(", ")),
        words => words.concat(),
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Method, String> {
        one_of("method of selection", text, &Method::ALL)
    }
}

impl FromStr for LogLayout {
    type Err = String;

    fn from_str(text: &str) -> Result<LogLayout, String> {
        one_of(
            "layout of the access log",
            text,
            &[LogLayout::Plain, LogLayout::Common, LogLayout::Combined, LogLayout::Json],
        )
    }
}

impl FromStr for OwnHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<OwnHeader, String> {
        let all = [OwnHeader::Replace, OwnHeader::Append, OwnHeader::Drop];
        one_of("treatment of clients' own headers", text, &all)
    }
}

impl FromStr for ProxyHeader {
    type Err = String;

    fn from_str(text: &str) -> Result<ProxyHeader, String> {
        one_of("version of the PROXY protocol", text, &[ProxyHeader::V1, ProxyHeader::V2])
    }
}

impl FromStr for TransportProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<TransportProtocol, String> {
        one_of("protocol of listeners", text, &[TransportProtocol::Tcp, TransportProtocol::Udp])
    }
}

impl FromStr for TlsVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<TlsVersion, String> {
        one_of("version of TLS that is spoken here", text, &[TlsVersion::V12, TlsVersion::V13])
    }
}

/// The oldest and the newest version of TLS: `1.2-1.3`, or one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsVersions {
    /// The oldest.
    pub oldest: TlsVersion,
    /// The newest.
    pub newest: TlsVersion,
}

impl FromStr for TlsVersions {
    type Err = String;

    fn from_str(text: &str) -> Result<TlsVersions, String> {
        let (oldest, newest) = text.split_once('-').unwrap_or((text, text));
        Ok(TlsVersions { oldest: oldest.parse()?, newest: newest.parse()? })
    }
}

impl FromStr for LogTarget {
    type Err = String;

    /// A file, `syslog`, or `udp:ADDRESS:PORT`.
    fn from_str(text: &str) -> Result<LogTarget, String> {
        match text.strip_prefix("udp:") {
            Some(address) => match address.parse::<SocketAddr>() {
                Ok(address) if address.port() != 0 => Ok(LogTarget::Udp(address)),
                _ => Err(format!(
                    "{text:?} is no place for the access log: write udp:ADDRESS:PORT, as udp:10.0.0.9:10000"
                )),
            },
            None if text == "syslog" => Ok(LogTarget::Syslog),
            None if text.is_empty() || text.ends_with('/') => {
                Err(format!("{text:?} is no place for the access log: write a file, syslog, or udp:ADDRESS:PORT"))
            }
            None => Ok(LogTarget::File(PathBuf::from(text))),
        }
    }
}

impl fmt::Display for LogTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogTarget::File(path) => path.display().fmt(f),
            LogTarget::Syslog => f.write_str("syslog"),
            LogTarget::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

/// `[HOST:]PORT` or `/PATH`: where a listener is. A port alone is that of every address of both families, each with a
/// socket of its own; a name is all addresses that it has.
///
/// A name that `lookup` does not let be looked up stands for every IPv4 address: for dry runs, which listen nowhere.
///
/// # Errors
/// Usage: it is no such word. NoHost: the name does not resolve.
pub fn parse_listener(word: &str, lookup: Lookup) -> Result<Vec<Address>, Failure> {
    let bad = |what: &str| {
        Failure::usage(format!(
            "{word:?} is no listener: {what}; write PORT, ADDRESS:PORT, NAME:PORT, or the path of a Unix socket (80, 10.0.0.1:80, [fd00::1]:80, /run/x.sock); with -i the first word is a virtual address"
        ))
    };
    if word.contains('/') {
        return Ok(vec![Address::Unix(parse_socket_word(word).map_err(Failure::usage)?)]);
    }
    let (host, port) = match word.rsplit_once(':') {
        _ if word.parse::<IpAddr>().is_ok() => return Err(bad("it has no port")),
        Some((host, port)) => (host, port),
        None => ("", word),
    };
    let port =
        port.parse::<u16>().ok().filter(|&port| port != 0).ok_or_else(|| bad("it has no port from 1 to 65535"))?;
    if let "" | "*" = host {
        let every: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(every.map(|address| Address::Ip(SocketAddr::new(address, port))).to_vec());
    }
    if let Ok(address) = word.parse::<SocketAddr>() {
        return match address.ip().is_multicast() {
            true => Err(bad("nobody has that address")),
            false => Ok(vec![Address::Ip(address)]),
        };
    }
    if host.parse::<Ipv6Addr>().is_ok() {
        return Err(bad("an IPv6 address stands in brackets"));
    }
    words::parse_host(host).map_err(|what| bad(&what))?;
    if lookup == Lookup::Nothing {
        return Ok(vec![Address::Ip(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port))]);
    }
    let no_host = |why: String| {
        let what =
            format!("the listener's host {host:?} does not resolve: {why}; give its address, or add it to /etc/hosts");
        Failure::new(Sysexit::NoHost, what)
    };
    let mut found: Vec<Address> = Vec::new();
    for address in (host, port).to_socket_addrs().map_err(|e| no_host(e.to_string()))? {
        let address = Address::Ip(address);
        if !found.contains(&address) {
            found.push(address);
        }
    }
    if found.is_empty() { Err(no_host("no address".to_owned())) } else { Ok(found) }
}

/// The items of `texts`, each of which may be several with colons between, without those that are empty.
pub(crate) fn items(texts: &[String]) -> Vec<String> {
    let items = texts.iter().flat_map(|text| text.split([':', ',']));
    items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        for layout in ["plain", "common", "combined", "json"] {
            assert_eq!(layout.parse::<LogLayout>().unwrap().to_string(), layout);
        }
        for own in ["replace", "append", "drop"] {
            assert_eq!(own.parse::<OwnHeader>().unwrap().to_string(), own);
        }
        for target in ["/var/log/x", "syslog", "udp:10.0.0.9:10000", "udp:[fd00::9]:1", "./syslog"] {
            assert_eq!(target.parse::<LogTarget>().unwrap().to_string(), target);
        }
        let versions = |text: &str| text.parse::<TlsVersions>().map(|v| (v.oldest, v.newest));
        assert_eq!(versions("1.2-1.3"), Ok((TlsVersion::V12, TlsVersion::V13)));
        assert_eq!(versions("1.3"), Ok((TlsVersion::V13, TlsVersion::V13)));
        assert_eq!("rr".parse::<Method>().unwrap_err().matches("roundrobin").count(), 1);
        assert!("hahs".parse::<Method>().unwrap_err().contains("\"hash\" is one"));
        for bad in ["", "udp:x", "udp:10.0.0.9", "/var/log/"] {
            assert!(bad.parse::<LogTarget>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_listener_is_a_port_of_one_address_or_of_all_or_a_socket() {
        for (word, addresses) in [
            ("80", &["0.0.0.0:80", "[::]:80"][..]),
            (":80", &["0.0.0.0:80", "[::]:80"]),
            ("*:80", &["0.0.0.0:80", "[::]:80"]),
            ("127.0.0.1:8080", &["127.0.0.1:8080"]),
            ("[::1]:8080", &["[::1]:8080"]),
            ("/run/x.sock", &["/run/x.sock"]),
            ("./x", &["./x"]),
        ] {
            let found = parse_listener(word, Lookup::Nothing).unwrap();
            assert_eq!(found.iter().map(ToString::to_string).collect::<Vec<_>>(), addresses, "{word}");
        }
        for (bad, word) in [
            ("", "no port"),
            ("be1", "no port"),
            ("0", "no port"),
            ("65536", "no port"),
            ("10.0.0.100", "with -i the first word"),
            ("10.0.0.300:80", "no IPv4 address"),
            ("fd00::1", "no port"),
            ("fe80::1:x", "no port"),
            ("fd00:1:2:3:4:5:6:7:80", "in brackets"),
            ("224.0.0.1:80", "nobody has"),
            ("/run/", "folder"),
        ] {
            let failure = parse_listener(bad, Lookup::Nothing).unwrap_err();
            assert!(failure.message.contains(word), "{bad}: {failure}");
        }
        let failure = parse_listener("no-such-host.invalid:80", Lookup::Names).unwrap_err();
        assert_eq!(failure.code, Sysexit::NoHost);
    }
}
