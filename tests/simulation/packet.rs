//! What stations of the segment say, and what they make of what they hear.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pen_dsr::wire::checksum::Sum;
use pen_dsr::wire::ether::{self, Mac};
use pen_dsr::wire::ip::{self, protocol};
use pen_dsr::wire::tcp::Segment;
use pen_dsr::wire::{arp, nd};

pub use pen_dsr::wire::l4::flags;

/// What is behind the IP packet in a frame of a client: which copy of which frame it is. Ethernet padding to everybody
/// else.
pub const STAMP: usize = 8;

/// A frame, read.
pub enum Heard<'a> {
    Arp(arp::Message),
    Solicitation { asker: Mac, source: Ipv6Addr, target: Ipv6Addr },
    Advertisement { target: Ipv6Addr, mac: Mac },
    Packet(Packet<'a>),
}

/// An IP packet, whole or a part of a datagram.
pub struct Packet<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    /// Identification and offset of a part.
    pub part: Option<(u32, u16)>,
    /// More parts follow.
    pub more: bool,
    /// Behind the IP header.
    pub upper: &'a [u8],
}

/// Reads `frame`; `None` for what no station has anything to do with.
pub fn read(frame: &[u8]) -> Option<Heard<'_>> {
    let eth = ether::parse(frame).ok()?;
    let packet = &frame[eth.payload..];
    if eth.ethertype == ether::ARP {
        return arp::parse(packet).ok()?.map(Heard::Arp);
    }
    let header = ip::parse(eth.ethertype, packet).ok()?;
    let upper = &packet[header.payload..header.end];
    if header.protocol == protocol::ICMPV6 && header.fragment.is_none() && nd::is_neighbor(upper) {
        return match (nd::parse(&header, upper).ok()?, header.source) {
            (nd::Message::Solicitation { target, source_mac }, IpAddr::V6(source)) => {
                Some(Heard::Solicitation { asker: source_mac.unwrap_or(eth.source), source, target })
            }
            (nd::Message::Advertisement { target, target_mac, .. }, _) => {
                Some(Heard::Advertisement { target, mac: target_mac.unwrap_or(eth.source) })
            }
            _ => None,
        };
    }
    let more = match header.source {
        IpAddr::V4(_) => packet[6] & 0x20 != 0,
        IpAddr::V6(_) => header.fragment.is_some() && packet[header.payload - 5] & 1 != 0,
    };
    Some(Heard::Packet(Packet {
        source: header.source,
        destination: header.destination,
        protocol: header.protocol,
        part: header.fragment.map(|f| (f.id, f.offset)),
        more,
        upper,
    }))
}

/// The destination of the IP packet in `frame`, if there is one.
pub fn destination(frame: &[u8]) -> Option<IpAddr> {
    let eth = ether::parse(frame).ok()?;
    ip::destination(eth.ethertype, frame.get(eth.payload..)?)
}

pub fn mac(bytes: &[u8]) -> Mac {
    Mac(std::array::from_fn(|i| bytes[i]))
}

/// A TCP segment, read: what is said and what it carries.
pub fn segment(upper: &[u8]) -> Option<(Segment, &[u8])> {
    let segment = Segment::parse(upper).ok()?;
    Some((segment, &upper[upper.len() - segment.payload..]))
}

/// The packet in a frame from `source` to `destination`.
pub fn frame(destination: Mac, source: Mac, packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 6 { ether::IPV6 } else { ether::IPV4 };
    let mut frame = Vec::with_capacity(ether::HEADER_LEN + packet.len() + STAMP);
    frame.extend(destination.0);
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(packet);
    frame
}

