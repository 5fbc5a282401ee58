//! Frames for tests, built by etherparse: not by the code that is under test.
//!
//! Addresses are text (`"10.0.0.1"`, `"fd00::1"`); whether a packet is IPv4 or IPv6 follows from them.

#![allow(dead_code)] // Each test crate uses a part.

use std::net::IpAddr;

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header,
    Ipv6Extensions, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, PacketBuilderStep, UdpHeader, VlanId,
};

/// A MAC address in the order of the wire.
pub type MacBytes = [u8; 6];

/// The client that the frames come from unless they say otherwise.
pub const CLIENT: MacBytes = [0x02, 0, 0, 0, 0, 0x01];
/// The router through which clients of other networks come.
pub const ROUTER: MacBytes = [0x02, 0, 0, 0, 0, 0xfe];
/// Everybody.
pub const BROADCAST: MacBytes = [0xff; 6];

/// The VLAN tags of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Tags {
    /// No tag.
    None,
    /// One tag, 802.1Q.
    Customer(u16),
    /// A service tag (802.1ad) and a customer tag.
    QinQ(u16, u16),
}

impl Tags {
    /// How many there are.
    pub fn count(self) -> usize {
        match self {
            Tags::None => 0,
            Tags::Customer(_) => 1,
            Tags::QinQ(..) => 2,
        }
    }
}

/// An IP packet in the making, with the Ethernet header that carries it.
#[derive(Clone, Debug)]
pub struct Packet {
    source_mac: MacBytes,
    destination_mac: MacBytes,
    tags: Tags,
    ip: IpHeaders,
}

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address in a test")
}

impl Packet {
    /// A packet in an untagged frame from [`CLIENT`] to `destination_mac`.
    pub fn new(destination_mac: MacBytes, source: &str, destination: &str) -> Packet {
        let ip = match (address(source), address(destination)) {
            (IpAddr::V4(s), IpAddr::V4(d)) => {
                let header = Ipv4Header::new(0, 63, IpNumber::TCP, s.octets(), d.octets()).expect("an empty payload");
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(s), IpAddr::V6(d)) => IpHeaders::Ipv6(
                Ipv6Header { hop_limit: 63, source: s.octets(), destination: d.octets(), ..Ipv6Header::default() },
                Ipv6Extensions::default(),
            ),
            _ => panic!("{source} and {destination} are of different families"),
        };
        Packet { source_mac: CLIENT, destination_mac, tags: Tags::None, ip }
    }

    /// Sent by `mac`.
    pub fn sent_by(self, mac: MacBytes) -> Packet {
        Packet { source_mac: mac, ..self }
    }

    /// In a tagged frame.
    pub fn tags(self, tags: Tags) -> Packet {
        Packet { tags, ..self }
    }

    /// With this TTL or hop limit.
    pub fn hop_limit(mut self, hops: u8) -> Packet {
        match &mut self.ip {
            IpHeaders::Ipv4(header, _) => header.time_to_live = hops,
            IpHeaders::Ipv6(header, _) => header.hop_limit = hops,
        }
        self
    }

    /// With IPv4 options, a multiple of four bytes.
    pub fn options(mut self, options: &[u8]) -> Packet {
        match &mut self.ip {
            IpHeaders::Ipv4(header, _) => header.options = options.try_into().expect("IPv4 options in words"),
            IpHeaders::Ipv6(..) => panic!("IPv6 has no options but in extension headers"),
        }
        self
    }

    /// With IPv6 extension headers.
    pub fn extensions(mut self, extensions: Ipv6Extensions) -> Packet {
        match &mut self.ip {
            IpHeaders::Ipv6(_, place) => *place = extensions,
            IpHeaders::Ipv4(..) => panic!("extension headers are for IPv6"),
        }
        self
    }

    /// A part of datagram `id`, `offset` bytes into it (a multiple of 8), the last one unless `more` follow.
    /// In IPv6 a fragment header is added even if the part is the whole (an atomic fragment).
    pub fn fragment(mut self, id: u16, offset: u16, more: bool) -> Packet {
        let fragment_offset = IpFragOffset::try_new(offset / 8).expect("an offset below 64 KiB");
        match &mut self.ip {
            IpHeaders::Ipv4(header, _) => {
                (header.identification, header.dont_fragment) = (id, false);
                (header.fragment_offset, header.more_fragments) = (fragment_offset, more);
            }
            IpHeaders::Ipv6(_, extensions) => {
                extensions.fragment =
                    Some(Ipv6FragmentHeader::new(IpNumber::UDP, fragment_offset, more, u32::from(id)));
            }
        }
        self
    }

    fn step(self) -> PacketBuilderStep<IpHeaders> {
        let vlan = |id: u16| VlanId::try_new(id).expect("a VLAN number");
        let ethernet = PacketBuilder::ethernet2(self.source_mac, self.destination_mac);
        match self.tags {
            Tags::None => ethernet.ip(self.ip),
            Tags::Customer(id) => ethernet.single_vlan(vlan(id)).ip(self.ip),
            Tags::QinQ(outer, inner) => ethernet.double_vlan(vlan(outer), vlan(inner)).ip(self.ip),
        }
    }

