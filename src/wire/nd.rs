//! IPv6 Neighbour Discovery: solicitations and advertisements (RFC 4861, sections 4.3, 4.4 and 7).

use std::net::{IpAddr, Ipv6Addr};

use super::checksum::Sum;
use super::ether::{self, Mac};
use super::ip::{self, protocol};
use super::{Malformed, array};

/// ff02::1.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Flags of an advertisement.
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has `target`?
    Solicitation {
        /// The address that is asked for.
        target: Ipv6Addr,
        /// The MAC of who asks, if it says so (it must not while its own address is tentative).
        source_mac: Option<Mac>,
    },
    /// I have `target`.
    Advertisement {
        /// The address that is answered for.
        target: Ipv6Addr,
        /// Its MAC, if the option is there.
        target_mac: Option<Mac>,
        /// Does it answer a solicitation?
        solicited: bool,
        /// May it replace a cached MAC?
        override_cache: bool,
    },
}

/// Is the ICMPv6 message `message` a solicitation or advertisement?
pub fn is_neighbor(message: &[u8]) -> bool {
    matches!(message.first(), Some(&SOLICITATION | &ADVERTISEMENT))
}

/// Reads the ICMPv6 message `message` of a packet with the IP header `ip`.
///
/// # Errors
/// Whatever RFC 4861 section 7.1 tells a node to discard silently: hop limit, checksum, code, lengths, targets.
pub fn parse(ip: &ip::Header, message: &[u8]) -> Result<Message, Malformed> {
    let head: [u8; 24] = array(message, 0)?;
    let target = Ipv6Addr::from(array::<16>(message, 8)?);
    if ip.hop_limit != 255 || head[1] != 0 || target.is_multicast() {
        return Err(Malformed::Field);
    }
    let sum = Sum::default().pseudo_header(ip.source, ip.destination, protocol::ICMPV6, message.len()).bytes(message);
    if sum.fold() != 0xffff {
        return Err(Malformed::Checksum);
    }
    match head[0] {
        SOLICITATION => {
            let source_mac = link_layer_option(&message[24..], SOURCE_LINK_LAYER)?;
            if ip.source.is_unspecified() && source_mac.is_some() {
                return Err(Malformed::Field);
            }
            Ok(Message::Solicitation { target, source_mac })
        }
        ADVERTISEMENT => {
            let (solicited, override_cache) = (head[4] & SOLICITED != 0, head[4] & OVERRIDE != 0);
            if solicited && ip.destination.is_multicast() {
                return Err(Malformed::Field);
            }
            let target_mac = link_layer_option(&message[24..], TARGET_LINK_LAYER)?;
            Ok(Message::Advertisement { target, target_mac, solicited, override_cache })
        }
        _ => Err(Malformed::Field),
    }
}

fn link_layer_option(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Malformed> {
    let mut found = None;
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            return Err(Malformed::HeaderLength);
        }
        if kind == wanted && length == 8 {
            let mac = Mac(array(options, 2)?);
            if !mac.is_station() {
                return Err(Malformed::Field);
            }
            found = Some(mac);
        }
        options = &options[length..];
    }
    Ok(found)
}

/// The solicited-node multicast address of `address` (RFC 4291, section 2.7.1).
pub fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let a = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a[13]), u16::from_be_bytes([a[14], a[15]]))
}

/// The Ethernet group of an IPv6 multicast address (RFC 2464, section 7).
pub fn multicast_mac(group: Ipv6Addr) -> Mac {
    let a = group.octets();
    Mac([0x33, 0x33, a[12], a[13], a[14], a[15]])
}

/// Who sends a message, and to whom.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Own MAC: the frame's source, and what the link-layer option says.
    pub mac: Mac,
    /// The packet's source address.
    pub source: Ipv6Addr,
    /// The frame's destination.
    pub destination_mac: Mac,
    /// The packet's destination address.
    pub destination: Ipv6Addr,
}

/// A solicitation for `target`, as a whole frame. From the unspecified address it is a probe without a MAC option.
pub fn solicitation(route: Route, target: Ipv6Addr) -> Vec<u8> {
    let option = (!route.source.is_unspecified()).then_some(SOURCE_LINK_LAYER);
    frame(route, SOLICITATION, 0, target, option)
}

