//! IP packets that a probe sends, and what it reads of those that come back.

use std::net::IpAddr;

use super::Key;
use crate::health::Obstacle;
use crate::wire::checksum::Sum;
use crate::wire::ip::{self, Header, protocol};
use crate::wire::{array, be16, ether, l4};

/// Of probes: far enough for whatever the backend does with them (container networks), not endless.
const HOP_LIMIT: u8 = 64;

const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REPLY_V4: u8 = 0;
const ECHO_REQUEST_V6: u8 = 128;
const ECHO_REPLY_V6: u8 = 129;
const REDIRECT_V4: u8 = 5;
const REDIRECT_V6: u8 = 137;

/// An IP packet, both addresses of one family. The two bytes of `upper` at `checksum` become its checksum.
pub fn build(source: IpAddr, destination: IpAddr, protocol: u8, mut upper: Vec<u8>, checksum: usize) -> Vec<u8> {
    let sum = match (source, protocol) {
        (IpAddr::V4(_), protocol::ICMP) => Sum::default(),
        _ => Sum::default().pseudo_header(source, destination, protocol, upper.len()),
    };
    let sum = match sum.bytes(&upper).checksum() {
        // 0 would say that there is none (RFC 768).
        0 if protocol == protocol::UDP => 0xffff,
        sum => sum,
    };
    if let Some(field) = upper.get_mut(checksum..checksum + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    let mut packet = Vec::with_capacity(40 + upper.len());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + upper.len() as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, HOP_LIMIT, protocol, 0, 0]); // don't fragment: no id is needed (RFC 6864)
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = Sum::default().bytes(&packet).checksum();
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (source, destination) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((upper.len() as u16).to_be_bytes());
            packet.extend([protocol, HOP_LIMIT]);
            for address in [source, destination] {
                match address {
                    IpAddr::V4(address) => packet.extend(address.to_ipv6_mapped().octets()),
                    IpAddr::V6(address) => packet.extend(address.octets()),
                }
            }
        }
    }
    packet.extend(upper);
    packet
}

/// An echo request.
pub fn echo_request(source: IpAddr, destination: IpAddr, ident: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let (protocol, kind) =
        if source.is_ipv4() { (protocol::ICMP, ECHO_REQUEST_V4) } else { (protocol::ICMPV6, ECHO_REQUEST_V6) };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(ident.to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend(payload);
    build(source, destination, protocol, message, 2)
}

/// A UDP datagram.
pub fn datagram(source: IpAddr, destination: IpAddr, ports: l4::Ports, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(ports.source.to_be_bytes());
    datagram.extend(ports.destination.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    build(source, destination, protocol::UDP, datagram, 6)
}

/// Protocol and first bytes of the upper layer of a packet that was built here or by the stack.
pub fn head(packet: &[u8]) -> Option<(u8, [u8; 8])> {
    let header = ip::parse_quoted(packet).ok()?;
    Some((header.protocol, array(packet, header.payload).ok()?))
}

/// A packet that came in.
#[derive(Debug)]
pub struct Incoming<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// What it is.
    pub message: Message<'a>,
    /// All of it, without what Ethernet has added.
    pub packet: &'a [u8],
    header: Header,
}

/// What a probe can make something of.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A TCP segment.
    Tcp {
        /// Its ports.
        ports: l4::Ports,
        /// Its flags (RFC 9293 section 3.1).
        flags: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Its ports.
        ports: l4::Ports,
        /// What it carries.
        payload: &'a [u8],
    },
    /// An echo reply.
    EchoReply {
        /// Whose.
        ident: u16,
        /// What it carries.
        payload: &'a [u8],
    },
    /// An ICMP error about a packet that was sent.
    Error {
        /// What it says.
        obstacle: Obstacle,
        /// About what.
        quote: Quote,
    },
    /// An ICMP redirect of a packet that was sent.
    Redirect {
        /// Of what.
        quote: Quote,
    },
}

/// What is quoted of a packet that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// Who had sent it.
    pub source: IpAddr,
    /// To whom.
    pub destination: IpAddr,
    /// TCP, UDP, ICMP or ICMPv6.
    pub protocol: u8,
    /// The sender's port, or the identifier of an echo request.
    pub local: u16,
    /// The first bytes of the upper layer.
    pub head: [u8; 8],
}

/// Reads `packet`: lengths only, no checksum. `None` for what no probe can expect: fragments, other protocols, other
/// ICMP messages, and what is malformed.
pub fn parse(packet: &[u8]) -> Option<Incoming<'_>> {
    let ethertype = match packet.first()? >> 4 {
        4 => ether::IPV4,
        6 => ether::IPV6,
        _ => return None,
    };
    let header = ip::parse(ethertype, packet).ok()?;
    if header.fragment.is_some() {
        return None;
    }
    let upper = packet.get(header.payload..header.end)?;
    let message = match header.protocol {
        protocol::TCP => {
            Message::Tcp { ports: l4::ports(protocol::TCP, upper).ok()?, flags: upper.get(13).copied()? & 0x3f }
        }
        protocol::UDP => {
            let ports = l4::ports(protocol::UDP, upper).ok()?;
            let length = usize::from(be16(upper, 4).ok()?);
            Message::Udp { ports, payload: upper.get(8..length)? }
        }
        protocol::ICMP if header.source.is_ipv4() => icmp(upper, header.protocol)?,
        protocol::ICMPV6 if header.source.is_ipv6() => icmp(upper, header.protocol)?,
        _ => return None,
    };
    let packet = packet.get(..header.end)?;
    Some(Incoming { source: header.source, destination: header.destination, message, packet, header })
}

