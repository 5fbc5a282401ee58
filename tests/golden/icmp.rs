//! ICMP for a VIP: pings are answered, errors go to the backend of the flow that they quote.

use etherparse::{IpNumber, Ipv6Extensions, Ipv6RawExtHeader};
use pen_dsr::verdict::DropReason::{Malformed, NoBackend};

use super::Expect::{Answer, Drop, Forward, Host};
use super::Row;
use super::config::{ALL, BE1, BE2, BE3, DEAD, OWN, SOME, VIP_MAC};
use super::frames::{BROADCAST, CLIENT, Packet, ROUTER, Tags, padded, patched, quote, udp_datagram};

const HOP4: &str = "203.0.113.1";
const HOP6: &str = "2001:db8:f::1";

pub fn rows() -> Vec<Row> {
    let mut rows = echo();
    rows.extend(errors_v4());
    rows.extend(errors_v6());
    rows
}

fn request(client: &str, vip: &str) -> Packet {
    Packet::new(VIP_MAC, client, vip)
}

/// The frame that answers: from the MAC that was asked, TTL 64.
fn reply(vip: &str, client: &str) -> Packet {
    Packet::new(CLIENT, vip, client).sent_by(VIP_MAC).hop_limit(64)
}

#[rustfmt::skip] // One row, one line.
fn echo() -> Vec<Row> {
    let ping = b"0123456789abcdef";
    let word = [0x12, 0x34, 0, 7];
    let (v4, v6) = ("10.0.0.1", "fd00::1");
    let (tag, tags) = (Tags::Customer(7), Tags::QinQ(5, 7));
    let echo = |client: &str, vip: &str| request(client, vip).echo_request(0x1234, 7, ping);
    let answer4 = |vip: &str| reply(vip, v4).icmp(0, 0, word, ping);
    let answer6 = |vip: &str| reply(vip, v6).icmp(129, 0, word, ping);
    let options = Ipv6Extensions {
        destination_options: Some(Ipv6RawExtHeader::new_raw(IpNumber::UDP, &[1, 4, 0, 0, 0, 0]).expect("an extension header")),
        ..Ipv6Extensions::default()
    };
    let own = Packet::new(OWN, v4, ALL[0]).echo_request(0x1234, 7, ping);
    let from_own = Packet::new(CLIENT, ALL[0], v4).sent_by(OWN).hop_limit(64).icmp(0, 0, word, ping);
    // The checksum is changed by as much as the type: what was wrong stays wrong.
    let (damaged, damaged_answer) = (patched(echo(v4, ALL[0]), 45, b"!"), patched(answer4(ALL[0]), 45, b"!"));
    vec![
        Row::new("v4 echo request", echo(v4, ALL[0]), Answer(answer4(ALL[0]))),
        Row::new("v4 echo request to the interface's own MAC", own, Answer(from_own)),
        Row::new("v4 echo request without payload", request(v4, ALL[0]).echo_request(1, 0, b""), Answer(reply(ALL[0], v4).icmp(0, 0, [0, 1, 0, 0], b""))),
        Row::new(
            "v4 echo request of an odd length",
            request(v4, ALL[0]).echo_request(0xffff, 0xffff, b"odd"),
            Answer(reply(ALL[0], v4).icmp(0, 0, [0xff; 4], b"odd")),
        ),
        Row::new("v4 echo request, padded", padded(request(v4, ALL[0]).echo_request(1, 0, b"x")), Answer(padded(reply(ALL[0], v4).icmp(0, 0, [0, 1, 0, 0], b"x")))),
        Row::new(
            "v4 echo request, 802.1Q",
            request(v4, ALL[0]).tags(tag).echo_request(0x1234, 7, ping),
            Answer(reply(ALL[0], v4).tags(tag).icmp(0, 0, word, ping)),
        ),
        Row::new(
            "v4 echo request, QinQ",
            request(v4, ALL[0]).tags(tags).echo_request(0x1234, 7, ping),
            Answer(reply(ALL[0], v4).tags(tags).icmp(0, 0, word, ping)),
        ),
        Row::new("v4 echo request, damaged: so is the reply", damaged, Answer(damaged_answer)),
        Row::new("v4 echo request, no backend in service", echo(v4, DEAD[0]), Answer(answer4(DEAD[0]))),
        Row::new("v4 echo request where some ports are served", echo(v4, SOME[0]), Answer(answer4(SOME[0]))),
        Row::new("v4 echo request with options", request(v4, ALL[0]).options(&[1; 4]).echo_request(1, 1, ping), Host),
        Row::new("v4 echo request with a code", request(v4, ALL[0]).icmp(8, 1, word, ping), Host),
        Row::new("v4 echo request from nobody", echo("0.0.0.0", ALL[0]), Drop(Malformed)),
        Row::new("v4 echo request from everybody", echo("255.255.255.255", ALL[0]), Drop(Malformed)),
        Row::new("v4 echo request from a group", echo("224.0.0.1", ALL[0]), Drop(Malformed)),
        Row::new("v4 echo request from a group MAC", request(v4, ALL[0]).sent_by(BROADCAST).echo_request(1, 1, ping), Drop(Malformed)),
        Row::new("v4 echo reply", request(v4, ALL[0]).icmp(0, 0, word, ping), Host),
        Row::new("v4 timestamp request", request(v4, ALL[0]).icmp(13, 0, word, &[0; 12]), Host),
        Row::new("v6 echo request", echo(v6, ALL[1]), Answer(answer6(ALL[1]))),
        Row::new(
            "v6 echo request, 802.1Q",
            request(v6, ALL[1]).tags(tag).echo_request(0x1234, 7, ping),
            Answer(reply(ALL[1], v6).tags(tag).icmp(129, 0, word, ping)),
        ),
        Row::new(
            "v6 echo request, QinQ",
            request(v6, ALL[1]).tags(tags).echo_request(0x1234, 7, ping),
            Answer(reply(ALL[1], v6).tags(tags).icmp(129, 0, word, ping)),
        ),
        Row::new("v6 echo request, no backend in service", echo(v6, DEAD[1]), Answer(answer6(DEAD[1]))),
        Row::new("v6 echo request with an extension header", request(v6, ALL[1]).extensions(options).echo_request(1, 1, ping), Host),
        Row::new("v6 echo request from nobody", echo("::", ALL[1]), Drop(Malformed)),
        Row::new("v6 echo request from a group", echo("ff02::1", ALL[1]), Drop(Malformed)),
        Row::new("v6 echo reply", request(v6, ALL[1]).icmp(129, 0, word, ping), Host),
    ]
}

