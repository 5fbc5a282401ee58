//! TCP and UDP for a VIP: what is forwarded, and what is not because of the service or its backends.

use etherparse::{IpAuthHeader, IpNumber, Ipv6Extensions, Ipv6RawExtHeader, Ipv6RoutingExtensions};
use pen_dsr::verdict::DropReason::{Held, NoBackend, Unresolved};

use super::Expect::{Drop, Forward, Host};
use super::Row;
use super::config::{ALL, BE1, BE2, BE3, DEAD, OWN, SOME, UNRESOLVED, VIP_MAC};
use super::frames::{Packet, ROUTER, Tags, padded, patched};

fn v4(client: &str) -> Packet {
    Packet::new(VIP_MAC, client, ALL[0])
}

fn v6(client: &str) -> Packet {
    Packet::new(VIP_MAC, client, ALL[1])
}

fn to(vip: &str) -> Packet {
    Packet::new(VIP_MAC, if vip.contains(':') { "fd00::1" } else { "10.0.0.4" }, vip)
}

/// An options extension header of eight bytes that holds a PadN option.
fn padding() -> Ipv6RawExtHeader {
    Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[1, 4, 0, 0, 0, 0]).expect("an extension header")
}

fn all_extensions() -> Ipv6Extensions {
    Ipv6Extensions {
        hop_by_hop_options: Some(padding()),
        destination_options: Some(padding()),
        routing: Some(Ipv6RoutingExtensions { routing: padding(), final_destination_options: Some(padding()) }),
        fragment: None,
        auth: Some(IpAuthHeader::new(IpNumber::UDP, 1, 2, &[0xa5; 12]).expect("an authentication header")),
    }
}

