//! Whatever comes in, nothing panics, and nothing is sent without end.

use proptest::prelude::*;

use super::*;

fn checks() -> Vec<Check> {
    let http =
        Check::Http { port: None, path: "/".to_owned(), host: None, status: 200..=299, body: Some("well".to_owned()) };
    vec![Check::Icmp, Check::Tcp { port: None }, http, udp(b"x", b"y"), dns()]
}

/// A change to a packet: where and what, and where it is cut off.
type Damage = (usize, u8, usize);

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec((0usize..120, any::<u8>(), 0usize..200), 1..20)
}

/// A segment of the server: sequence and acknowledgment number relative to what is right, flags, window, payload, and
/// options.
type Segment = (i32, i32, u8, u16, usize, Vec<u8>);

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let near = || prop_oneof![4 => -3i32..4, 2 => -70_000i32..70_000, 1 => any::<i32>()];
    let flags = prop_oneof![Just(ACK), Just(ACK | 8), Just(ACK | 1), Just(ACK | SYN), Just(RST), 0u8..64];
    let options = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec((near(), near(), flags, any::<u16>(), 0usize..2000, options), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100), version in 0usize..4) {
        let mut bytes = bytes;
        if let (Some(first), true) = (bytes.first_mut(), version < 3) {
            *first = [0x45, 0x60, 0x46][version];
        }
        key_of(&bytes);
        for target in FAMILIES {
            for check in checks() {
                let now = Instant::now();
                let mut probe = Probe::start(&check, target, TIMEOUT, 1, now);
                probe.poll_transmit(now);
                probe.handle_packet(&bytes, now);
                prop_assert_eq!(probe.outcome(now), None);
            }
        }
    }

    #[test]
    fn damaged_packets(damages in damages(), kind in any::<u8>(), code in 0u8..5) {
        for target in FAMILIES {
            for check in checks() {
                let now = Instant::now();
                let mut probe = Probe::start(&check, target, TIMEOUT, 1, now);
                let sent = probe.poll_transmit(now).unwrap();
                let icmp = if target.vip.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
                for (at, value, end) in &damages {
                    // Damaged before the checksum was made, so that it goes deeper.
                    let mut quoted = sent.clone();
                    if let Some(byte) = quoted.get_mut(*at) {
                        *byte = *value;
                    }
                    quoted.truncate(*end);
                    let message = [&[kind, code, 0, 0, 0, 0, 0, 0], quoted.as_slice()].concat();
                    for mut packet in [
                        reply(target, icmp, message, 2),
                        packet::datagram(target.vip, target.source, Ports { source: 53, destination: LOCAL_PORT }, &quoted),
                        redirect(target, target.vip, &sent),
                    ] {
                        key_of(&packet);
                        probe.handle_packet(&packet, now);
                        if let Some(byte) = packet.get_mut(*at) {
                            *byte ^= *value;
                        }
                        packet.truncate(*end);
                        key_of(&packet);
                        probe.handle_packet(&packet, now);
                    }
                }
                std::iter::from_fn(|| probe.poll_transmit(now)).count();
                prop_assert!(probe.outcome(now + TIMEOUT).is_some());
            }
        }
    }

    #[test]
    fn a_server_that_makes_up_its_numbers(segments in segments(), handshake: bool, isn: u32, seed: u64) {
        for target in FAMILIES {
            for check in &checks()[1..3] {
                let begin = Instant::now();
                let mut now = begin;
                let mut probe = Probe::start(check, target, TIMEOUT, seed, now);
                let syn = probe.poll_transmit(now).unwrap();
                let number = u32::from_be_bytes(upper(&syn)[4..8].try_into().unwrap()).wrapping_add(1);
                if handshake {
                    probe.handle_packet(&segment(target, PORT, isn.wrapping_sub(1), number, SYN | ACK, &[]), now);
                }
                let mut next = isn;
                for (sequence, acknowledgment, flags, window, length, options) in &segments {
                    let mut options = options.clone();
                    options.resize(options.len().next_multiple_of(4), 0);
                    let mut tcp = Vec::new();
                    tcp.extend(PORT.to_be_bytes());
                    tcp.extend(LOCAL_PORT.to_be_bytes());
                    tcp.extend(next.wrapping_add_signed(*sequence).to_be_bytes());
                    tcp.extend(number.wrapping_add_signed(*acknowledgment).to_be_bytes());
                    tcp.extend([((5 + options.len() / 4) as u8) << 4, *flags]);
                    tcp.extend(window.to_be_bytes());
                    tcp.extend([0; 4]);
                    tcp.extend(options);
                    tcp.extend(vec![b'H'; *length]);
                    next = next.wrapping_add(*length as u32);
                    now += 17 * MS;
                    probe.handle_packet(&reply(target, protocol::TCP, tcp, 16), now);
                    let sent = std::iter::from_fn(|| probe.poll_transmit(now)).count();
                    prop_assert!(sent < 10, "{} packets for one", sent);
                    prop_assert!(probe.outcome(now).is_some() || probe.deadline(now) > now);
                }
                prop_assert!(probe.outcome(begin + TIMEOUT).is_some());
            }
        }
    }
}
