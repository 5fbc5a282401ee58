//! The socket filter (classic BPF): which frames are worth waking up for. A first sieve, no decision: what it lets pass
//! is still looked at by the engine.

use std::net::IpAddr;

use libc::sock_filter;

use crate::lb::acl::Network;
use crate::os::Wanted;
use crate::wire::ip::protocol;

/// Two queues, so that a flood of clients' frames pushes out nothing that the balancer itself depends on: `Clients` and
/// `Aside`, or `Mapped` and `Own`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Queue {
    /// Clients' frames, without a VLAN tag that the kernel has taken out.
    Clients,
    /// ARP, neighbour discovery, answers to probes; and frames with such a tag, which take another way to be read.
    Aside,
    /// Clients' frames, with such a tag or without: a mapped ring says which tag it was.
    Mapped,
    /// ARP, neighbour discovery, answers to probes, with such a tag or without.
    Own,
}

/// What a piece of a program is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Everything.
    All,
    /// What clients send.
    Clients,
    /// What the balancer itself depends on.
    Own,
}

// From linux/bpf_common.h and linux/filter.h.
const LD_H_ABS: u16 = 0x28;
const LD_W_ABS: u16 = 0x20;
const LD_B_ABS: u16 = 0x30;
/// A byte at the index register and further.
const LD_B_IND: u16 = 0x50;
/// Four times the low half of a byte, into the index register.
const LDX_HEADER_LENGTH: u16 = 0xb1;
const AND_K: u16 = 0x54;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JGT_K: u16 = 0x25;
const JMP_JGE_K: u16 = 0x35;
const JMP_JA: u16 = 0x05;
const RET_K: u16 = 0x06;
/// SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT.
const VLAN_TAG_PRESENT: u32 = (-0x1000i32 + 48) as u32;
/// SKF_AD_OFF + SKF_AD_PKTTYPE.
const PACKET_TYPE: u32 = (-0x1000i32 + 4) as u32;

// Where an untagged frame, or one whose tag the kernel has taken out, has what is looked at.
const HEADER: u32 = 14;
const V4_PROTOCOL: u32 = 23;
const V4_SOURCE: u32 = 26;
const V4_DESTINATION: u32 = 30;
const V6_NEXT_HEADER: u32 = 20;
const V6_SOURCE: u32 = 22;
const V6_DESTINATION: u32 = 38;
/// The type of an ICMPv6 message right behind the header.
const V6_ICMP_TYPE: u32 = 54;
/// The types of neighbour discovery (RFC 4861): from router solicitation to redirect.
const DISCOVERY: std::ops::RangeInclusive<u32> = 133..=137;
/// The type of ICMP's "destination unreachable" (RFC 792).
const UNREACHABLE: u32 = 3;

const ACCEPTS: sock_filter = op(RET_K, 0, 0, u32::MAX);
const REJECTS: sock_filter = op(RET_K, 0, 0, 0);
/// BPF_MAXINSNS is 4096.
const MOST: usize = 4000;

const fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Accepts for `queue` what is `wanted`, ARP, neighbour discovery, and frames with a further tag; more than that, if there
/// is no room to say it exactly.
pub(super) fn program(queue: Queue, wanted: &Wanted) -> Vec<sock_filter> {
    let rough = roughly(&wanted.tarpit);
    let families = |tarpit, answers, part| (v4(wanted, tarpit, answers, part), v6(wanted, tarpit, answers, part));
    for (tarpit, answers) in [(&wanted.tarpit, Answers::FromVips), (&rough, Answers::FromAnybody)] {
        let program = match queue {
            Queue::Clients => for_clients(families(tarpit, answers, Part::Clients)),
            Queue::Aside => aside(families(tarpit, answers, Part::All), families(tarpit, answers, Part::Own)),
            Queue::Mapped => mapped(families(tarpit, answers, Part::Clients)),
            Queue::Own => by_ethertype(ACCEPTS, REJECTS, families(tarpit, answers, Part::Own)),
        };
        if program.len() <= MOST {
            return program;
        }
    }
    coarse_program(queue, wanted)
}

/// Whose packets to a probe's source pass.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// The VIPs', and ICMP errors.
    FromVips,
    /// Everybody's.
    FromAnybody,
}

/// `networks` and perhaps more, in fewer: with prefixes of at most 24 and 64.
fn roughly(networks: &[Network]) -> Vec<Network> {
    let mut rough: Vec<Network> = Vec::new();
    for network in networks {
        let most = if network.address.is_ipv4() { 24 } else { 64 };
        // Ascending networks, as those of a list are, have their equals side by side.
        let wider = Network::new(network.address, network.prefix.min(most)).unwrap_or(*network);
        if rough.last() != Some(&wider) {
            rough.push(wider);
        }
    }
    rough
}