    /// The frame with a TCP segment (an ACK) in it.
    pub fn tcp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.step().tcp(source, destination, 1, 512).ack(1).write(&mut frame, payload).expect("a TCP frame");
        frame
    }

    /// The frame with a SYN that carries an MSS option.
    pub fn syn(self, source: u16, destination: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        let step = self.step().tcp(source, destination, 1, 512).syn().options_raw(&[2, 4, 5, 0xb4]).expect("an option");
        step.write(&mut frame, &[]).expect("a SYN frame");
        frame
    }

    /// The frame with a UDP datagram in it.
    pub fn udp(self, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        self.step().udp(source, destination).write(&mut frame, payload).expect("a UDP frame");
        frame
    }

    /// The frame with an ICMP or ICMPv6 message in it: type, code, the four bytes behind the checksum, the rest.
    pub fn icmp(self, kind: u8, code: u8, word: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let is_v4 = matches!(self.ip, IpHeaders::Ipv4(..));
        let step = self.step();
        let step = if is_v4 {
            step.icmpv4_raw(kind, code, word).write(&mut frame, payload)
        } else {
            step.icmpv6_raw(kind, code, word).write(&mut frame, payload)
        };
        step.expect("an ICMP frame");
        frame
    }

    /// The frame with an echo request in it.
    pub fn echo_request(self, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let kind = if matches!(self.ip, IpHeaders::Ipv4(..)) { 8 } else { 128 };
        let [a, b] = id.to_be_bytes();
        let [c, d] = sequence.to_be_bytes();
        self.icmp(kind, 0, [a, b, c, d], payload)
    }

    /// The frame with `payload` under any protocol number; nothing is added to it.
    pub fn protocol(self, number: u8, payload: &[u8]) -> Vec<u8> {
        // etherparse writes the number of an extension header only with such a header of its own making.
        let is_extension = matches!(self.ip, IpHeaders::Ipv6(..)) && IpNumber(number).is_ipv6_ext_header_value();
        let ip = 14 + 4 * self.tags.count();
        let number_at = match &self.ip {
            IpHeaders::Ipv6(_, extensions) if extensions.fragment.is_some() => ip + 40,
            _ => ip + 6,
        };
        let written = if is_extension { IpNumber::IPV6_NO_NEXT_HEADER } else { IpNumber(number) };
        let mut frame = Vec::new();
        self.step().write(&mut frame, written, payload).expect("an IP frame");
        if is_extension {
            frame[number_at] = number;
        }
        frame
    }
}

/// A UDP datagram with its checksum, headers of the layers below left out: to be cut into fragments.
pub fn udp_datagram(source: &str, destination: &str, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let header = match (address(source), address(destination)) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            let ip = Ipv4Header::new(0, 63, IpNumber::UDP, s.octets(), d.octets()).expect("an empty payload");
            UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, payload)
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            let ip = Ipv6Header { source: s.octets(), destination: d.octets(), ..Ipv6Header::default() };
            UdpHeader::with_ipv6_checksum(ports.0, ports.1, &ip, payload)
        }
        _ => panic!("{source} and {destination} are of different families"),
    };
    let mut datagram = header.expect("a datagram below 64 KiB").to_bytes().to_vec();
    datagram.extend(payload);
    datagram
}

/// An ARP message for IPv4 over Ethernet in a frame from its sender to `destination`.
pub fn arp(
    destination: MacBytes,
    operation: u16,
    sender: (MacBytes, &str),
    target: (MacBytes, &str),
    tags: Tags,
) -> Vec<u8> {
    let octets = |text: &str| match address(text) {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(_) => panic!("ARP is for IPv4"),
    };
    let message = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation(operation),
        &sender.0,
        &octets(sender.1),
        &target.0,
        &octets(target.1),
    )
    .expect("addresses of one length");
    let vlan = |id: u16| VlanId::try_new(id).expect("a VLAN number");
    let ethernet = PacketBuilder::ethernet2(sender.0, destination);
    let mut frame = Vec::new();
    match tags {
        Tags::None => ethernet.arp(message).write(&mut frame),
        Tags::Customer(id) => ethernet.single_vlan(vlan(id)).arp(message).write(&mut frame),
        Tags::QinQ(outer, inner) => ethernet.double_vlan(vlan(outer), vlan(inner)).arp(message).write(&mut frame),
    }
    .expect("an ARP frame");
    frame
}

/// The last twelve bytes of a neighbour message: an option of `kind` (1 source, 2 target) with `mac`.
pub fn link_layer_option(kind: u8, mac: MacBytes) -> Vec<u8> {
    [&[kind, 1][..], &mac].concat()
}

/// A neighbour solicitation (RFC 4861 section 4.3) to the group of its target, or to `destination_mac` and `to`.
pub fn solicitation(packet: Packet, target: &str, options: &[u8]) -> Vec<u8> {
    neighbor(packet, 135, 0, target, options)
}

/// A neighbour advertisement (RFC 4861 section 4.4); flags: router 0x80, solicited 0x40, override 0x20.
pub fn advertisement(packet: Packet, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
    neighbor(packet, 136, flags, target, options)
}

fn neighbor(packet: Packet, kind: u8, flags: u8, target: &str, options: &[u8]) -> Vec<u8> {
    let IpAddr::V6(target) = address(target) else { panic!("neighbour discovery is for IPv6") };
    let body = [&target.octets()[..], options].concat();
    packet.hop_limit(255).icmp(kind, 0, [flags, 0, 0, 0], &body)
}

/// The IP packet of an untagged frame, at most its first `length` bytes: what an ICMP error quotes.
pub fn quote(frame: &[u8], length: usize) -> &[u8] {
    &frame[14..frame.len().min(14 + length)]
}

/// Padded with zeros to the 60 bytes that Ethernet asks for (the check sequence not counted).
pub fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(60), 0);
    frame
}

/// `frame` with `bytes` written over it from `at` on.
pub fn patched(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The first `length` bytes of `frame`.
pub fn cut(mut frame: Vec<u8>, length: usize) -> Vec<u8> {
    assert!(length < frame.len(), "nothing would be cut");
    frame.truncate(length);
    frame
}
