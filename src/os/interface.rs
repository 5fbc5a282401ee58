//! Network interfaces: MAC, addresses, link.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use pnet::datalink::{self, NetworkInterface};

use super::{Link, link_state};
use crate::failure::{Failure, Sysexit};
use crate::wire::ether::Mac;

/// An Ethernet interface, as it was when it was looked up.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its number, another one when it went away and came back.
    pub index: u32,
    /// Its MAC.
    pub mac: Mac,
    /// Its IPv4 addresses and their prefix lengths.
    pub ipv4: Vec<(Ipv4Addr, u8)>,
    /// Its other IPv6 addresses than the link-local one.
    pub ipv6: Vec<Ipv6Addr>,
    /// Its IPv6 link-local address.
    pub link_local: Option<Ipv6Addr>,
    /// Does it carry frames: up, with a link, as far as its driver says?
    pub running: bool,
    pub(crate) pnet: NetworkInterface,
}

impl Interface {
    /// Looks up the interface `name`.
    ///
    /// # Errors
    /// There is no such interface, or it is no Ethernet; the message names those that there are.
    pub fn find(name: &str) -> Result<Interface, Failure> {
        let all = datalink::interfaces();
        let Some(found) = all.iter().find(|interface| interface.name == name) else {
            let names: Vec<&str> = all.iter().filter(|i| !i.is_loopback()).map(|i| i.name.as_str()).collect();
            let there = if names.is_empty() { "none here".to_owned() } else { names.join(", ") };
            return Err(Failure::new(Sysexit::Unavailable, format!("no interface {name:?}; there is: {there}")));
        };
        let mac = found.mac.map(|m| Mac([m.0, m.1, m.2, m.3, m.4, m.5])).filter(|mac| mac.is_station());
        let Some(mac) = mac.filter(|_| !found.is_loopback()) else {
            return Err(Failure::new(
                Sysexit::Unavailable,
                format!(
                    "{name}: not an Ethernet interface, it has no MAC address; choose the one on the backends' segment"
                ),
            ));
        };
        let mut interface = Interface {
            name: name.to_owned(),
            index: found.index,
            mac,
            ipv4: Vec::new(),
            ipv6: Vec::new(),
            link_local: None,
            running: found.is_up() && link_state(name).is_ok_and(|link| link != Link::Down),
            pnet: found.clone(),
        };
        for network in &found.ips {
            match network.ip() {
                IpAddr::V4(address) => interface.ipv4.push((address, network.prefix())),
                IpAddr::V6(address) if address.is_unicast_link_local() => interface.link_local = Some(address),
                IpAddr::V6(address) => interface.ipv6.push(address),
            }
        }
        Ok(interface)
    }

    /// What a port that is on no interface stands for: one without a number and addresses, which always carries frames.
    pub fn virtual_port(name: &str, mac: Mac) -> Interface {
        let description = String::new();
        let pnet =
            NetworkInterface { name: name.to_owned(), description, index: 0, mac: None, ips: Vec::new(), flags: 0 };
        let (ipv4, ipv6) = (Vec::new(), Vec::new());
        Interface { name: name.to_owned(), index: 0, mac, ipv4, ipv6, link_local: None, running: true, pnet }
    }

    /// Has somebody brought it up?
    pub fn is_up(&self) -> bool {
        self.pnet.is_up()
    }

    /// Does it take frames for any MAC?
    pub fn is_promiscuous(&self) -> bool {
        self.pnet.flags & libc::IFF_PROMISC as u32 != 0
    }

    /// Does the interface itself have `address`?
    pub fn has(&self, address: IpAddr) -> bool {
        self.pnet.ips.iter().any(|network| network.ip() == address)
    }
}
