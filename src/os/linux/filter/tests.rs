use proptest::prelude::*;

use super::*;

/// A number instead of what is loaded from the frame.
const LD_IMM: u16 = 0x00;

/// Runs a program over a frame as the kernel would; `None` when it reads beyond the frame, which rejects.
fn run(program: &[sock_filter], frame: &[u8], tagged: bool) -> Option<u32> {
    let (mut a, mut x) = (0u32, 0u32);
    let mut pc = 0usize;
    loop {
        let i = program[pc];
        pc += 1;
        let bytes = |at: u32, n: usize| frame.get(at as usize..at as usize + n);
        match i.code {
            LD_B_ABS if i.k == VLAN_TAG_PRESENT => a = u32::from(tagged),
            LD_B_ABS if i.k == PACKET_TYPE => a = u32::from(libc::PACKET_HOST),
            LD_B_ABS => a = u32::from(bytes(i.k, 1)?[0]),
            LD_B_IND => a = u32::from(bytes(x + i.k, 1)?[0]),
            LDX_HEADER_LENGTH => x = u32::from(bytes(i.k, 1)?[0] & 0xf) * 4,
            LD_H_ABS => a = u32::from(u16::from_be_bytes(bytes(i.k, 2)?.try_into().ok()?)),
            LD_W_ABS => a = u32::from_be_bytes(bytes(i.k, 4)?.try_into().ok()?),
            LD_IMM => a = i.k,
            AND_K => a &= i.k,
            JMP_JGE_K => pc += usize::from(if a >= i.k { i.jt } else { i.jf }),
            JMP_JGT_K => pc += usize::from(if a > i.k { i.jt } else { i.jf }),
            JMP_JEQ_K => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
            JMP_JA => pc += i.k as usize,
            RET_K => return Some(i.k),
            other => panic!("unexpected code {other:#x}"),
        }
    }
}

/// The programs of both queues.
type Both = [Vec<sock_filter>; 2];

fn both(wanted: &Wanted) -> Both {
    [Queue::Clients, Queue::Aside].map(|queue| program(queue, wanted))
}

/// Does one of the two queues take an untagged frame? Never both, while there is room to be exact.
fn passes(programs: &Both, frame: &[u8]) -> bool {
    programs.iter().any(|program| run(program, frame, false).is_some_and(|n| n != 0))
}

fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A packet of protocol `number` from one address to another; behind its header, `upper`.
fn packet(source: IpAddr, destination: IpAddr, number: u8, upper: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, number, 0, 0];
            packet.extend([source.octets(), destination.octets()].concat());
            packet.extend(upper);
            frame(0x0800, &packet)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0x60, 0, 0, 0, 0, 0, number, 64];
            packet.extend([source.octets(), destination.octets()].concat());
            packet.extend(upper);
            frame(0x86dd, &packet)
        }
        _ => panic!("one family"),
    }
}

