//! Frames that are not ours to touch, and our own come back.

use pen_dsr::verdict::DropReason::Looped;

use super::Expect::{Drop, Host};
use super::Row;
use super::config::{ALL, BE1, OWN, VIP_MAC};
use super::frames::{BROADCAST, CLIENT, Packet, Tags, patched};

/// A frame to us with any EtherType, or the length of IEEE 802.3.
fn ethernet(destination: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &CLIENT, &ethertype.to_be_bytes(), payload].concat()
}

#[rustfmt::skip] // One row, one line.
pub fn rows() -> Vec<Row> {
    let (vip, vip6) = (ALL[0], ALL[1]);
    let packet = Packet::new(VIP_MAC, "10.0.0.4", vip).tcp(40000, 80, b"x");
    let tagged = Packet::new(VIP_MAC, "10.0.0.4", vip).tags(Tags::QinQ(5, 7)).tcp(40000, 80, b"x");
    let third = [&tagged[..12], &[0x88, 0xa8, 0, 1], &tagged[12..]].concat();
    let spanning_tree = [0x42, 0x42, 0x03, 0, 0, 0, 0, 0, 0x80, 0, 2, 0, 0, 0, 0, 0xfe];
    vec![
        Row::new("for a VIP, to somebody else's MAC", Packet::new(BE1, "10.0.0.4", vip).tcp(40000, 80, b"x"), Host),
        Row::new("for a VIP, v6, to somebody else's MAC", Packet::new(BE1, "fd00::1", vip6).udp(40000, 80, b"x"), Host),
        Row::new("for a VIP, to all MACs", Packet::new(BROADCAST, "10.0.0.4", vip).udp(40000, 80, b"x"), Host),
        Row::new("for a VIP, v6, to a group MAC", Packet::new([0x33, 0x33, 0, 0, 0, 1], "fd00::1", vip6).udp(40000, 80, b"x"), Host),
        Row::new("our own frame, come back", Packet::new(VIP_MAC, "10.0.0.4", vip).sent_by(OWN).tcp(40000, 80, b"x"), Drop(Looped)),
        Row::new("our own frame, v6, come back", Packet::new(OWN, "fd00::1", vip6).sent_by(OWN).udp(40000, 80, b"x"), Drop(Looped)),
        Row::new("our own frame with the announced MAC, come back", Packet::new(OWN, "10.0.0.4", vip).sent_by(VIP_MAC).tcp(40000, 80, b"x"), Drop(Looped)),
        Row::new("for the host's own address", Packet::new(OWN, "10.0.0.4", "10.0.0.2").tcp(40000, 22, b"x"), Host),
        Row::new("for the host's own address, v6, 802.1Q", Packet::new(OWN, "fd00::1", "fd00::2").tags(Tags::Customer(7)).tcp(40000, 22, b"x"), Host),
        Row::new("a VIP as source is no VIP as destination", Packet::new(OWN, vip, "10.0.0.1").tcp(80, 40000, b"x"), Host),
        Row::new("to the network's broadcast address", Packet::new(BROADCAST, "10.0.0.4", "10.0.0.255").udp(68, 67, b"x"), Host),
        Row::new("to an IPv4 group", Packet::new([1, 0, 0x5e, 0, 0, 0xfb], "10.0.0.4", "224.0.0.251").udp(5353, 5353, b"x"), Host),
        Row::new("to an IPv6 group", Packet::new([0x33, 0x33, 0, 0, 0, 0xfb], "fd00::1", "ff02::fb").udp(5353, 5353, b"x"), Host),
        Row::new("a VIP behind three tags", third, Host),
        Row::new("a VIP behind a tag of the old kind (0x9100)", patched(tagged, 12, &[0x91, 0]), Host),
        Row::new("LLDP", ethernet([1, 0x80, 0xc2, 0, 0, 0x0e], 0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0]), Host),
        Row::new("spanning tree in a frame with a length", ethernet([1, 0x80, 0xc2, 0, 0, 0], 16, &spanning_tree), Host),
        Row::new("a frame with a length, to us", ethernet(VIP_MAC, 46, &[0xaa; 46]), Host),
        Row::new("MPLS to us", ethernet(VIP_MAC, 0x8847, &[&[0, 1, 1, 64][..], &packet[14..]].concat()), Host),
        Row::new("PPPoE to us", ethernet(VIP_MAC, 0x8864, &[0x11, 0, 0, 1, 0, 2, 0, 0x21]), Host),
        Row::new("Wake on LAN", ethernet(BROADCAST, 0x0842, &[0xff; 102]), Host),
    ]
}