fn v4(wanted: &Wanted, tarpit: &[Network], answers: Answers, part: Part) -> Vec<sock_filter> {
    let only = |address: &IpAddr| if let IpAddr::V4(address) = address { Some(address.to_bits()) } else { None };
    let vips: Vec<u32> = wanted.vips.iter().filter_map(only).collect();
    let sources: Vec<u32> = wanted.probe_sources.iter().filter_map(only).collect();
    let from_or_to_vip = || vips.iter().flat_map(|&vip| [op(JMP_JEQ_K, 0, 1, vip), ACCEPTS]);

    let mut code = Vec::new();
    if part != Part::Own {
        code.push(op(LD_W_ABS, 0, 0, V4_DESTINATION));
        code.extend(from_or_to_vip());
        for network in tarpit {
            if let IpAddr::V4(address) = network.address {
                code.extend(when_in(V4_DESTINATION, &address.octets(), network.prefix, ACCEPTS));
            }
        }
    }
    if sources.is_empty() || part == Part::Clients {
        code.push(REJECTS);
        return code;
    }
    code.push(op(LD_W_ABS, 0, 0, V4_DESTINATION));
    let jumps = sources.iter().map(|&source| push_jump(&mut code, &[op(JMP_JEQ_K, 0, 1, source)])).collect();
    code.push(REJECTS);
    land(&mut code, jumps);
    if answers == Answers::FromAnybody {
        code.push(ACCEPTS);
        return code;
    }
    code.push(op(LD_W_ABS, 0, 0, V4_SOURCE));
    code.extend(from_or_to_vip());
    code.extend([
        op(LD_B_ABS, 0, 0, V4_PROTOCOL),
        op(JMP_JEQ_K, 0, 3, u32::from(protocol::ICMP)),
        op(LDX_HEADER_LENGTH, 0, 0, HEADER),
        op(LD_B_IND, 0, 0, HEADER),
        op(JMP_JEQ_K, 1, 0, UNREACHABLE),
        REJECTS,
        ACCEPTS,
    ]);
    code
}

fn v6(wanted: &Wanted, tarpit: &[Network], answers: Answers, part: Part) -> Vec<sock_filter> {
    let only = |address: &IpAddr| if let IpAddr::V6(address) = address { Some(address.octets()) } else { None };
    let vips: Vec<[u8; 16]> = wanted.vips.iter().filter_map(only).collect();
    let sources: Vec<[u8; 16]> = wanted.probe_sources.iter().filter_map(only).collect();

    let mut code = icmpv6(part);
    if part != Part::Own {
        code.extend(vips.iter().flat_map(|vip| when_in(V6_DESTINATION, vip, 128, ACCEPTS)));
        for network in tarpit {
            if let IpAddr::V6(address) = network.address {
                code.extend(when_in(V6_DESTINATION, &address.octets(), network.prefix, ACCEPTS));
            }
        }
    }
    if part == Part::Clients {
        code.push(REJECTS);
        return code;
    }
    let mut to_source = |source: &[u8; 16]| {
        let test = when_in(V6_DESTINATION, source, 128, ACCEPTS);
        // All but what it does then, which is the jump.
        push_jump(&mut code, &test[..test.len() - 1])
    };
    let jumps: Vec<usize> = sources.iter().map(&mut to_source).collect();
    code.push(REJECTS);
    if jumps.is_empty() {
        return code;
    }
    land(&mut code, jumps);
    if answers == Answers::FromAnybody {
        code.push(ACCEPTS);
        return code;
    }
    code.extend(vips.iter().flat_map(|vip| when_in(V6_SOURCE, vip, 128, ACCEPTS)));
    code.push(REJECTS);
    code
}

/// ICMPv6 right behind the header, to anybody: solicitations for the VIPs, backends' advertisements, errors. Goes on
/// behind with all else.
fn icmpv6(part: Part) -> Vec<sock_filter> {
    let (first, last) = (*DISCOVERY.start(), *DISCOVERY.end());
    let is_icmpv6 =
        |otherwise| [op(LD_B_ABS, 0, 0, V6_NEXT_HEADER), op(JMP_JEQ_K, 0, otherwise, u32::from(protocol::ICMPV6))];
    let is_discovery = [op(LD_B_ABS, 0, 0, V6_ICMP_TYPE), op(JMP_JGE_K, 0, 2, first), op(JMP_JGT_K, 1, 0, last)];
    let mut code = Vec::new();
    match part {
        Part::All => {
            code.extend(is_icmpv6(1));
            code.push(ACCEPTS);
        }
        Part::Clients => {
            code.extend(is_icmpv6(5));
            code.extend(is_discovery);
            code.extend([REJECTS, ACCEPTS]);
        }
        Part::Own => {
            code.extend(is_icmpv6(4));
            code.extend(is_discovery);
            code.push(ACCEPTS);
        }
    }
    code
}