#[rustfmt::skip] // One row, one line.
pub fn rows() -> Vec<Row> {
    let options = [0x94, 4, 0, 0, 1, 1, 1, 0]; // router alert, padding
    let hop_by_hop = Ipv6Extensions { hop_by_hop_options: Some(padding()), ..Ipv6Extensions::default() };
    let destination = Ipv6Extensions { destination_options: Some(padding()), ..Ipv6Extensions::default() };
    let word = [0; 4];
    vec![
        Row::new("v4 TCP SYN, client of the first backend", v4("10.0.0.4").syn(40000, 80), Forward(BE1)),
        Row::new("v4 TCP SYN, client of the second backend", v4("10.0.0.3").syn(40000, 80), Forward(BE2)),
        Row::new("v4 TCP SYN, client of the third backend", v4("10.0.0.1").syn(40000, 80), Forward(BE3)),
        Row::new("v4 TCP data, another client port, same backend", v4("10.0.0.4").tcp(40001, 80, b"GET / HTTP/1.0\r\n\r\n"), Forward(BE1)),
        Row::new("v4 TCP, another service port, same backend", v4("10.0.0.4").tcp(40001, 65535, b""), Forward(BE1)),
        Row::new("v4 TCP through a router", v4("198.51.100.3").sent_by(ROUTER).tcp(40000, 443, b"x"), Forward(BE1)),
        Row::new("v4 UDP through a router", v4("198.51.100.8").sent_by(ROUTER).udp(40000, 53, b"query"), Forward(BE2)),
        Row::new("v4 UDP", v4("198.51.100.7").udp(40000, 9, b"datagram"), Forward(BE3)),
        Row::new("v4 UDP without payload", v4("10.0.0.1").udp(40000, 9, b""), Forward(BE3)),
        Row::new("v4 UDP without checksum", patched(v4("10.0.0.1").udp(40000, 9, b"x"), 14 + 20 + 6, &[0, 0]), Forward(BE3)),
        Row::new("v4 TCP to the interface's own MAC", Packet::new(OWN, "10.0.0.3", ALL[0]).tcp(40000, 80, b""), Forward(BE2)),
        Row::new("v4 TCP padded to 60 bytes keeps its padding", padded(v4("10.0.0.3").tcp(40000, 80, b"")), Forward(BE2)),
        Row::new("v4 TCP with IP options", v4("10.0.0.4").options(&options).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v4 UDP with 40 bytes of IP options", v4("10.0.0.4").options(&[1; 40]).udp(40000, 53, b"x"), Forward(BE1)),
        Row::new("v4 TCP with TTL 1: a bridge counts no hops", v4("10.0.0.1").hop_limit(1).tcp(40000, 80, b"x"), Forward(BE3)),
        Row::new(
            "v4 TCP whose IP header checksum is wrong stays so, for the backend to see",
            patched(v4("10.0.0.4").tcp(40000, 80, b"x"), 24, &[0xde, 0xad]),
            Forward(BE1),
        ),
        Row::new(
            "v4 TCP with an unfinished checksum stays unfinished: its metadata travels with it",
            patched(v4("10.0.0.4").tcp(40000, 80, b"x"), 14 + 20 + 16, &[0x14, 0x83]),
            Forward(BE1),
        ),
        Row::new("v4 TCP segment of 4000 bytes (segmentation offload)", v4("10.0.0.1").tcp(40000, 80, &[0x55; 4000]), Forward(BE3)),
        Row::new("v4 TCP, 802.1Q", v4("10.0.0.4").tags(Tags::Customer(7)).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v4 TCP, priority tag (VLAN 0)", v4("10.0.0.4").tags(Tags::Customer(0)).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v4 TCP, QinQ", v4("10.0.0.3").tags(Tags::QinQ(5, 7)).tcp(40000, 80, b"x"), Forward(BE2)),
        Row::new("v4 UDP, 802.1Q, options", v4("10.0.0.1").tags(Tags::Customer(4094)).options(&options).udp(1, 2, b"x"), Forward(BE3)),
        Row::new("v4 UDP, QinQ", v4("10.0.0.1").tags(Tags::QinQ(5, 7)).udp(1, 2, b"x"), Forward(BE3)),
        Row::new("v6 TCP SYN, client of the first backend", v6("fd00::1").syn(40000, 80), Forward(BE1)),
        Row::new("v6 TCP SYN, client of the second backend", v6("2001:db8::1").sent_by(ROUTER).syn(40000, 80), Forward(BE2)),
        Row::new("v6 TCP SYN, client of the third backend", v6("fd00::5").syn(40000, 80), Forward(BE3)),
        Row::new("v6 UDP", v6("fd00::5").udp(40000, 53, b"query"), Forward(BE3)),
        Row::new("v6 UDP, hop-by-hop options", v6("fd00::1").extensions(hop_by_hop).udp(40000, 53, b"x"), Forward(BE1)),
        Row::new("v6 TCP, destination options", v6("fd00::1").extensions(destination).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v6 TCP behind five extension headers", v6("2001:db8::1").extensions(all_extensions()).tcp(40000, 80, b"x"), Forward(BE2)),
        Row::new("v6 UDP, QinQ, five extension headers", v6("fd00::5").tags(Tags::QinQ(5, 7)).extensions(all_extensions()).udp(1, 2, b"x"), Forward(BE3)),
        Row::new("v6 TCP, 802.1Q", v6("fd00::1").tags(Tags::Customer(7)).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v6 TCP, QinQ", v6("fd00::1").tags(Tags::QinQ(5, 7)).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v6 UDP, 802.1Q", v6("2001:db8::6").tags(Tags::Customer(7)).udp(1, 2, b"x"), Forward(BE1)),
        Row::new("v4 TCP to the port that is served", to(SOME[0]).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v4 UDP to the port that is served", to(SOME[0]).udp(40000, 53, b"x"), Forward(BE1)),
        Row::new("v4 TCP to a port that is not served", to(SOME[0]).tcp(40000, 443, b"x"), Host),
        Row::new("v4 TCP to the port that is served for UDP", to(SOME[0]).tcp(40000, 53, b"x"), Host),
        Row::new("v4 UDP to the port that is served for TCP", to(SOME[0]).udp(40000, 80, b"x"), Host),
        Row::new("v6 TCP to the port that is served", to(SOME[1]).tcp(40000, 80, b"x"), Forward(BE1)),
        Row::new("v6 UDP to the port that is served, QinQ", to(SOME[1]).tags(Tags::QinQ(1, 2)).udp(40000, 53, b"x"), Forward(BE1)),
        Row::new("v6 TCP to a port that is not served", to(SOME[1]).tcp(40000, 22, b"x"), Host),
        Row::new("v6 UDP to the port that is served for TCP", to(SOME[1]).udp(40000, 80, b"x"), Host),
        Row::new("v4 TCP, no backend in service", to(DEAD[0]).tcp(40000, 80, b"x"), Drop(NoBackend)),
        Row::new("v4 UDP, no backend in service", to(DEAD[0]).udp(40000, 80, b"x"), Drop(NoBackend)),
        Row::new("v6 TCP, no backend in service, 802.1Q", to(DEAD[1]).tags(Tags::Customer(7)).tcp(40000, 80, b"x"), Drop(NoBackend)),
        Row::new("v4 TCP waits for its backend's MAC", to(UNRESOLVED[0]).tcp(40000, 80, b"x"), Drop(Held)),
        Row::new("v6 UDP waits for its backend's MAC", to(UNRESOLVED[1]).udp(40000, 80, b"x"), Drop(Held)),
        Row::new("v4 TCP too large to wait for its backend's MAC", to(UNRESOLVED[0]).tcp(40000, 80, &[0; 2100]), Drop(Unresolved)),
        Row::new("v4 GRE to a VIP", v4("10.0.0.4").protocol(47, &[0, 0, 0x08, 0x00, 0x45, 0, 0, 0]), Host),
        Row::new("v4 SCTP to a VIP", v4("10.0.0.4").protocol(132, &[0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0]), Host),
        Row::new("v4 ESP to a VIP", v4("10.0.0.4").protocol(50, &[0, 0, 0, 1, 0, 0, 0, 1]), Host),
        Row::new("v4 UDP-Lite to a VIP", v4("10.0.0.4").protocol(136, &[0x9c, 0x40, 0, 80, 0, 0, 0, 0]), Host),
        Row::new("v6 SCTP to a VIP", v6("fd00::1").protocol(132, &[0x9c, 0x40, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0]), Host),
        Row::new("v6 without a next header", v6("fd00::1").protocol(59, &word), Host),
        Row::new("v4 with ICMPv6 in it", v4("10.0.0.4").protocol(58, &[128, 0, 0, 0, 0, 1, 0, 1]), Host),
        Row::new("v6 with ICMP in it", v6("fd00::1").protocol(1, &[8, 0, 0xf7, 0xfd, 0, 1, 0, 1]), Host),
    ]
}
