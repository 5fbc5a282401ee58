mod backend;
mod garbage;
mod http;

use backend::{
    Backend, FAMILIES, LOCAL_PORT, MS, Manner, PORT, Server, TIMEOUT, ask, icmp_error, reply, run, segment, silence,
    survives_any_single_loss, upper,
};
use smoltcp::socket::tcp;

use super::*;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn udp(payload: &[u8], expect: &[u8]) -> Check {
    Check::Udp { port: None, payload: payload.to_vec(), expect: expect.to_vec() }
}

fn dns() -> Check {
    Check::Dns { port: Some(53), name: "example.org".to_owned() }
}

fn at(target: Target, port: u16) -> SocketAddr {
    SocketAddr::new(target.vip, port)
}

fn no_answer(target: Target, port: u16) -> Result<(), Reason> {
    Err(Reason::NoAnswer { at: at(target, port), within: TIMEOUT })
}

/// A host with the VIP: it answers pings.
fn echo(target: Target) -> impl Backend {
    move |request: &[u8]| {
        let mut message = upper(request).to_vec();
        let (number, kinds) =
            if target.vip.is_ipv4() { (protocol::ICMP, [8, 0]) } else { (protocol::ICMPV6, [128, 129]) };
        assert_eq!(message[0], kinds[0]);
        message[..4].copy_from_slice(&[kinds[1], 0, 0, 0]);
        vec![reply(target, number, message, 2)]
    }
}

/// A UDP server: `answer` makes what it sends back of what it gets.
fn server(target: Target, answer: impl Fn(&[u8]) -> Vec<u8>) -> impl Backend {
    move |request: &[u8]| {
        let datagram = upper(request);
        let port = u16::from_be_bytes([datagram[2], datagram[3]]);
        let ports = Ports { source: port, destination: target.local_port };
        vec![packet::datagram(target.vip, target.source, ports, &answer(&datagram[8..]))]
    }
}

/// A name server that answers every query with `rcode`.
fn name_server(target: Target, rcode: u8) -> impl Backend {
    server(target, move |query| {
        let mut answer = query.to_vec();
        answer[2] |= 0x80;
        answer[3] = 0x80 | rcode;
        answer
    })
}

/// Answers every packet with the ICMP message of that type and code.
fn refuses(target: Target, from: IpAddr, message: [u8; 2]) -> impl Backend {
    move |packet: &[u8]| vec![icmp_error(target, from, message, packet)]
}

#[test]
fn a_ping_is_answered_or_not() {
    for target in FAMILIES {
        let answered = ask(&Check::Icmp, target, &mut echo(target));
        assert_eq!((answered.result, answered.took, answered.sent.len()), (Ok(()), Duration::ZERO, 1));
        let silent = ask(&Check::Icmp, target, &mut silence);
        assert_eq!((silent.result, silent.took), (no_answer(target, 0), TIMEOUT));
        assert_eq!(silent.sent.len(), 3, "asked again");
        assert!(run(&Check::Icmp, target, &mut echo(target), |n| n < 2).result.is_ok(), "two requests lost");
        survives_any_single_loss(&Check::Icmp, target, || echo(target));
        let mut damaged = |request: &[u8]| {
            let mut reply = echo(target).receive(request, Instant::now()).remove(0);
            *reply.last_mut().unwrap() ^= 1;
            vec![reply]
        };
        assert_eq!(ask(&Check::Icmp, target, &mut damaged).result, no_answer(target, 0), "a wrong checksum");
        let mut another = |request: &[u8]| {
            let mut message = upper(&echo(target).receive(request, Instant::now())[0]).to_vec();
            *message.last_mut().unwrap() ^= 1;
            message[2..4].fill(0);
            let number = if target.vip.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
            vec![reply(target, number, message, 2)]
        };
        assert_eq!(ask(&Check::Icmp, target, &mut another).result, no_answer(target, 0), "another's payload");
    }
}