/// What a backend had sent in the VIP's name.
fn sent(vip: &str, client: &str) -> Packet {
    Packet::new(ROUTER, vip, client)
}

fn error(vip: &str) -> Packet {
    Packet::new(VIP_MAC, if vip.contains(':') { HOP6 } else { HOP4 }, vip).sent_by(ROUTER)
}

#[rustfmt::skip] // One row, one line.
fn errors_v4() -> Vec<Row> {
    let vip = ALL[0];
    let tcp = |client| sent(vip, client).tcp(80, 40000, &[0x55; 60]);
    let udp = |client| sent(vip, client).udp(53, 40000, &[0x55; 60]);
    let mtu = [0, 0, 5, 0x78];
    let none = [0; 4];
    let later = udp_datagram(vip, "10.0.0.1", (53, 40000), &[0x55; 64]);
    let later = sent(vip, "10.0.0.1").fragment(9, 24, false).protocol(17, &later[24..]);
    vec![
        Row::new("v4 fragmentation needed, quoting TCP", error(vip).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 28)), Forward(BE1)),
        Row::new("v4 fragmentation needed, quoting UDP", error(vip).icmp(3, 4, mtu, quote(&udp("10.0.0.3"), 28)), Forward(BE2)),
        Row::new("v4 fragmentation needed, a long quote", error(vip).icmp(3, 4, mtu, quote(&tcp("10.0.0.1"), 548)), Forward(BE3)),
        Row::new("v4 fragmentation needed, 802.1Q", error(vip).tags(Tags::Customer(7)).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 28)), Forward(BE1)),
        Row::new("v4 fragmentation needed, QinQ", error(vip).tags(Tags::QinQ(5, 7)).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 28)), Forward(BE1)),
        Row::new("v4 fragmentation needed, options in the error", error(vip).options(&[1; 4]).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 28)), Forward(BE1)),
        Row::new("v4 port unreachable, quoting UDP", error(vip).icmp(3, 3, none, quote(&udp("10.0.0.1"), 28)), Forward(BE3)),
        Row::new("v4 time exceeded, quoting TCP", error(vip).icmp(11, 0, none, quote(&tcp("10.0.0.3"), 28)), Forward(BE2)),
        Row::new("v4 parameter problem, quoting UDP", error(vip).icmp(12, 0, none, quote(&udp("10.0.0.4"), 28)), Forward(BE1)),
        Row::new(
            "v4 fragmentation needed, options in the quote",
            error(vip).icmp(3, 4, mtu, quote(&sent(vip, "10.0.0.3").options(&[1; 8]).tcp(80, 40000, b""), 36)),
            Forward(BE2),
        ),
        Row::new("v4 time exceeded, quoting a later fragment", error(vip).icmp(11, 1, none, quote(&later, 28)), Forward(BE3)),
        Row::new("v4 error about the port that is served", error(SOME[0]).icmp(3, 4, mtu, quote(&sent(SOME[0], "10.0.0.3").tcp(80, 1, b""), 28)), Forward(BE2)),
        Row::new("v4 error about a port that is not served", error(SOME[0]).icmp(3, 4, mtu, quote(&sent(SOME[0], "10.0.0.3").tcp(81, 1, b""), 28)), Host),
        Row::new("v4 error quoting a foreign flow", error(vip).icmp(3, 4, mtu, quote(&sent("10.0.0.2", "10.0.0.3").tcp(80, 1, b""), 28)), Host),
        Row::new("v4 error quoting another VIP's flow", error(vip).icmp(3, 4, mtu, quote(&sent(SOME[0], "10.0.0.3").tcp(80, 1, b""), 28)), Host),
        Row::new("v4 error quoting another protocol", error(vip).icmp(3, 2, none, quote(&sent(vip, "10.0.0.3").protocol(47, &[0; 8]), 28)), Host),
        Row::new("v4 error quoting a v6 packet", error(vip).icmp(3, 4, mtu, quote(&sent(ALL[1], "fd00::1").tcp(80, 1, b""), 60)), Host),
        Row::new("v4 error, no backend in service", error(DEAD[0]).icmp(3, 4, mtu, quote(&sent(DEAD[0], "10.0.0.3").tcp(80, 1, b""), 28)), Drop(NoBackend)),
        Row::new("v4 error, quote cut in the ports", error(vip).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 27)), Drop(Malformed)),
        Row::new("v4 error, quote cut in the IP header", error(vip).icmp(3, 4, mtu, quote(&tcp("10.0.0.4"), 19)), Drop(Malformed)),
        Row::new("v4 error without a quote", error(vip).icmp(3, 4, mtu, &[]), Drop(Malformed)),
        Row::new("v4 error, quote of no IP version", error(vip).icmp(3, 4, mtu, &[0x15; 28]), Drop(Malformed)),
        Row::new("v4 redirect", error(vip).icmp(5, 1, [10, 0, 0, 1], quote(&tcp("10.0.0.4"), 28)), Host),
    ]
}