fn tcp(source: &str, destination: &str) -> Vec<u8> {
    packet(source.parse().unwrap(), destination.parse().unwrap(), 6, &[0; 20])
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn two_of_each() -> Wanted {
    Wanted {
        vips: addresses(&["10.0.0.100", "fd00::100", "10.0.0.101", "fd00::101"]),
        probe_sources: addresses(&["10.0.0.2", "10.0.0.30", "fd00::2", "fd00::30"]),
        tarpit: networks(&["10.0.0.200/30", "10.9.0.0/16", "fd00:0:0:1::/64", "fd00::2:0/117"]),
    }
}

#[test]
fn lets_pass_what_concerns_the_vips_and_nothing_else() {
    let wanted = Wanted { probe_sources: vec![], tarpit: vec![], ..two_of_each() };
    let program = both(&wanted);
    let passes = |frame: &[u8]| passes(&program, frame);
    assert!(passes(&tcp("10.0.0.1", "10.0.0.100")) && passes(&tcp("10.0.0.1", "10.0.0.101")));
    assert!(!passes(&tcp("10.0.0.1", "10.0.0.2")) && !passes(&tcp("10.0.0.100", "10.0.0.2")));
    assert!(passes(&tcp("fd00::1", "fd00::100")) && passes(&tcp("fd00::1", "fd00::101")));
    assert!(!passes(&tcp("fd00::1", "fd00::102")) && !passes(&tcp("fd00::1", "fe00::101")));
    let discovery = packet("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap(), 58, &[135; 24]);
    assert!(passes(&discovery), "neighbour discovery");
    assert!(passes(&frame(0x0806, &[0; 28])) && passes(&frame(0x8100, &[0; 50])));
    assert!(!passes(&frame(0x88cc, &[0; 50])), "LLDP");
    assert!(!passes(&frame(0x0800, &[0x45; 4])), "truncated");
}

#[test]
fn answers_to_probes_pass() {
    let program = both(&two_of_each());
    let passes = |frame: &[u8]| passes(&program, frame);
    for source in ["10.0.0.2", "10.0.0.30"] {
        assert!(passes(&tcp("10.0.0.100", source)) && passes(&tcp("10.0.0.101", source)));
        assert!(!passes(&tcp("10.0.0.11", source)), "from another than a VIP");
        let icmp = |kind: u8| packet("10.0.0.11".parse().unwrap(), source.parse().unwrap(), 1, &[kind, 0, 0, 0]);
        assert!(passes(&icmp(3)), "destination unreachable");
        assert!(!passes(&icmp(0)), "an echo reply");
        let mut with_options = icmp(0);
        with_options[14] = 0x46;
        with_options.extend([3, 0, 0, 0]);
        assert!(passes(&with_options), "the type is behind the options");
    }
    for source in ["fd00::2", "fd00::30"] {
        assert!(passes(&tcp("fd00::100", source)) && passes(&tcp("fd00::101", source)));
        assert!(!passes(&tcp("fd00::11", source)));
    }
    assert!(!passes(&tcp("10.0.0.100", "10.0.0.3")), "to another than a probe's source");
    assert!(!passes(&tcp("fd00::100", "fd00::3")));
}

#[test]
fn packets_to_the_tarpit_pass() {
    let program = both(&two_of_each());
    let passes = |frame: &[u8]| passes(&program, frame);
    for (destination, within) in [
        ("10.0.0.199", false),
        ("10.0.0.200", true),
        ("10.0.0.203", true),
        ("10.0.0.204", false),
        ("10.9.255.255", true),
        ("10.10.0.0", false),
    ] {
        assert_eq!(passes(&tcp("10.0.0.1", destination)), within, "{destination}");
    }
    for (destination, within) in [
        ("fd00:0:0:1:ffff::1", true),
        ("fd00:0:0:2::", false),
        ("fd00::2:7ff", true),
        ("fd00::2:800", false),
        ("fd00::1:ffff", false),
    ] {
        assert_eq!(passes(&tcp("fd00::1", destination)), within, "{destination}");
    }
}

#[test]
fn each_queue_takes_its_own_frames() {
    let wanted = two_of_each();
    let taken =
        |frame: &[u8], tagged| both(&wanted).map(|program| run(&program, frame, tagged).is_some_and(|n| n != 0));
    let discovery = |kind| packet("fe80::1".parse().unwrap(), "fe80::2".parse().unwrap(), 58, &[kind; 24]);
    let (clients, aside) = ([true, false], [false, true]);
    for (what, frame, untagged) in [
        ("a client's", tcp("10.0.0.1", "10.0.0.100"), clients),
        ("a client's", tcp("fd00::1", "fd00::100"), clients),
        ("to the tarpit", tcp("10.0.0.1", "10.0.0.201"), clients),
        ("a further tag", frame(0x8100, &[0; 50]), clients),
        ("an echo request", discovery(128), clients),
        ("ARP", frame(0x0806, &[0; 28]), aside),
        ("router solicitation", discovery(133), aside),
        ("redirect", discovery(137), aside),
        ("an answer to a probe", tcp("10.0.0.100", "10.0.0.2"), aside),
        ("an answer to a probe", tcp("fd00::100", "fd00::2"), aside),
    ] {
        assert_eq!(taken(&frame, false), untagged, "{what}");
        for tagged in [false, true] {
            let mapped = [Queue::Mapped, Queue::Own].map(|queue| program(queue, &wanted));
            let taken = mapped.map(|program| run(&program, &frame, tagged).is_some_and(|n| n != 0));
            assert_eq!(taken, untagged, "{what}, with a tag or without");
        }
    }
    for frame in [tcp("10.0.0.1", "10.0.0.100"), frame(0x0806, &[0; 28]), discovery(135), tcp("fd00::1", "fd00::100")] {
        assert_eq!(taken(&frame, true), aside, "all that is tagged");
    }
}

#[test]
fn what_this_host_sends_is_not_taken_for_a_clients() {
    let program = program(Queue::Mapped, &two_of_each());
    let sent = tcp("10.0.0.1", "10.0.0.100");
    assert_eq!(run(&program, &sent, false), Some(u32::MAX));
    let outgoing: Vec<sock_filter> = program
        .iter()
        .map(|i| {
            if i.code == LD_B_ABS && i.k == PACKET_TYPE {
                op(LD_IMM, 0, 0, u32::from(libc::PACKET_OUTGOING))
            } else {
                *i
            }
        })
        .collect();
    assert_eq!(run(&outgoing, &sent, false), Some(0));
}

#[test]
fn thousands_of_addresses_still_make_a_valid_program() {
    let vips: Vec<IpAddr> = (0..3000u32).map(|n| IpAddr::V4((0x0a000000 + n).into())).collect();
    let program = both(&Wanted { vips, ..Wanted::default() });
    assert!(program.iter().all(|program| program.len() <= 4096));
    assert!(passes(&program, &tcp("10.0.0.1", "10.0.0.100")));
}

#[test]
fn answers_and_clients_pass_however_many_addresses_there_are_and_whichever_program_is_coarse() {
    for count in [1, 200, 600, 700, 1300, 1985, 2000, 3000] {
        let vips = (0..count).map(|n: u32| IpAddr::V4((0x0a010000 + n).into())).collect();
        let wanted = Wanted { vips, probe_sources: addresses(&["10.0.0.2", "fd00::2"]), tarpit: vec![] };
        let exact = both(&wanted);
        let coarse = [Queue::Clients, Queue::Aside].map(|queue| coarse_program(queue, &wanted));
        assert!(exact.iter().chain(&coarse).all(|program| program.len() <= 4096), "{count}");
        for clients in [&exact[0], &coarse[0]] {
            for aside in [&exact[1], &coarse[1]] {
                let taken =
                    |program: &[sock_filter], frame: &[u8], tagged| run(program, frame, tagged).is_some_and(|n| n != 0);
                let answer = tcp("10.1.0.0", "10.0.0.2");
                assert!(taken(aside, &answer, false) && taken(aside, &answer, true), "{count}");
                assert!(taken(clients, &tcp("10.0.0.1", "10.1.0.0"), false), "{count}");
                assert!(taken(aside, &tcp("10.0.0.1", "10.1.0.0"), true), "{count}");
                assert!(taken(aside, &frame(0x0806, &[0; 28]), false), "{count}");
            }
        }
    }
}

#[test]
fn a_jump_over_hundreds_of_instructions_arrives() {
    let vips: Vec<IpAddr> = (0..300u32).map(|n| IpAddr::V4((0x0a010000 + n).into())).collect();
    let tarpit = (0..300u32).map(|n| Network::new(IpAddr::V4((0x0a020000 + 16 * n).into()), 30).unwrap()).collect();
    let wanted = Wanted { vips, probe_sources: addresses(&["10.0.0.2"]), tarpit };
    let program = both(&wanted);
    assert!(program[0].len() < MOST, "not the coarse one");
    assert!(passes(&program, &tcp("10.1.1.43", "10.0.0.2")) && !passes(&program, &tcp("10.1.1.44", "10.0.0.2")));
    assert!(passes(&program, &tcp("10.0.0.1", "10.2.18.179")) && !passes(&program, &tcp("10.0.0.1", "10.2.18.180")));
}

#[test]
fn where_there_is_no_room_to_be_exact_more_passes_but_not_all() {
    let vips: Vec<IpAddr> = (0..1500u32).map(|n| IpAddr::V4((0x0a010000 + n).into())).collect();
    let tarpit = (0..128u32).map(|n| Network::new(IpAddr::V6((0xfd00 << 112 | 1 << n).into()), 128).unwrap()).collect();
    let wanted = Wanted { vips, probe_sources: addresses(&["10.0.0.2", "fd00::2"]), tarpit };
    let program = both(&wanted);
    assert!(program.iter().all(|program| program.len() <= 4096));
    let passes = |frame: &[u8]| passes(&program, frame);
    assert!(passes(&tcp("10.1.0.7", "10.0.0.2")) && passes(&tcp("10.0.0.1", "10.1.5.219")));
    assert!(passes(&tcp("10.0.0.1", "10.0.0.2")), "to a probe's source, from anybody");
    assert!(passes(&tcp("fd00::1", "fd00::8000")) && passes(&tcp("fd00::1", "fd00::3")), "around the tarpit");
    assert!(!passes(&tcp("10.0.0.1", "10.0.0.3")) && !passes(&tcp("fd00::1", "fd77::3")), "but not all");
}

/// Addresses that meet: few of them, in both families.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0..8u32).prop_map(|n| IpAddr::V4((0x0a000000 + n).into())),
        (0..8u128).prop_map(|n| IpAddr::V6(((0xfd00 << 112) + n).into())),
    ]
}

