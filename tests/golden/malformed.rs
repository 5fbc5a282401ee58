//! Frames that are not what they say they are, cut or bent at each layer.

use etherparse::{IpNumber, Ipv6Extensions, Ipv6RawExtHeader};
use pen_dsr::verdict::DropReason::Malformed;

use super::Expect::{Drop, Host};
use super::Row;
use super::config::{ALL, VIP_MAC};
use super::frames::{Packet, Tags, cut, patched};

pub fn rows() -> Vec<Row> {
    let mut rows = cut_frames();
    rows.extend(bent_v4());
    rows.extend(bent_v6());
    rows
}

fn v4() -> Packet {
    Packet::new(VIP_MAC, "10.0.0.4", ALL[0])
}

fn v6() -> Packet {
    Packet::new(VIP_MAC, "fd00::1", ALL[1])
}

#[rustfmt::skip] // One row, one line.
fn cut_frames() -> Vec<Row> {
    let tcp4 = v4().tcp(40000, 80, b"");
    let tcp6 = v6().tcp(40000, 80, b"");
    let tagged = v4().tags(Tags::Customer(7)).tcp(40000, 80, b"");
    let qinq = v6().tags(Tags::QinQ(5, 7)).udp(40000, 80, b"");
    vec![
        Row::new("no bytes at all", Vec::new(), Host),
        Row::new("a runt of one byte", vec![2], Host),
        Row::new("a runt of two MACs", cut(tcp4.clone(), 12), Host),
        Row::new("a runt of thirteen bytes", cut(tcp4.clone(), 13), Host),
        Row::new("802.1Q, cut in the tag", cut(tagged.clone(), 17), Host),
        Row::new("QinQ, cut in the second tag", cut(qinq.clone(), 21), Host),
        Row::new("v4 without an IP header", cut(tcp4.clone(), 14), Drop(Malformed)),
        Row::new("v4 cut before its destination's end", cut(tcp4.clone(), 33), Drop(Malformed)),
        Row::new("v4 cut behind the IP header", cut(tcp4.clone(), 34), Drop(Malformed)),
        Row::new("v4 TCP cut by a byte", cut(tcp4, 53), Drop(Malformed)),
        Row::new("v4 cut in the IP header, 802.1Q", cut(tagged, 30), Drop(Malformed)),
        Row::new("v6 without an IP header", cut(tcp6.clone(), 14), Drop(Malformed)),
        Row::new("v6 cut before its destination's end", cut(tcp6.clone(), 53), Drop(Malformed)),
        Row::new("v6 cut behind the IP header", cut(tcp6.clone(), 54), Drop(Malformed)),
        Row::new("v6 TCP cut by a byte", cut(tcp6, 73), Drop(Malformed)),
        Row::new("v6 UDP cut by a byte, QinQ", cut(qinq, 69), Drop(Malformed)),
    ]
}

#[rustfmt::skip] // One row, one line.
fn bent_v4() -> Vec<Row> {
    let tcp = v4().tcp(40000, 80, b"payload");
    let udp = v4().udp(40000, 80, b"payload");
    vec![
        Row::new("v4 echo request, IP header checksum wrong", patched(v4().echo_request(1, 1, b"ping"), 24, &[0xde, 0xad]), Drop(Malformed)),
        Row::new("v4 that says it is version 6", patched(tcp.clone(), 14, &[0x65]), Drop(Malformed)),
        Row::new("v4 header length of four words", patched(tcp.clone(), 14, &[0x44]), Drop(Malformed)),
        Row::new("v4 header length behind the frame's end", patched(v4().protocol(17, &[0; 8]), 14, &[0x4f]), Drop(Malformed)),
        Row::new("v4 total length of 0", patched(tcp.clone(), 16, &[0, 0]), Drop(Malformed)),
        Row::new("v4 total length below the header's", patched(tcp.clone(), 16, &[0, 19]), Drop(Malformed)),
        Row::new("v4 total length behind the frame's end", patched(tcp.clone(), 16, &[0, 48]), Drop(Malformed)),
        Row::new("v4 total length that cuts the TCP header", patched(tcp.clone(), 16, &[0, 39]), Drop(Malformed)),
        Row::new("v4 TCP data offset of four words", patched(tcp.clone(), 46, &[0x40]), Drop(Malformed)),
        Row::new("v4 TCP data offset of 0", patched(tcp.clone(), 46, &[0]), Drop(Malformed)),
        Row::new("v4 TCP data offset behind the segment's end", patched(tcp, 46, &[0x70]), Drop(Malformed)),
        Row::new("v4 UDP of seven bytes", v4().protocol(17, &[0x9c, 0x40, 0, 80, 0, 7, 0]), Drop(Malformed)),
        Row::new("v4 UDP length of seven", patched(udp, 38, &[0, 7]), Drop(Malformed)),
        Row::new("v4 ICMP of seven bytes", v4().protocol(1, &[8, 0, 0xf7, 0xff, 0, 0, 0]), Drop(Malformed)),
    ]
}

#[rustfmt::skip] // One row, one line.
fn bent_v6() -> Vec<Row> {
    let tcp = v6().tcp(40000, 80, b"payload");
    let udp = v6().udp(40000, 80, b"payload");
    let options = Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[1, 4, 0, 0, 0, 0]).expect("an extension header");
    let one = Ipv6Extensions { destination_options: Some(options), ..Ipv6Extensions::default() };
    // Each says that another like it follows.
    let chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(9);
    vec![
        Row::new("v6 that says it is version 4", patched(tcp.clone(), 14, &[0x45]), Drop(Malformed)),
        Row::new("v6 payload length behind the frame's end", patched(tcp.clone(), 18, &[0, 28]), Drop(Malformed)),
        Row::new("v6 payload length that cuts the TCP header", patched(tcp.clone(), 18, &[0, 19]), Drop(Malformed)),
        Row::new("v6 payload length of 0", patched(tcp.clone(), 18, &[0, 0]), Drop(Malformed)),
        Row::new("v6 TCP data offset of four words", patched(tcp.clone(), 66, &[0x40]), Drop(Malformed)),
        Row::new("v6 TCP data offset behind the segment's end", patched(tcp, 66, &[0xf0]), Drop(Malformed)),
        Row::new("v6 UDP of seven bytes", v6().protocol(17, &[0x9c, 0x40, 0, 80, 0, 7, 0]), Drop(Malformed)),
        Row::new("v6 UDP length of seven", patched(udp, 58, &[0, 7]), Drop(Malformed)),
        Row::new("v6 ICMP of seven bytes", v6().protocol(58, &[128, 0, 0, 0, 0, 1, 0]), Drop(Malformed)),
        Row::new("v6 extension headers without end", v6().protocol(60, &chain), Drop(Malformed)),
        Row::new("v6 extension header behind the packet's end", patched(v6().extensions(one).udp(1, 2, b"x"), 55, &[2]), Drop(Malformed)),
        Row::new("v6 extension header of one byte", v6().protocol(0, &[17]), Drop(Malformed)),
        Row::new("v6 authentication header behind the packet's end", v6().protocol(51, &[17, 200, 0, 0, 0, 0, 0, 1]), Drop(Malformed)),
        Row::new("v6 fragment header of seven bytes", v6().protocol(44, &[17, 0, 0, 1, 0, 0, 0]), Drop(Malformed)),
    ]
}