#[rustfmt::skip] // One row, one line.
fn errors_v6() -> Vec<Row> {
    let vip = ALL[1];
    let tcp = |client| sent(vip, client).tcp(80, 40000, &[0x55; 60]);
    let udp = |client| sent(vip, client).udp(53, 40000, &[0x55; 60]);
    let mtu = [0, 0, 5, 0];
    let none = [0; 4];
    let first = sent(vip, "fd00::1").fragment(9, 0, true).protocol(17, &udp_datagram(vip, "fd00::1", (53, 40000), &[0x55; 24]));
    vec![
        Row::new("v6 packet too big, quoting TCP", error(vip).icmp(2, 0, mtu, quote(&tcp("fd00::1"), 1232)), Forward(BE1)),
        Row::new("v6 packet too big, quoting UDP", error(vip).icmp(2, 0, mtu, quote(&udp("2001:db8::1"), 1232)), Forward(BE2)),
        Row::new("v6 packet too big, the shortest quote", error(vip).icmp(2, 0, mtu, quote(&tcp("fd00::5"), 48)), Forward(BE3)),
        Row::new("v6 packet too big, quoting a first fragment", error(vip).icmp(2, 0, mtu, quote(&first, 56)), Forward(BE1)),
        Row::new("v6 packet too big, 802.1Q", error(vip).tags(Tags::Customer(7)).icmp(2, 0, mtu, quote(&tcp("fd00::1"), 48)), Forward(BE1)),
        Row::new("v6 packet too big, QinQ", error(vip).tags(Tags::QinQ(5, 7)).icmp(2, 0, mtu, quote(&tcp("fd00::1"), 48)), Forward(BE1)),
        Row::new("v6 port unreachable, quoting UDP", error(vip).icmp(1, 4, none, quote(&udp("fd00::5"), 48)), Forward(BE3)),
        Row::new("v6 time exceeded, quoting TCP", error(vip).icmp(3, 0, none, quote(&tcp("2001:db8::1"), 48)), Forward(BE2)),
        Row::new("v6 parameter problem, quoting UDP", error(vip).icmp(4, 0, none, quote(&udp("fd00::1"), 48)), Forward(BE1)),
        Row::new("v6 error about the port that is served", error(SOME[1]).icmp(2, 0, mtu, quote(&sent(SOME[1], "fd00::5").udp(53, 1, b""), 48)), Forward(BE3)),
        Row::new("v6 error about a port that is not served", error(SOME[1]).icmp(2, 0, mtu, quote(&sent(SOME[1], "fd00::5").udp(80, 1, b""), 48)), Host),
        Row::new("v6 error quoting a foreign flow", error(vip).icmp(2, 0, mtu, quote(&sent("fd00::2", "fd00::5").udp(53, 1, b""), 48)), Host),
        Row::new("v6 error, quote cut in the ports", error(vip).icmp(2, 0, mtu, quote(&tcp("fd00::1"), 47)), Drop(Malformed)),
        Row::new("v6 error, quote cut in the IP header", error(vip).icmp(2, 0, mtu, quote(&tcp("fd00::1"), 39)), Drop(Malformed)),
        Row::new("v6 error, no backend in service", error(DEAD[1]).icmp(2, 0, mtu, quote(&sent(DEAD[1], "fd00::1").tcp(80, 1, b""), 48)), Drop(NoBackend)),
        Row::new("v6 router advertisement to a VIP", error(vip).hop_limit(255).icmp(134, 0, none, &[0; 8]), Host),
    ]
}