/// Does `then` if the address at `at` begins with the first `prefix` bits of `address`; goes on behind it if not.
fn when_in(at: u32, address: &[u8], prefix: u8, then: sock_filter) -> Vec<sock_filter> {
    let mut code = Vec::new();
    let mut tests = Vec::new();
    for (n, word) in (0u32..).zip(address.as_chunks::<4>().0) {
        let bits = u32::from(prefix).saturating_sub(32 * n).min(32);
        if bits == 0 {
            break;
        }
        let mask = u32::MAX << (32 - bits);
        code.push(op(LD_W_ABS, 0, 0, at + 4 * n));
        if bits < 32 {
            code.push(op(AND_K, 0, 0, mask));
        }
        tests.push(code.len());
        code.push(op(JMP_JEQ_K, 0, 0, u32::from_be_bytes(*word) & mask));
    }
    code.push(then);
    // At most nine instructions: a test that fails jumps behind the last of them.
    let length = code.len();
    for test in tests {
        code[test].jf = (length - test - 1) as u8;
    }
    code
}

/// Adds `test`, whose failure jumps over one instruction, and a jump to a place that is not there yet; where that jump is.
fn push_jump(code: &mut Vec<sock_filter>, test: &[sock_filter]) -> usize {
    code.extend_from_slice(test);
    // Conditional jumps reach 255 instructions, this one any number.
    code.push(op(JMP_JA, 0, 0, 0));
    code.len() - 1
}

/// Makes the end of `code` the place to which `jumps` lead.
fn land(code: &mut [sock_filter], jumps: Vec<usize>) {
    let end = code.len();
    for jump in jumps {
        code[jump].k = (end - jump - 1) as u32;
    }
}

/// The same in few instructions: all of IPv4 and IPv6, wherever it goes to; aside, untagged, what goes to the sources of
/// probes, whoever it comes from. What each queue must have it has, whatever the other one's program is.
pub(super) fn coarse_program(queue: Queue, wanted: &Wanted) -> Vec<sock_filter> {
    let everything = || vec![ACCEPTS];
    let clients = || (everything(), [icmpv6(Part::Clients), everything()].concat());
    let own = || (v4(wanted, &[], Answers::FromAnybody, Part::Own), v6(wanted, &[], Answers::FromAnybody, Part::Own));
    match queue {
        Queue::Clients => for_clients(clients()),
        Queue::Aside => aside((everything(), everything()), own()),
        Queue::Mapped => mapped(clients()),
        Queue::Own => by_ethertype(ACCEPTS, REJECTS, own()),
    }
}

type Families = (Vec<sock_filter>, Vec<sock_filter>);

/// Untagged frames that clients send.
fn for_clients(families: Families) -> Vec<sock_filter> {
    let mut program = vec![op(LD_B_ABS, 0, 0, VLAN_TAG_PRESENT), op(JMP_JEQ_K, 1, 0, 0), REJECTS];
    program.extend(by_ethertype(REJECTS, ACCEPTS, families));
    program
}

/// Frames that clients send, whatever their tags. Sockets that share an interface (PACKET_FANOUT) see what it sends, too,
/// where the kernel does not know PACKET_FANOUT_FLAG_IGNORE_OUTGOING yet (before Linux 5.16).
fn mapped(families: Families) -> Vec<sock_filter> {
    let outgoing = u32::from(libc::PACKET_OUTGOING);
    let mut program = vec![op(LD_B_ABS, 0, 0, PACKET_TYPE), op(JMP_JEQ_K, 0, 1, outgoing), REJECTS];
    program.extend(by_ethertype(REJECTS, ACCEPTS, families));
    program
}

/// Nothing.
pub(super) fn nothing() -> Vec<sock_filter> {
    vec![REJECTS]
}

/// Tagged frames of all kinds, and of the untagged ones those that the balancer itself depends on.
fn aside(tagged: Families, own: Families) -> Vec<sock_filter> {
    let tagged = by_ethertype(ACCEPTS, ACCEPTS, tagged);
    let mut program = vec![
        op(LD_B_ABS, 0, 0, VLAN_TAG_PRESENT),
        op(JMP_JEQ_K, 1, 0, 1),
        // Conditional jumps reach 255 instructions, this one any number.
        op(JMP_JA, 0, 0, tagged.len() as u32),
    ];
    program.extend(tagged);
    program.extend(by_ethertype(ACCEPTS, REJECTS, own));
    program
}

/// What becomes of ARP, and of a frame with a further tag that is still in it; goes on with what there is for IPv4 and IPv6.
fn by_ethertype(arp: sock_filter, further_tag: sock_filter, (v4, v6): Families) -> Vec<sock_filter> {
    let mut code = vec![
        op(LD_H_ABS, 0, 0, 12),
        op(JMP_JEQ_K, 0, 1, 0x0806),
        arp,
        op(JMP_JEQ_K, 1, 0, 0x8100),
        op(JMP_JEQ_K, 0, 1, 0x88a8),
        further_tag,
        op(JMP_JEQ_K, 0, 1, 0x86dd),
        op(JMP_JA, 0, 0, v4.len() as u32 + 2),
        op(JMP_JEQ_K, 1, 0, 0x0800),
        REJECTS,
    ];
    code.extend(v4);
    code.extend(v6);
    code
}

#[cfg(test)]
mod tests;
