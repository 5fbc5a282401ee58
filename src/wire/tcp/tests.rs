use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice, VlanId};

use super::*;
use crate::wire::checksum::Sum;

const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 1];
const US: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A segment from a client's port 40000 to ours, 80; `shape` sets sequence number and flags.
fn segment(v6: bool, tagged: bool, shape: impl FnOnce(&mut etherparse::TcpHeader), body: &[u8]) -> Vec<u8> {
    let mut tcp = etherparse::TcpHeader::new(40000, 80, 1000, 64240);
    shape(&mut tcp);
    let eth = PacketBuilder::ethernet2(CLIENT, US);
    let mut frame = Vec::new();
    let (a, b) = ([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [0xfd; 16]);
    let ip = match (v6, tagged) {
        (false, false) => eth.ipv4([10, 0, 0, 1], [10, 0, 0, 100], 37),
        (false, true) => eth.single_vlan(VlanId::try_new(5).unwrap()).ipv4([10, 0, 0, 1], [10, 0, 0, 100], 37),
        (true, false) => eth.ipv6(a, b, 37),
        (true, true) => eth.single_vlan(VlanId::try_new(5).unwrap()).ipv6(a, b, 37),
    };
    ip.tcp_header(tcp).write(&mut frame, body).unwrap();
    frame
}

fn heads(frame: &[u8]) -> (ether::Header, ip::Header) {
    let eth = ether::parse(frame).unwrap();
    (eth, ip::parse(eth.ethertype, &frame[eth.payload..]).unwrap())
}

fn reset_of(frame: &[u8]) -> Option<Vec<u8>> {
    let (eth, header) = heads(frame);
    reset(frame, &eth, &header)
}

fn syn_ack_of(frame: &[u8]) -> Option<Vec<u8>> {
    let (eth, header) = heads(frame);
    syn_ack(frame, &eth, &header, 0xfeed_beef, 10)
}

/// Takes an answer to `asked` apart; lengths, checksums, MACs, tags, addresses and ports have to be right.
fn with_answer<T>(asked: &[u8], answer: &[u8], look: impl FnOnce(&TcpSlice<'_>) -> T) -> T {
    assert_eq!((&answer[..6], &answer[6..12]), (&asked[6..12], &asked[..6]), "MACs swapped");
    let (eth, header) = heads(answer);
    assert_eq!(answer[12..eth.payload], asked[12..eth.payload], "tags and EtherType");
    assert_eq!(answer.len(), eth.payload + header.end, "nothing behind the packet");
    assert_eq!(header.hop_limit, 64);
    let (_, request) = heads(asked);
    assert_eq!((header.source, header.destination), (request.destination, request.source));
    let sliced = SlicedPacket::from_ethernet(answer).unwrap();
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("no TCP") };
    match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            let h = ip.header();
            assert_eq!(h.header_checksum(), h.to_header().calc_header_checksum());
            assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv4(h.source(), h.destination()).unwrap());
            assert!(h.dont_fragment());
        }
        NetSlice::Ipv6(ip) => {
            let h = ip.header();
            assert_eq!(tcp.checksum(), tcp.calc_checksum_ipv6(h.source(), h.destination()).unwrap());
        }
        NetSlice::Arp(_) => panic!("ARP"),
    }
    assert_eq!((tcp.source_port(), tcp.destination_port()), (80, 40000));
    look(tcp)
}

#[test]
fn a_syn_is_answered_with_a_small_window_and_the_smallest_mss() {
    for (v6, tagged) in [(false, false), (false, true), (true, false), (true, true)] {
        let syn = segment(v6, tagged, |tcp| tcp.syn = true, b"");
        let answer = syn_ack_of(&syn).expect("an answer");
        with_answer(&syn, &answer, |tcp| {
            assert!(tcp.syn() && tcp.ack() && !tcp.rst() && !tcp.fin());
            assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0xfeed_beef, 1001));
            assert_eq!(tcp.window_size(), 10);
            let mss = if v6 { 1220 } else { 536 };
            let options: Vec<_> = tcp.options_iterator().collect();
            assert_eq!(options, [Ok(TcpOptionElement::MaximumSegmentSize(mss))]);
        });
    }
}