#[test]
fn a_listening_server_is_found_by_a_syn_and_left_without_a_connection() {
    for target in FAMILIES {
        let mut server = Server::new(target, PORT, Manner::Hang);
        let run = ask(&Check::Tcp { port: None }, target, &mut server);
        assert_eq!((run.result, run.took), (Ok(()), Duration::ZERO));
        let flags: Vec<u8> = run.sent.iter().map(|(_, packet)| upper(packet)[13]).collect();
        assert_eq!(flags, [SYN, RST | ACK]);
        assert_eq!(server.state(), tcp::State::Listen, "nothing is left half-open");
        assert!(!server.accepted, "and the application has not heard of it");
        survives_any_single_loss(&Check::Tcp { port: None }, target, || Server::new(target, PORT, Manner::Hang));
    }
}

#[test]
fn a_port_where_nothing_listens_is_refused_at_once() {
    for target in FAMILIES {
        let run = ask(&Check::Tcp { port: Some(81) }, target, &mut Server::new(target, PORT, Manner::Hang));
        assert_eq!((run.result, run.took), (Err(Reason::Refused { at: at(target, 81) }), Duration::ZERO));
        assert_eq!(run.sent.len(), 1, "no answer to a RST");
    }
}

#[test]
fn a_syn_is_sent_again_until_the_timeout() {
    for target in FAMILIES {
        let run = ask(&Check::Tcp { port: None }, target, &mut silence);
        assert_eq!((run.result, run.took), (no_answer(target, PORT), TIMEOUT));
        let sent: Vec<_> = run.sent.iter().map(|(when, packet)| (when.as_millis(), upper(packet)[13])).collect();
        assert_eq!(sent, [(0, SYN), (200, SYN), (600, SYN), (1000, RST | ACK)]);
    }
}

#[test]
fn a_rst_with_another_number_is_nobodys() {
    for target in FAMILIES {
        let mut forger = |syn: &[u8]| {
            let number = u32::from_be_bytes(upper(syn)[4..8].try_into().unwrap());
            vec![segment(target, PORT, 0, number.wrapping_add(2), RST | ACK, &[])]
        };
        assert_eq!(ask(&Check::Tcp { port: None }, target, &mut forger).result, no_answer(target, PORT));
    }
}

#[test]
fn a_connection_from_the_other_side_is_no_answer() {
    for target in FAMILIES {
        // RFC 9293 section 3.5, figure 7: SYN crosses SYN, then it acknowledges ours.
        let mut other = |packet: &[u8]| {
            let number = u32::from_be_bytes(upper(packet)[4..8].try_into().unwrap()).wrapping_add(1);
            vec![segment(target, PORT, 1000, 0, SYN, &[]), segment(target, PORT, 1001, number, ACK, &[])]
        };
        assert_eq!(ask(&Check::Tcp { port: None }, target, &mut other).result, no_answer(target, PORT));
    }
}

#[test]
fn a_long_timeout_does_not_make_it_slow_to_ask_again() {
    let begin = Instant::now();
    let mut now = begin;
    let mut probe = Probe::start(&Check::Tcp { port: None }, FAMILIES[0], 30 * TIMEOUT, 1, now);
    let mut sent = Vec::new();
    while now < begin + 2 * TIMEOUT {
        sent.extend(std::iter::from_fn(|| probe.poll_transmit(now)).map(|_| (now - begin).as_millis()));
        now = probe.deadline(now);
    }
    assert_eq!(sent, [0, 250, 750, 1750]);
}