/// An advertisement of `target`, as a whole frame: override always set, solicited unless it goes to a group.
pub fn advertisement(route: Route, target: Ipv6Addr) -> Vec<u8> {
    frame(route, ADVERTISEMENT, solicited(route) | OVERRIDE, target, Some(TARGET_LINK_LAYER))
}

/// The same without override: whoever else says that he has `target` is believed rather than we (RFC 4861 section 7.2.5).
pub fn yielding_advertisement(route: Route, target: Ipv6Addr) -> Vec<u8> {
    frame(route, ADVERTISEMENT, solicited(route), target, Some(TARGET_LINK_LAYER))
}

fn solicited(route: Route) -> u8 {
    if route.destination.is_multicast() { 0 } else { SOLICITED }
}

fn frame(route: Route, kind: u8, flags: u8, target: Ipv6Addr, option: Option<u8>) -> Vec<u8> {
    let mut message = Vec::with_capacity(32);
    message.extend([kind, 0, 0, 0, flags, 0, 0, 0]);
    message.extend(target.octets());
    if let Some(option) = option {
        message.extend([option, 1]);
        message.extend(route.mac.0);
    }
    let (source, destination) = (IpAddr::V6(route.source), IpAddr::V6(route.destination));
    let sum =
        Sum::default().pseudo_header(source, destination, protocol::ICMPV6, message.len()).bytes(&message).checksum();
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(ether::HEADER_LEN + 40 + message.len());
    frame.extend(route.destination_mac.0);
    frame.extend(route.mac.0);
    frame.extend(ether::IPV6.to_be_bytes());
    frame.extend([0x60, 0, 0, 0, 0, message.len() as u8, protocol::ICMPV6, 255]);
    frame.extend(route.source.octets());
    frame.extend(route.destination.octets());
    frame.extend(message);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn read(frame: &[u8]) -> Result<Message, Malformed> {
        let (header, l4) = ip::locate(frame).expect("an IPv6 frame");
        parse(&header, &frame[l4])
    }

    fn route(destination: Ipv6Addr) -> Route {
        Route { mac: MAC, source: "fe80::2".parse().unwrap(), destination_mac: multicast_mac(destination), destination }
    }

    #[test]
    fn solicitation_and_advertisement_are_read_as_written() {
        let target: Ipv6Addr = "fd00::11".parse().unwrap();
        let ns = solicitation(route(solicited_node(target)), target);
        assert_eq!(&ns[..6], &[0x33, 0x33, 0xff, 0, 0, 0x11]);
        assert_eq!(read(&ns), Ok(Message::Solicitation { target, source_mac: Some(MAC) }));
        let na = advertisement(route(ALL_NODES), target);
        assert_eq!(
            read(&na),
            Ok(Message::Advertisement { target, target_mac: Some(MAC), solicited: false, override_cache: true })
        );
        let modest = yielding_advertisement(route("fd00::1".parse().unwrap()), target);
        assert_eq!(
            read(&modest),
            Ok(Message::Advertisement { target, target_mac: Some(MAC), solicited: true, override_cache: false })
        );
    }

    #[test]
    fn what_rfc_4861_discards_is_malformed() {
        let target: Ipv6Addr = "fd00::11".parse().unwrap();
        let good = solicitation(route(solicited_node(target)), target);
        let mut forwarded = good.clone();
        forwarded[21] = 254;
        assert_eq!(read(&forwarded), Err(Malformed::Field));
        let mut damaged = good.clone();
        damaged[70] ^= 1;
        assert_eq!(read(&damaged), Err(Malformed::Checksum));
        let mut cut = good;
        cut[14 + 5] = 20;
        assert_eq!(read(&cut), Err(Malformed::Truncated));
    }

    #[test]
    fn an_option_of_length_zero_is_malformed() {
        assert_eq!(link_layer_option(&[1, 0, 0, 0, 0, 0, 0, 0], 1), Err(Malformed::HeaderLength));
        assert_eq!(link_layer_option(&[1, 2, 0, 0, 0, 0, 0, 0], 1), Err(Malformed::HeaderLength));
    }
}