fn ip_packet(source: IpAddr, destination: IpAddr, number: u8, upper: &[u8]) -> Vec<u8> {
    let mut packet = Vec::with_capacity(40 + upper.len());
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend([0x45, 0]);
            packet.extend((20 + upper.len() as u16).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, number, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            finish_ipv4(&mut packet);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend([0x60, 0, 0, 0]);
            packet.extend((upper.len() as u16).to_be_bytes());
            packet.extend([number, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => unreachable!("addresses of two families"),
    }
    packet.extend(upper);
    packet
}

fn finish_ipv4(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn with_checksum(source: IpAddr, destination: IpAddr, number: u8, mut upper: Vec<u8>, at: usize) -> Vec<u8> {
    let sum = match number {
        protocol::ICMP => Sum::default(),
        _ => Sum::default().pseudo_header(source, destination, number, upper.len()),
    };
    let sum = match sum.bytes(&upper).checksum() {
        0 if number == protocol::UDP => 0xffff,
        sum => sum,
    };
    upper[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    ip_packet(source, destination, number, &upper)
}

/// A TCP segment in its IP packet.
pub fn tcp(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledgment: u32, set: u8, payload: &[u8]) -> Vec<u8> {
    let mut upper = Vec::with_capacity(20 + payload.len());
    upper.extend(from.port().to_be_bytes());
    upper.extend(to.port().to_be_bytes());
    upper.extend(sequence.to_be_bytes());
    upper.extend(acknowledgment.to_be_bytes());
    upper.extend([5 << 4, set, 0x40, 0, 0, 0, 0, 0]);
    upper.extend(payload);
    with_checksum(from.ip(), to.ip(), protocol::TCP, upper, 16)
}

/// A UDP datagram in its IP packet.
pub fn udp(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut upper = Vec::with_capacity(8 + payload.len());
    upper.extend(from.port().to_be_bytes());
    upper.extend(to.port().to_be_bytes());
    upper.extend((8 + payload.len() as u16).to_be_bytes());
    upper.extend([0, 0]);
    upper.extend(payload);
    with_checksum(from.ip(), to.ip(), protocol::UDP, upper, 6)
}

/// An ICMP or ICMPv6 message in its IP packet.
pub fn icmp(from: IpAddr, to: IpAddr, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let number = if from.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    with_checksum(from, to, number, [&[kind, code, 0, 0], rest].concat(), 2)
}

/// The packet that `client` complains of to the VIP, too large for its path: an ICMP error that quotes it.
pub fn too_big(client: SocketAddr, vip: SocketAddr) -> Vec<u8> {
    let quoted = tcp(vip, client, 1, 1, flags::ACK, &[]);
    let (kind, code) = if client.is_ipv4() { (3, 4) } else { (2, 0) };
    let rest = [&[0, 0, 5, 0], &quoted[..]].concat();
    icmp(client.ip(), vip.ip(), kind, code, &rest)
}

/// The parts of a datagram, each of up to `length` bytes of it (a multiple of 8).
pub fn parts(packet: &[u8], id: u32, length: usize) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let (head, upper) = packet.split_at(if v4 { 20 } else { 40 });
    let count = upper.len().div_ceil(length);
    let part = |(n, bytes): (usize, &[u8])| {
        let (offset, more) = ((n * length) as u16, n + 1 < count);
        let mut part = head.to_vec();
        if v4 {
            part[2..4].copy_from_slice(&(20 + bytes.len() as u16).to_be_bytes());
            part[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            part[6..8].copy_from_slice(&(offset >> 3 | u16::from(more) << 13).to_be_bytes());
            finish_ipv4(&mut part);
        } else {
            part[4..6].copy_from_slice(&(8 + bytes.len() as u16).to_be_bytes());
            let upper_number = std::mem::replace(&mut part[6], protocol::FRAGMENT);
            part.extend([upper_number, 0]);
            part.extend((offset | u16::from(more)).to_be_bytes());
            part.extend(id.to_be_bytes());
        }
        part.extend(bytes);
        part
    };
    upper.chunks(length).enumerate().map(part).collect()
}

/// "I have `address`", to who asked.
pub fn arp_reply(own: Mac, address: Ipv4Addr, asker: Mac, asker_address: Ipv4Addr) -> Vec<u8> {
    let operation = arp::Operation::Reply;
    arp::Message { operation, sender_mac: own, sender: address, target_mac: asker, target: asker_address }
        .to_frame(asker)
}

/// "Who has `target`?"; about oneself, it is an announcement.
pub fn arp_request(own: Mac, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let operation = arp::Operation::Request;
    arp::Message { operation, sender_mac: own, sender, target_mac: Mac::default(), target }.to_frame(Mac::BROADCAST)
}

/// The same two for IPv6.
pub fn advertisement(own: Mac, address: Ipv6Addr, asker: Mac, asker_address: Ipv6Addr) -> Vec<u8> {
    let (destination, destination_mac) = if asker_address.is_unspecified() {
        (nd::ALL_NODES, nd::multicast_mac(nd::ALL_NODES))
    } else {
        (asker_address, asker)
    };
    nd::advertisement(nd::Route { mac: own, source: address, destination_mac, destination }, address)
}

pub fn solicitation(own: Mac, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let destination = nd::solicited_node(target);
    nd::solicitation(
        nd::Route { mac: own, source, destination_mac: nd::multicast_mac(destination), destination },
        target,
    )
}