#[test]
fn a_connection_that_the_server_remembers_is_cleared_away() {
    for target in FAMILIES {
        // RFC 9293 section 3.5.2: it answers the SYN by the ACK of the old connection, and forgets that at our RST.
        let mut old = true;
        let mut server = Server::new(target, PORT, Manner::Hang);
        let mut backend = |packet: &[u8]| {
            let flags = upper(packet)[13];
            if old && flags == SYN {
                return vec![segment(target, PORT, 1000, 2000, ACK, &[])];
            }
            if old && flags == RST && upper(packet)[4..8] == 2000u32.to_be_bytes() {
                old = false;
                return vec![];
            }
            server.receive(packet, Instant::now())
        };
        assert_eq!(ask(&Check::Tcp { port: None }, target, &mut backend).result, Ok(()));
    }
}

#[test]
fn a_datagram_is_answered_as_expected_or_not() {
    for target in FAMILIES {
        let hello = |ask: &[u8]| [ask, b", world"].concat();
        let run = ask(&udp(b"hello", b"lo, wor"), target, &mut server(target, hello));
        assert_eq!((run.result, run.took, run.sent.len()), (Ok(()), Duration::ZERO, 1));
        assert_eq!(ask(&udp(b"", b""), target, &mut server(target, |_| vec![])).result, Ok(()), "any answer will do");
        let run = ask(&udp(b"hello", b"there"), target, &mut server(target, hello));
        assert_eq!((run.result, run.took), (Err(Reason::UdpMismatch { at: at(target, PORT) }), Duration::ZERO));
        let run = ask(&udp(b"hello", b""), target, &mut silence);
        assert_eq!((run.result, run.sent.len()), (no_answer(target, PORT), 3));
        survives_any_single_loss(&udp(b"hello", b"world"), target, || server(target, hello));
    }
}

#[test]
fn a_name_server_has_to_answer_not_to_know() {
    for target in FAMILIES {
        assert_eq!(ask(&dns(), target, &mut name_server(target, 0)).result, Ok(()));
        assert_eq!(ask(&dns(), target, &mut name_server(target, 3)).result, Ok(()), "NXDOMAIN is an answer");
        for rcode in [1, 2, 5] {
            let run = ask(&dns(), target, &mut name_server(target, rcode));
            let expected = Err(Reason::DnsError { at: at(target, 53), rcode });
            assert_eq!((run.result, run.took), (expected, Duration::ZERO));
        }
        survives_any_single_loss(&dns(), target, || name_server(target, 0));
        assert_eq!(ask(&dns(), target, &mut silence).result, no_answer(target, 53));
        // Its own query back, another id, nothing: the right answer may follow, and does not.
        let garbled = Err(Reason::DnsMalformed { at: at(target, 53) });
        assert_eq!(ask(&dns(), target, &mut server(target, <[u8]>::to_vec)).result, garbled);
        assert_eq!(ask(&dns(), target, &mut server(target, |_| vec![])).result, garbled);
        let stale = |query: &[u8]| [&[query[0] ^ 1, query[1], 0x80, 0], &query[4..]].concat();
        assert_eq!(ask(&dns(), target, &mut server(target, stale)).result, garbled);
        let mut late = |packet: &[u8]| {
            let mut answers = server(target, stale).receive(packet, Instant::now());
            answers.extend(name_server(target, 0).receive(packet, Instant::now()));
            answers
        };
        assert_eq!(ask(&dns(), target, &mut late).result, Ok(()));
    }
}

