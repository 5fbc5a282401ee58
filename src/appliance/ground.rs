//! The interfaces that the balancer stands on: one, or with two arms two.

use std::hash::{Hash, Hasher};
use std::net::IpAddr;

use siphasher::sip::SipHasher13;

use crate::config::{Config, Process};
use crate::director::Segment;
use crate::engine::Station;
use crate::failure::Failure;
use crate::os::{self, Interface};
use crate::port::PortName;
use crate::wire::ether::Mac;

/// The interfaces, as they were when they were looked up.
#[derive(Clone, Debug)]
pub struct Ground {
    /// Where the clients are, and with one arm everybody.
    pub front: Interface,
    /// Where the backends are, with two arms.
    pub back: Option<Interface>,
}

impl Ground {
    /// Looks up the interfaces that `process` names. A port that is on none stands for one without addresses.
    ///
    /// # Errors
    /// None is named; there is no such interface, or it is no Ethernet; both have one MAC.
    pub fn find(process: &Process) -> Result<Ground, Failure> {
        let look_up = |port: &PortName, mac: Option<Mac>| match port.interface() {
            Some(name) => Interface::find(name),
            None => {
                let name = port.to_string();
                Ok(Interface::virtual_port(&name, mac.unwrap_or_else(|| mac_of(&name))))
            }
        };
        let front = look_up(process.port()?, process.mac)?;
        let back = process.out.as_ref().map(|port| look_up(port, None)).transpose()?;
        if let Some(back) = back.as_ref().filter(|back| back.mac == front.mac) {
            return Err(Failure::usage(format!(
                "{} and {} have the same MAC, {}: give one another, by which frames of the two arms are told apart",
                front.name, back.name, back.mac
            )));
        }
        Ok(Ground { front, back })
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Interface> {
        std::iter::once(&self.front).chain(&self.back)
    }

    /// Their names, for messages.
    pub fn name(&self) -> String {
        match &self.back {
            None => self.front.name.clone(),
            Some(back) => format!("{} and {}", self.front.name, back.name),
        }
    }

    /// Their MACs, for messages.
    pub(super) fn macs(&self) -> String {
        let macs: Vec<String> = self.all().map(|interface| interface.mac.to_string()).collect();
        macs.join(" and ")
    }

    /// Do all of them carry frames?
    pub fn is_running(&self) -> bool {
        self.all().all(|interface| interface.running)
    }

    /// Has somebody brought up all of them?
    pub(super) fn is_up(&self) -> bool {
        self.all().all(|interface| interface.index == 0 || interface.is_up())
    }

    /// Are these the same interfaces as `other`'s, with the same MACs?
    pub(super) fn is_same(&self, other: &Ground) -> bool {
        self.all().map(|i| (i.index, i.mac)).eq(other.all().map(|i| (i.index, i.mac)))
    }

    /// Are these the same interfaces as `other`'s, perhaps with other MACs?
    pub(super) fn is_there_still(&self, other: &Ground) -> bool {
        self.all().map(|i| i.index).eq(other.all().map(|i| i.index))
    }

    /// The interface that has `address`.
    pub(super) fn owner(&self, address: IpAddr) -> Option<&Interface> {
        self.all().find(|interface| interface.has(address))
    }

    /// The interface where the backends are.
    pub(super) fn backends(&self) -> &Interface {
        self.back.as_ref().unwrap_or(&self.front)
    }

    /// Our MACs.
    pub(super) fn station(&self, config: &Config) -> Station {
        let mac = self.front.mac;
        Station { mac, back: self.backends().mac, vip_mac: config.process.vip_mac.unwrap_or(mac) }
    }

    /// Who we are where the backends are, and which addresses are ours anywhere.
    pub(super) fn segment(&self, config: &Config) -> Segment {
        let near = self.backends();
        let far = self.back.as_ref().map(|_| &self.front);
        Segment {
            station: self.station(config),
            ipv4: near.ipv4.iter().chain(far.iter().flat_map(|i| &i.ipv4)).copied().collect(),
            ipv6: near.ipv6.iter().chain(far.iter().flat_map(|i| &i.ipv6)).copied().collect(),
            link_local: near.link_local,
            gateways: os::gateways(),
        }
    }
}

/// A MAC for a port that has none: always the same for the same name on the same host, and of those that anybody may give
/// (IEEE 802c).
fn mac_of(name: &str) -> Mac {
    let mut hasher = SipHasher13::new();
    (nix::unistd::gethostname().unwrap_or_default(), name).hash(&mut hasher);
    let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
    Mac([2, a, b, c, d, e])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(front: &str, back: Option<&str>) -> Process {
        let port = |name: &str| name.parse().expect("a port");
        Process { interface: Some(port(front)), out: back.map(port), ..Process::default() }
    }

    #[test]
    fn a_port_without_an_interface_always_has_the_same_mac_and_another_than_its_neighbour() {
        let found = |name| Ground::find(&process(name, None)).expect("no interface is needed").front.mac;
        assert_eq!(found("vale0:lb"), found("vale0:lb"));
        assert_ne!(found("vale0:lb"), found("vale0:lc"));
        assert!(found("netmap:x{1").is_station());
    }

    #[test]
    fn two_arms_have_their_own_macs() {
        let ground = Ground::find(&process("vale0:lb", Some("vale1:lb"))).expect("no interface is needed");
        let station = ground.station(&Config::default());
        assert!(station.has_two_arms() && station.mac == ground.front.mac);
        assert!(Ground::find(&process("no-such-port0", None)).is_err());
    }
}