fn network() -> impl Strategy<Value = Network> {
    (address(), 0..8u8).prop_map(|(address, up)| {
        let longest = if address.is_ipv4() { 32 } else { 128 };
        Network::new(address, [longest, longest - 1, longest - 2, longest - 3, 24, 8, 1, 0][usize::from(up)]).unwrap()
    })
}

proptest! {
    #[test]
    fn agrees_with_the_words(
        vips in proptest::collection::vec(address(), 0..4),
        probe_sources in proptest::collection::vec(address(), 0..4),
        tarpit in proptest::collection::vec(network(), 0..3),
        (source, destination) in (address(), address()),
        number in prop_oneof![Just(1u8), Just(6), Just(58)],
        kind in prop_oneof![Just(3u8), Just(8)],
    ) {
        prop_assume!(source.is_ipv4() == destination.is_ipv4());
        let expected = vips.contains(&destination)
            || tarpit.iter().any(|network| network.contains(destination))
            || probe_sources.contains(&destination)
                && (vips.contains(&source) || source.is_ipv4() && number == 1 && kind == 3)
            || source.is_ipv6() && number == 58;
        let sent = packet(source, destination, number, &[kind, 0, 0, 0]);
        let wanted = Wanted { vips, probe_sources, tarpit };
        let program = both(&wanted);
        prop_assert!(passes(&program, &sent) == expected, "{:?} to {:?} by {:?}", source, destination, number);
        let mapped = [Queue::Mapped, Queue::Own].map(|queue| super::program(queue, &wanted));
        prop_assert!(passes(&mapped, &sent) == expected, "{:?} to {:?} by {:?}, mapped", source, destination, number);
    }
}