#[test]
fn icmp_errors_say_why_at_once() {
    let checks = [Check::Icmp, Check::Tcp { port: None }, udp(b"x", b""), dns()];
    for target in FAMILIES {
        let router: IpAddr = if target.vip.is_ipv4() { "10.0.0.11" } else { "fd00::11" }.parse().unwrap();
        let messages = if target.vip.is_ipv4() {
            [[3, 0], [3, 1], [3, 2], [3, 3], [3, 13], [11, 0], [12, 0]]
        } else {
            [[1, 0], [1, 3], [4, 1], [1, 4], [1, 1], [3, 0], [4, 0]]
        };
        for check in &checks {
            let at = at(target, check.port(PORT).unwrap_or(0));
            let other = Obstacle::Other { kind: messages[6][0], code: 0 };
            for (message, obstacle) in messages.into_iter().zip([
                Obstacle::Network,
                Obstacle::Host,
                Obstacle::Protocol,
                Obstacle::Port,
                Obstacle::Prohibited,
                Obstacle::HopLimit,
                other,
            ]) {
                let run = ask(check, target, &mut refuses(target, router, message));
                let expected = Err(Reason::Unreachable { at, from: router, obstacle });
                assert_eq!((run.result, run.took), (expected, Duration::ZERO), "{check}");
            }
            // Too large: not this one. An echo request quoted: no error.
            let harmless = if target.vip.is_ipv4() { [3, 4] } else { [2, 0] };
            let mut backend = |packet: &[u8]| {
                let error = icmp_error(target, router, harmless, packet);
                assert_eq!(key_of(&error), None);
                vec![]
            };
            assert_eq!(ask(check, target, &mut backend).result, Err(Reason::NoAnswer { at, within: TIMEOUT }));
        }
    }
}

#[test]
fn icmp_errors_that_quote_something_else_are_ignored() {
    for target in FAMILIES {
        for check in [Check::Icmp, Check::Tcp { port: None }, udp(b"x", b"")] {
            let now = Instant::now();
            let mut probe = Probe::start(&check, target, TIMEOUT, 1, now);
            let sent = probe.poll_transmit(now).unwrap();
            let upper_at = sent.len() - upper(&sent).len();
            let error = [if target.vip.is_ipv4() { 3 } else { 1 }, 3];
            // Another destination, another port or identifier; for TCP another sequence number.
            let mut foreign = vec![upper_at - 1, upper_at + 5];
            foreign.push(if check == Check::Icmp { upper_at + 6 } else { upper_at + 2 });
            for at in foreign {
                let mut quoted = sent.clone();
                quoted[at] ^= 1;
                probe.handle_packet(&icmp_error(target, target.vip, error, &quoted), now);
                let ignored = probe.outcome(now).is_none();
                // The length of a UDP datagram is not looked at.
                assert_eq!(ignored, !(matches!(check, Check::Udp { .. }) && at == upper_at + 5), "{check} byte {at}");
                if !ignored {
                    probe = Probe::start(&check, target, TIMEOUT, 1, now);
                    probe.poll_transmit(now);
                }
            }
            let mut damaged = icmp_error(target, target.vip, error, &sent);
            *damaged.last_mut().unwrap() ^= 1;
            probe.handle_packet(&damaged, now);
            assert_eq!(probe.outcome(now), None, "{check}");
            probe.handle_packet(&icmp_error(target, target.vip, error, &sent), now);
            assert!(probe.outcome(now).is_some(), "{check}");
        }
    }
}

/// The redirect of `packet` by `router`, to itself.
fn redirect(target: Target, router: IpAddr, packet: &[u8]) -> Vec<u8> {
    match (router, target.vip) {
        (IpAddr::V6(router), IpAddr::V6(vip)) => {
            let mut message = vec![137, 0, 0, 0, 0, 0, 0, 0];
            message.extend(router.octets());
            message.extend(vip.octets());
            message.extend([2, 1, 2, 0, 0, 0, 0, 0x11]); // target link-layer address
            let mut quoted = packet.to_vec();
            quoted.resize(packet.len().next_multiple_of(8), 0);
            message.extend([4, (1 + quoted.len() / 8) as u8, 0, 0, 0, 0, 0, 0]); // redirected header
            message.extend(quoted);
            packet::build(IpAddr::V6(router), target.source, protocol::ICMPV6, message, 2)
        }
        _ => icmp_error(target, router, [5, 1], packet),
    }
}