#[test]
fn only_what_opens_a_connection_gets_a_syn_ack() {
    let ecn = segment(false, false, |tcp| (tcp.syn, tcp.ece, tcp.cwr) = (true, true, true), b"");
    assert!(syn_ack_of(&ecn).is_some(), "a client that speaks ECN");
    let early = segment(false, false, |tcp| tcp.syn = true, b"early");
    let answer = syn_ack_of(&early).expect("an answer to a SYN with data");
    with_answer(&early, &answer, |tcp| assert_eq!(tcp.acknowledgment_number(), 1001, "not to the data"));
    let shapes: [fn(&mut etherparse::TcpHeader); 6] = [
        |tcp| (tcp.syn, tcp.ack) = (true, true),
        |tcp| (tcp.syn, tcp.rst) = (true, true),
        |tcp| (tcp.syn, tcp.fin) = (true, true),
        |tcp| tcp.ack = true,
        |tcp| tcp.fin = true,
        |_| {},
    ];
    for shape in shapes {
        assert_eq!(syn_ack_of(&segment(false, false, shape, b"")), None);
    }
}

#[test]
fn without_ack_the_reset_acknowledges_all_that_came() {
    type Shape = fn(&mut etherparse::TcpHeader);
    let cases: [(Shape, &[u8], u32); 4] = [
        (|tcp| tcp.syn = true, b"", 1001),
        (|tcp| tcp.fin = true, b"data", 1005),
        (|_| {}, b"data", 1004),
        (|tcp| (tcp.syn, tcp.sequence_number) = (true, u32::MAX), b"", 0),
    ];
    for (shape, body, acknowledged) in cases {
        for (v6, tagged) in [(false, true), (true, false)] {
            let asked = segment(v6, tagged, shape, body);
            let answer = reset_of(&asked).expect("an answer");
            with_answer(&asked, &answer, |tcp| {
                assert!(tcp.rst() && tcp.ack() && !tcp.syn());
                assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (0, acknowledged));
                assert_eq!((tcp.data_offset(), tcp.window_size()), (5, 0));
            });
        }
    }
}

#[test]
fn with_ack_the_reset_comes_from_where_the_client_is() {
    let asked = segment(false, false, |tcp| (tcp.ack, tcp.acknowledgment_number) = (true, 7777), b"data");
    let answer = reset_of(&asked).expect("an answer");
    with_answer(&asked, &answer, |tcp| {
        assert!(tcp.rst() && !tcp.ack());
        assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (7777, 0));
    });
}

#[test]
fn a_reset_is_never_answered_and_ethernet_padding_is_no_data() {
    assert_eq!(reset_of(&segment(false, false, |tcp| tcp.rst = true, b"")), None);
    let mut padded = segment(false, false, |tcp| tcp.syn = true, b"");
    padded.resize(60, 0xaa);
    let answer = reset_of(&padded).expect("an answer");
    with_answer(&padded, &answer, |tcp| assert_eq!(tcp.acknowledgment_number(), 1001));
}

#[test]
fn what_arrived_damaged_is_not_answered_but_an_unfinished_checksum_is() {
    let good = segment(false, false, |tcp| tcp.syn = true, b"");
    for at in [14 + 8, 14 + 20 + 4] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        assert_eq!(reset_of(&damaged), None, "byte {at}");
        assert_eq!(syn_ack_of(&damaged), None, "byte {at}");
    }
    let mut unfinished = good;
    let (_, header) = heads(&unfinished);
    let pseudo = Sum::default().pseudo_header(header.source, header.destination, protocol::TCP, 20).fold();
    unfinished[14 + 20 + 16..14 + 20 + 18].copy_from_slice(&pseudo.to_be_bytes());
    assert!(reset_of(&unfinished).is_some() && syn_ack_of(&unfinished).is_some());
}

#[test]
fn who_is_not_one_host_gets_nothing() {
    let good = segment(false, false, |tcp| tcp.syn = true, b"");
    let from = |source: [u8; 4]| {
        let mut frame = good.clone();
        frame[26..30].copy_from_slice(&source);
        rewrite_checksums(&mut frame);
        frame
    };
    assert!(reset_of(&from([10, 0, 0, 1])).is_some());
    for source in [[0; 4], [127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [10, 0, 0, 100]] {
        assert_eq!(reset_of(&from(source)), None, "{source:?}");
        assert_eq!(syn_ack_of(&from(source)), None, "{source:?}");
    }
    for (at, group) in [(0, [0xff; 6]), (6, [0x33, 0x33, 0, 0, 0, 1]), (6, [0; 6])] {
        let mut frame = good.clone();
        frame[at..at + 6].copy_from_slice(&group);
        assert_eq!(reset_of(&frame), None, "{group:?} at {at}");
    }
}

fn rewrite_checksums(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let sum = Sum::default().bytes(&frame[14..34]).checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    let (_, header) = heads(frame);
    frame[50..52].fill(0);
    let pseudo = Sum::default().pseudo_header(header.source, header.destination, protocol::TCP, frame.len() - 34);
    let sum = pseudo.bytes(&frame[34..]).checksum();
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
}
