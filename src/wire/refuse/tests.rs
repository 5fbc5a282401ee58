use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use etherparse::{icmpv4, icmpv6};

use super::*;
use crate::wire::checksum::Sum;

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const US: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT4: [u8; 4] = [10, 0, 0, 1];
const VIP4: [u8; 4] = [10, 0, 0, 100];
const CLIENT6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const VIP6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];

fn refusal_of(frame: &[u8]) -> Option<Vec<u8>> {
    let eth = ether::parse(frame).unwrap();
    let header = ip::parse(eth.ethertype, &frame[eth.payload..]).unwrap();
    refusal(frame, &eth, &header)
}

fn datagram(v6: bool, length: usize) -> Vec<u8> {
    let eth = PacketBuilder::ethernet2(CLIENT, US);
    let ip = if v6 { eth.ipv6(CLIENT6, VIP6, 9) } else { eth.ipv4(CLIENT4, VIP4, 9) };
    let mut frame = Vec::new();
    ip.udp(4000, 53).write(&mut frame, &vec![7; length]).unwrap();
    frame
}

#[test]
fn a_datagram_is_quoted_in_port_unreachable() {
    for (v6, length, quoted) in [(false, 30, 58), (false, 1400, 548), (true, 30, 78), (true, 1400, 1232)] {
        let asked = datagram(v6, length);
        let mut padded = asked.clone();
        padded.resize(asked.len().max(60), 0);
        let answer = refusal_of(&padded).expect("an answer");
        assert_eq!((&answer[..6], &answer[6..12], &answer[12..14]), (&CLIENT[..], &US[..], &asked[12..14]));
        let sliced = SlicedPacket::from_ethernet(&answer).unwrap();
        let quote = match (sliced.net.as_ref().unwrap(), sliced.transport.as_ref().unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Icmpv4(message)) => {
                let header = ip.header();
                assert_eq!((header.source(), header.destination()), (VIP4, CLIENT4));
                assert_eq!(header.header_checksum(), header.to_header().calc_header_checksum());
                assert_eq!(usize::from(header.total_len()), answer.len() - 14);
                let port = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Port);
                assert_eq!(message.icmp_type(), port);
                assert_eq!(message.checksum(), message.icmp_type().calc_checksum(message.payload()));
                assert!(answer.len() <= 14 + 576);
                message.payload().to_vec()
            }
            (NetSlice::Ipv6(ip), TransportSlice::Icmpv6(message)) => {
                let header = ip.header();
                assert_eq!((header.source(), header.destination()), (VIP6, CLIENT6));
                assert_eq!(usize::from(header.payload_length()), answer.len() - 54);
                assert_eq!(message.icmp_type(), Icmpv6Type::DestinationUnreachable(icmpv6::DestUnreachableCode::Port));
                assert!(message.is_checksum_valid(VIP6, CLIENT6));
                assert!(answer.len() <= 14 + 1280);
                message.payload().to_vec()
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(quote, asked[14..14 + quoted], "the packet, without padding, as far as there is room");
    }
}

#[test]
fn tags_stay() {
    let mut asked = datagram(false, 10);
    asked.splice(12..12, [0x88, 0xa8, 0, 6, 0x81, 0, 0xe0, 7]);
    let answer = refusal_of(&asked).expect("an answer");
    assert_eq!(answer[12..22], asked[12..22]);
    assert!(SlicedPacket::from_ethernet(&answer).unwrap().vlan().is_some());
}

#[test]
fn tcp_is_refused_by_a_reset_and_other_protocols_by_icmp() {
    let mut tcp = Vec::new();
    PacketBuilder::ethernet2(CLIENT, US)
        .ipv4(CLIENT4, VIP4, 9)
        .tcp(4000, 80, 1, 1024)
        .syn()
        .write(&mut tcp, b"")
        .unwrap();
    assert_eq!(refusal_of(&tcp).expect("an answer")[23], protocol::TCP);
    let sctp = with_protocol(datagram(false, 10), 132);
    assert_eq!(refusal_of(&sctp).expect("an answer")[23], protocol::ICMP);
}

#[test]
fn nothing_is_said_of_icmp_later_fragments_and_groups() {
    let eth = || PacketBuilder::ethernet2(CLIENT, US);
    let mut messages = vec![Vec::new(); 4];
    let unreachable = Icmpv4Type::DestinationUnreachable(icmpv4::DestUnreachableHeader::Host);
    eth().ipv4(CLIENT4, VIP4, 9).icmpv4(unreachable).write(&mut messages[0], &[0x45; 28]).unwrap();
    let too_big = Icmpv6Type::PacketTooBig { mtu: 1280 };
    eth().ipv6(CLIENT6, VIP6, 9).icmpv6(too_big).write(&mut messages[1], &[0x60; 48]).unwrap();
    let echo = IcmpEchoHeader { id: 1, seq: 1 };
    eth().ipv4(CLIENT4, VIP4, 9).icmpv4(Icmpv4Type::EchoRequest(echo)).write(&mut messages[2], b"x").unwrap();
    eth().ipv6(CLIENT6, VIP6, 9).icmpv6(Icmpv6Type::EchoRequest(echo)).write(&mut messages[3], b"x").unwrap();
    for message in &messages {
        assert_eq!(refusal_of(message), None);
    }

    let fragment = |flags: [u8; 2]| {
        let mut frame = datagram(false, 10);
        frame[20..22].copy_from_slice(&flags);
        fix_header(&mut frame);
        frame
    };
    assert!(refusal_of(&fragment([0x20, 0])).is_some(), "the first part");
    assert_eq!(refusal_of(&fragment([0x20, 2])), None, "a later part");
    assert_eq!(refusal_of(&with_protocol(fragment([0x20, 0]), protocol::TCP)), None, "a part of a segment");

    let mut from_group = datagram(true, 10);
    from_group[22] = 0xff;
    assert_eq!(refusal_of(&from_group), None);
    let mut to_all = datagram(false, 10);
    to_all[..6].fill(0xff);
    assert_eq!(refusal_of(&to_all), None, "in a broadcast frame");
}

#[test]
fn a_damaged_datagram_is_not_refused_but_one_without_a_checksum_is() {
    let mut damaged = datagram(false, 10);
    damaged[45] ^= 1;
    assert_eq!(refusal_of(&damaged), None);
    damaged[40..42].fill(0);
    assert!(refusal_of(&damaged).is_some());
    let mut without = datagram(true, 10);
    without[60..62].fill(0);
    assert_eq!(refusal_of(&without), None, "IPv6 has no such thing");
}

fn with_protocol(mut frame: Vec<u8>, number: u8) -> Vec<u8> {
    frame[23] = number;
    fix_header(&mut frame);
    frame
}

fn fix_header(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}