fn icmp(message: &[u8], protocol: u8) -> Option<Message<'_>> {
    let head: [u8; 8] = array(message, 0).ok()?;
    let [kind, code] = [head[0], head[1]];
    let is_v4 = protocol == protocol::ICMP;
    let (reply, redirect) = if is_v4 { (ECHO_REPLY_V4, REDIRECT_V4) } else { (ECHO_REPLY_V6, REDIRECT_V6) };
    if kind == reply {
        let ident = u16::from_be_bytes([head[4], head[5]]);
        return (code == 0).then(|| Message::EchoReply { ident, payload: &message[8..] });
    }
    if kind == redirect {
        let quoted = if is_v4 { &message[8..] } else { redirected_header(message)? };
        return Some(Message::Redirect { quote: quote(quoted)? });
    }
    let obstacle = if is_v4 { obstacle_v4(kind, code)? } else { obstacle_v6(kind, code)? };
    Some(Message::Error { obstacle, quote: quote(&message[8..])? })
}

/// The packet in the option "redirected header" of an ICMPv6 redirect (RFC 4861 sections 4.5 and 4.6.3).
fn redirected_header(message: &[u8]) -> Option<&[u8]> {
    const REDIRECTED_HEADER: u8 = 4;
    let mut options = message.get(40..)?;
    loop {
        let [kind, units, ..] = *options else { return None };
        let length = usize::from(units) * 8;
        let option = options.get(..length).filter(|option| !option.is_empty())?;
        if kind == REDIRECTED_HEADER {
            return option.get(8..);
        }
        options = &options[length..];
    }
}

/// `None` for what is no error, and for those that do not mean that the packet was lost for good.
fn obstacle_v4(kind: u8, code: u8) -> Option<Obstacle> {
    Some(match (kind, code) {
        (3, 4) => return None, // too large: nothing here is
        (3, 0 | 6 | 11) => Obstacle::Network,
        (3, 1 | 7 | 8 | 12) => Obstacle::Host,
        (3, 2) => Obstacle::Protocol,
        (3, 3) => Obstacle::Port,
        (3, 9 | 10 | 13) => Obstacle::Prohibited,
        (11, 0) => Obstacle::HopLimit,
        (3 | 11 | 12, _) => Obstacle::Other { kind, code },
        _ => return None,
    })
}

fn obstacle_v6(kind: u8, code: u8) -> Option<Obstacle> {
    Some(match (kind, code) {
        (1, 0) => Obstacle::Network,
        (1, 1 | 5 | 6) => Obstacle::Prohibited,
        (1, 3) => Obstacle::Host,
        (1, 4) => Obstacle::Port,
        (3, 0) => Obstacle::HopLimit,
        (4, 1) => Obstacle::Protocol,
        (1 | 3 | 4, _) => Obstacle::Other { kind, code },
        _ => return None,
    })
}

fn quote(packet: &[u8]) -> Option<Quote> {
    let header = ip::parse_quoted(packet).ok()?;
    let head: [u8; 8] = array(packet, header.payload).ok()?;
    let local = match header.protocol {
        protocol::TCP | protocol::UDP => u16::from_be_bytes([head[0], head[1]]),
        protocol::ICMP | protocol::ICMPV6 => u16::from_be_bytes([head[4], head[5]]),
        _ => return None,
    };
    let Header { source, destination, protocol, .. } = header;
    header.fragment.is_none().then_some(Quote { source, destination, protocol, local, head })
}

impl Incoming<'_> {
    /// Which probe it is for.
    pub fn key(&self) -> Key {
        let (vip, source) = (self.source, self.destination);
        match &self.message {
            Message::Tcp { ports, .. } | Message::Udp { ports, .. } => (vip, source, ports.destination),
            Message::EchoReply { ident, .. } => (vip, source, *ident),
            Message::Error { quote, .. } | Message::Redirect { quote } => {
                (quote.destination, quote.source, quote.local)
            }
        }
    }

    /// Are its checksums right? Those of TCP, UDP and ICMPv6 may also be unfinished, as a virtual interface leaves them
    /// ([`crate::wire::checksum::finish`]), and that of UDP over IPv4 may be missing.
    pub fn is_intact(&self) -> bool {
        let Header { source, destination, protocol, payload, .. } = self.header;
        let (head, upper) = self.packet.split_at_checked(payload).unwrap_or_default();
        if source.is_ipv4() && Sum::default().bytes(head).fold() != 0xffff {
            return false;
        }
        let at = match protocol {
            protocol::ICMP => return Sum::default().bytes(upper).fold() == 0xffff,
            protocol::TCP => 16,
            protocol::UDP => 6,
            _ => 2,
        };
        let pseudo = Sum::default().pseudo_header(source, destination, protocol, upper.len());
        let stored = be16(upper, at).unwrap_or_default();
        let is_missing = protocol == protocol::UDP && source.is_ipv4() && stored == 0;
        is_missing || pseudo.bytes(upper).fold() == 0xffff || stored == pseudo.fold()
    }
}