#[test]
fn a_redirect_tells_a_backend_without_the_vip() {
    for target in FAMILIES {
        let router: IpAddr = if target.vip.is_ipv4() { "10.0.0.11" } else { "fe80::11" }.parse().unwrap();
        for check in [Check::Icmp, Check::Tcp { port: None }, udp(b"x", b"")] {
            let mut backend = |packet: &[u8]| vec![redirect(target, router, packet)];
            let run = ask(&check, target, &mut backend);
            assert_eq!(run.result, Err(Reason::Forwarded { vip: target.vip, by: router }));
            assert_eq!(run.took, TIMEOUT, "the packet was not lost, an answer may still come");
        }
    }
}

/// `packet` as the first of two fragments, with right checksums.
fn fragment(target: Target, packet: &[u8]) -> Vec<u8> {
    if target.vip.is_ipv6() {
        let header = [protocol::UDP, 0, 0, 1, 0, 0, 0, 7];
        return reply(target, protocol::FRAGMENT, [&header, upper(packet)].concat(), usize::MAX - 2);
    }
    let mut packet = packet.to_vec();
    packet[6] = 0x20;
    packet[10..12].fill(0);
    let sum = crate::wire::checksum::Sum::default().bytes(&packet[..20]).checksum();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

#[test]
fn what_is_not_the_probes_own_is_ignored() {
    for target in FAMILIES {
        let now = Instant::now();
        let mut probe = Probe::start(&udp(b"x", b""), target, TIMEOUT, 1, now);
        let sent = probe.poll_transmit(now).unwrap();
        let unreachable = [if target.vip.is_ipv4() { 3 } else { 1 }, 3];
        let datagram = |from, to, source, destination| packet::datagram(from, to, Ports { source, destination }, b"y");
        let Target { vip, source, .. } = target;
        let good = datagram(vip, source, PORT, LOCAL_PORT);
        let checksum = good.len() - 9 + 6;
        let mut damaged = good.clone();
        damaged[checksum] ^= 1;
        // In IPv6 the destination address: there is no checksum of the header.
        let mut header = good.clone();
        header[if target.vip.is_ipv4() { 10 } else { 39 }] ^= 1;
        for foreign in [
            datagram(source, source, PORT, LOCAL_PORT),
            datagram(vip, vip, PORT, LOCAL_PORT),
            datagram(vip, source, PORT + 1, LOCAL_PORT),
            datagram(vip, source, PORT, LOCAL_PORT + 1),
            good[..good.len() - 1].to_vec(),
            damaged,
            header,
            fragment(target, &good),
            icmp_error(Target { source: vip, ..target }, vip, unreachable, &sent),
            segment(target, PORT, 0, 0, RST | ACK, &[]),
            reply(target, protocol::ROUTING, vec![protocol::UDP; 8], 2),
            vec![],
        ] {
            probe.handle_packet(&foreign, now);
            assert_eq!(probe.outcome(now), None, "{foreign:02x?}");
        }
        // Ethernet has filled it up.
        probe.handle_packet(&[good.as_slice(), &[0; 20]].concat(), now);
        assert_eq!(probe.outcome(now), Some(Ok(())));
    }
}

#[test]
fn unfinished_checksums_count_as_right() {
    for target in FAMILIES {
        let Target { vip, source, local_port, .. } = target;
        let ports = Ports { source: PORT, destination: local_port };
        let finished = packet::datagram(vip, source, ports, b"y");
        let pseudo = crate::wire::checksum::Sum::default().pseudo_header(vip, source, protocol::UDP, 9).fold();
        for (stored, expected) in [(pseudo, true), (0, target.vip.is_ipv4()), (pseudo ^ 1, false)] {
            let now = Instant::now();
            let mut probe = Probe::start(&udp(b"x", b""), target, TIMEOUT, 1, now);
            let mut answer = finished.clone();
            let checksum = answer.len() - 3;
            answer[checksum..checksum + 2].copy_from_slice(&stored.to_be_bytes());
            probe.handle_packet(&answer, now);
            assert_eq!(probe.outcome(now).is_some(), expected, "{stored:04x}");
        }
    }
}

#[test]
fn packets_are_told_apart_by_key() {
    for target in FAMILIES {
        for check in [Check::Icmp, Check::Tcp { port: None }, udp(b"x", b""), dns()] {
            let now = Instant::now();
            let mut probe = Probe::start(&check, target, TIMEOUT, 1, now);
            assert_eq!(probe.key(), (target.vip, target.source, LOCAL_PORT));
            let sent = probe.poll_transmit(now).unwrap();
            let error = icmp_error(target, target.vip, [if target.vip.is_ipv4() { 3 } else { 1 }, 3], &sent);
            assert_eq!(key_of(&error), Some(probe.key()));
            assert_ne!(key_of(&sent), Some(probe.key()), "not what it sends itself");
            assert_eq!(key_of(&error[..error.len() - 1]), None);
        }
    }
}

#[test]
fn what_cannot_be_asked_says_so_at_once() {
    let now = Instant::now();
    let [v4, v6] = FAMILIES;
    let everywhere: IpAddr = "0.0.0.0".parse().unwrap();
    let group: IpAddr = "224.0.0.1".parse().unwrap();
    for (check, target, why) in [
        (Check::Link, v4, "no probe"),
        (Check::Tcp { port: None }, Target { vip_port: 0, ..v4 }, "tcp:PORT"),
        (Check::Icmp, Target { source: v6.source, ..v4 }, "--check-source"),
        (Check::Icmp, Target { source: v4.source, ..v6 }, "IPv6"),
        (Check::Tcp { port: None }, Target { source: everywhere, ..v4 }, "--check-source"),
        (Check::Tcp { port: None }, Target { source: group, ..v4 }, "--check-source"),
        (Check::Tcp { port: None }, Target { local_port: 0, ..v4 }, "port 0"),
        (Check::Dns { port: None, name: "a b".to_owned() }, v4, "domain name"),
    ] {
        let mut probe = Probe::start(&check, target, TIMEOUT, 1, now);
        assert_eq!(probe.deadline(now), now);
        assert_eq!(probe.poll_transmit(now), None);
        let Some(Err(reason @ Reason::NotAsked { .. })) = probe.outcome(now) else { panic!("{check} was asked") };
        assert!(reason.to_string().contains(why), "{reason}");
    }
}

#[test]
fn seeds_make_numbers_that_differ() {
    let now = Instant::now();
    let first = |check: &Check, seed| {
        let mut probe = Probe::start(check, FAMILIES[0], TIMEOUT, seed, now);
        probe.poll_transmit(now).unwrap()
    };
    for check in [Check::Icmp, Check::Tcp { port: None }, dns()] {
        assert_eq!(first(&check, 1), first(&check, 1), "nothing is random of its own");
        assert_ne!(first(&check, 1), first(&check, 2), "{check}");
    }
}

#[test]
fn short_and_long_timeouts_hold() {
    for timeout in [MS, 10 * MS, 100 * MS, Duration::from_secs(30)] {
        for check in [Check::Icmp, Check::Tcp { port: None }, udp(b"x", b"")] {
            let begin = Instant::now();
            let mut now = begin;
            let mut probe = Probe::start(&check, FAMILIES[0], timeout, 1, now);
            let (mut sent, mut wakes) = (0, 0);
            let outcome = loop {
                sent += std::iter::from_fn(|| probe.poll_transmit(now)).count();
                if let Some(outcome) = probe.outcome(now) {
                    break outcome;
                }
                assert!(probe.deadline(now) > now);
                now = probe.deadline(now);
                wakes += 1;
            };
            let port = check.port(PORT).unwrap_or(0);
            assert_eq!(outcome, Err(Reason::NoAnswer { at: at(FAMILIES[0], port), within: timeout }));
            assert_eq!(now, begin + timeout);
            assert!(wakes <= 12 && (timeout == MS || sent >= 3), "{check} {timeout:?}: {wakes} wakes, {sent} sent");
        }
    }
}
