//! How a port is driven: what can be said, and what it comes to.

use std::fmt;
use std::str::FromStr;

use crate::port::PortName;

/// How a port is to be driven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// A port of netmap by netmap; an interface by the best that can be had.
    #[default]
    Auto,
    /// By this, or not at all.
    Only(Driven),
}

/// What drives a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driven {
    /// netmap(4).
    Netmap,
    /// A program in the kernel's receive path (XDP) for most frames, packet sockets for the rest. Linux.
    Xdp,
    /// Packet sockets with their rings mapped (PACKET_MMAP). Linux.
    Ring,
    /// Packet sockets frame by frame: AF_PACKET, bpf(4).
    Packet,
}

impl Driven {
    /// All of them, the best first.
    pub const ALL: [Driven; 4] = [Driven::Netmap, Driven::Xdp, Driven::Ring, Driven::Packet];

    /// The word in options and logs.
    pub fn name(self) -> &'static str {
        match self {
            Driven::Netmap => "netmap",
            Driven::Xdp => "xdp",
            Driven::Ring => "ring",
            Driven::Packet => "packet",
        }
    }
}

impl fmt::Display for Driven {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an interface is driven by if nothing is said, the best first.
const FOR_INTERFACES: &[Driven] = if cfg!(target_os = "freebsd") {
    &[Driven::Netmap, Driven::Packet]
} else {
    &[Driven::Xdp, Driven::Ring, Driven::Packet]
};

impl Driver {
    /// By what `port` may be driven, the best first; never empty.
    pub fn candidates(self, port: &PortName) -> &'static [Driven] {
        match (self, port) {
            (Driver::Only(Driven::Netmap), _) | (_, PortName::Netmap(_)) => &[Driven::Netmap],
            (Driver::Auto, PortName::Interface(_)) => FOR_INTERFACES,
            (Driver::Only(Driven::Xdp), _) => &[Driven::Xdp],
            (Driver::Only(Driven::Ring), _) => &[Driven::Ring],
            (Driver::Only(Driven::Packet), _) => &[Driven::Packet],
        }
    }
}

impl FromStr for Driver {
    type Err = String;

    fn from_str(text: &str) -> Result<Driver, String> {
        if text == "auto" {
            return Ok(Driver::Auto);
        }
        let driven = Driven::ALL.into_iter().find(|driven| driven.name() == text);
        driven
            .map(Driver::Only)
            .ok_or_else(|| format!("{text:?} is no driver: write auto, netmap, xdp, ring or packet"))
    }
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Driver::Auto => "auto",
            Driver::Only(driven) => driven.name(),
        })
    }
}

/// How the program of the driver xdp is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XdpMode {
    /// In the NIC's driver where that is a real NIC's and takes it, else behind it.
    #[default]
    Auto,
    /// In the NIC's driver, before the kernel makes anything of a frame.
    Native,
    /// Behind the driver, which every interface can.
    Generic,
}

impl FromStr for XdpMode {
    type Err = String;

    fn from_str(text: &str) -> Result<XdpMode, String> {
        match text {
            "auto" => Ok(XdpMode::Auto),
            "native" => Ok(XdpMode::Native),
            "generic" => Ok(XdpMode::Generic),
            _ => Err(format!("{text:?} is no mode of XDP: write auto, native or generic")),
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            XdpMode::Auto => "auto",
            XdpMode::Native => "native",
            XdpMode::Generic => "generic",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in ["auto", "netmap", "xdp", "ring", "packet"] {
            assert_eq!(word.parse::<Driver>().unwrap().to_string(), word);
        }
        for word in ["auto", "native", "generic"] {
            assert_eq!(word.parse::<XdpMode>().unwrap().to_string(), word);
        }
        assert!("raw".parse::<Driver>().is_err() && "skb".parse::<XdpMode>().is_err());
    }

    #[test]
    fn a_port_of_netmap_is_driven_by_netmap_and_an_interface_by_what_is_said() {
        let (netmap, interface) = ("netmap:eth0".parse().unwrap(), "eth0".parse().unwrap());
        assert_eq!(Driver::Auto.candidates(&netmap), [Driven::Netmap]);
        for driven in Driven::ALL {
            assert_eq!(Driver::Only(driven).candidates(&interface), [driven]);
        }
        assert_eq!(Driver::Auto.candidates(&interface).last(), Some(&Driven::Packet), "what works everywhere");
    }
}
