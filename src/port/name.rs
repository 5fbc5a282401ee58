//! What a port is called: an interface, or one of netmap(4)'s ports.

use std::fmt;
use std::str::FromStr;

/// The longest name of an interface (`IFNAMSIZ` less its zero).
const LONGEST_INTERFACE: usize = 15;
/// The longest name of a netmap port (`NETMAP_REQ_IFNAMSIZ` less its zero).
const LONGEST_PORT: usize = 63;

/// A port, as `-i` and `-o` name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// An interface, by whichever way this system drives it best.
    Interface(String),
    /// A port of netmap.
    Netmap(NetmapName),
}

/// A port of netmap: a NIC, one of its ring pairs, a port of a VALE switch, or the end of a pipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetmapName {
    /// What the kernel calls it: `vtnet1`, `vale0:lb`, `x{1`.
    pub port: String,
    /// The only ring pair of the NIC to use.
    pub ring: Option<u16>,
    /// What it is.
    pub kind: Kind,
}

/// What a netmap port is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An interface of this host, which has a host stack behind it.
    Nic,
    /// A port of a VALE switch, see vale(4).
    Vale,
    /// An end of a pipe.
    Pipe,
}

impl PortName {
    /// The interface of this host that it is on; a VALE port and a pipe are on none.
    pub fn interface(&self) -> Option<&str> {
        match self {
            PortName::Interface(name) => Some(name),
            PortName::Netmap(netmap) => netmap.interface(),
        }
    }

    /// The same as a port of netmap.
    pub fn as_netmap(&self) -> NetmapName {
        match self {
            PortName::Interface(name) => NetmapName { port: name.clone(), ring: None, kind: Kind::Nic },
            PortName::Netmap(name) => name.clone(),
        }
    }
}

impl NetmapName {
    /// The interface of this host that it is on; a VALE port and a pipe are on none.
    pub fn interface(&self) -> Option<&str> {
        (self.kind == Kind::Nic).then_some(&self.port)
    }
}

impl FromStr for PortName {
    type Err = String;

    /// `vtnet1`, `netmap:vtnet1`, `netmap:em0-2`, `vale0:lb`, `netmap:x{1`, `netmap:x}1`: as in netmap(4).
    fn from_str(text: &str) -> Result<PortName, String> {
        let wrong = |why: &str| {
            format!(
                "{text:?} {why}: write an interface (vtnet1), netmap:INTERFACE, netmap:INTERFACE-RING, valeSWITCH:PORT, or a pipe (netmap:NAME{{1)"
            )
        };
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '/') {
            return Err(wrong("cannot be an interface or a port"));
        }
        if let Some((switch, port)) = text.split_once(':').filter(|(switch, _)| switch.starts_with("vale")) {
            if port.is_empty() || port.contains([':', '^', '*', '@']) {
                return Err(wrong("names no port of the VALE switch"));
            }
            if switch.len() > LONGEST_INTERFACE || port.len() > LONGEST_INTERFACE {
                return Err(wrong("has a part of more than 15 bytes"));
            }
            return Ok(PortName::Netmap(NetmapName { port: text.to_owned(), ring: None, kind: Kind::Vale }));
        }
        let Some(rest) = text.strip_prefix("netmap:") else {
            // Two are allowed to Linux's interfaces, but mean something else here.
            if text.contains([':', '{', '}', '^', '*']) {
                return Err(wrong("is no interface, and is not marked as a port of netmap"));
            }
            return interface(text)
                .map(PortName::Interface)
                .ok_or_else(|| wrong("cannot be an interface, whose name has 15 bytes at most"));
        };
        if rest.contains(['^', '*']) {
            return Err(format!(
                "{text:?}: leave the ^ or * away; the host rings are opened with the NIC's, unless --dedicated is given"
            ));
        }
        if rest.contains(['@', '/', ':', '+']) {
            return Err(wrong("has more to its name than is known here"));
        }
        if let Some((base, number)) = rest.split_once(['{', '}']) {
            let is_number = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            if base.is_empty() || !is_number || rest.len() > LONGEST_PORT {
                return Err(wrong("is no end of a pipe, whose name is followed by { or } and a number"));
            }
            return Ok(PortName::Netmap(NetmapName { port: rest.to_owned(), ring: None, kind: Kind::Pipe }));
        }
        let (name, ring) = match rest.rsplit_once('-') {
            Some((name, digits)) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => {
                let ring = digits.parse().map_err(|_| wrong("has a ring number beyond 65535"))?;
                (name, Some(ring))
            }
            _ => (rest, None),
        };
        let port = interface(name).ok_or_else(|| wrong("names no interface of 1 to 15 bytes"))?;
        Ok(PortName::Netmap(NetmapName { port, ring, kind: Kind::Nic }))
    }
}

fn interface(name: &str) -> Option<String> {
    (1..=LONGEST_INTERFACE).contains(&name.len()).then(|| name.to_owned())
}

impl fmt::Display for PortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PortName::Interface(name) => f.write_str(name),
            PortName::Netmap(name) => name.fmt(f),
        }
    }
}

impl fmt::Display for NetmapName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.kind == Kind::Vale { "" } else { "netmap:" };
        write!(f, "{prefix}{}", self.port)?;
        self.ring.map_or(Ok(()), |ring| write!(f, "-{ring}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn netmap(port: &str, ring: Option<u16>, kind: Kind) -> PortName {
        PortName::Netmap(NetmapName { port: port.to_owned(), ring, kind })
    }

    #[test]
    fn names_are_those_of_netmap() {
        for (text, name) in [
            ("vtnet1", PortName::Interface("vtnet1".to_owned())),
            ("eth0.5", PortName::Interface("eth0.5".to_owned())),
            ("veth-2", PortName::Interface("veth-2".to_owned())),
            ("netmap:vtnet1", netmap("vtnet1", None, Kind::Nic)),
            ("netmap:em0-2", netmap("em0", Some(2), Kind::Nic)),
            ("netmap:veth-a", netmap("veth-a", None, Kind::Nic)),
            ("vale0:lb", netmap("vale0:lb", None, Kind::Vale)),
            ("netmap:x{1", netmap("x{1", None, Kind::Pipe)),
            ("netmap:x}1", netmap("x}1", None, Kind::Pipe)),
        ] {
            assert_eq!(text.parse(), Ok(name.clone()), "{text}");
            assert_eq!(name.to_string(), text);
            assert_eq!(
                name.interface().is_some(),
                name == PortName::Interface(text.to_owned()) || name.as_netmap().kind == Kind::Nic
            );
        }
    }

    #[test]
    fn what_names_no_port_is_refused_with_what_would() {
        for text in [
            "",
            "a b",
            "netmap:",
            "vale0:",
            "netmap:x{",
            "netmap:{1",
            "netmap:x{y",
            "netmap:em0-70000",
            "em0:1",
            "x{1",
            "averyverylonginterface",
            "netmap:averyverylonginterface",
            "vale0:averyverylongport",
            "netmap:em0@conf",
        ] {
            let error = text.parse::<PortName>().expect_err(text);
            assert!(error.contains("netmap:INTERFACE"), "{text}: {error}");
        }
        for text in ["netmap:vtnet1^", "netmap:vtnet1*"] {
            assert!(text.parse::<PortName>().is_err_and(|error| error.contains("--dedicated")), "{text}");
        }
    }
}
