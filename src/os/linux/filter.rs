//! The socket filter (classic BPF): which frames are worth waking up for. A first sieve, no decision: what it lets pass
//! is still looked at by the engine.

use std::net::IpAddr;

use libc::sock_filter;

/// With or without a VLAN tag that the kernel has taken out of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tag {
    /// Frames with a tag.
    Present,
    /// Frames without.
    Absent,
}

// From linux/bpf_common.h and linux/filter.h.
const LD_H_ABS: u16 = 0x28;
const LD_W_ABS: u16 = 0x20;
const LD_B_ABS: u16 = 0x30;
const JMP_JEQ_K: u16 = 0x15;
const JMP_JA: u16 = 0x05;
const RET_K: u16 = 0x06;
/// SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT.
const VLAN_TAG_PRESENT: u32 = (-0x1000i32 + 48) as u32;

const ACCEPT: u32 = u32::MAX;
const REJECT: u32 = 0;
/// BPF_MAXINSNS is 4096.
const MOST: usize = 4000;

fn op(code: u16, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code, jt, jf, k }
}

/// Accepts ARP, neighbour discovery, what goes to `vips`, and frames with a further tag.
pub(super) fn program(tag: Tag, vips: &[IpAddr]) -> Vec<sock_filter> {
    let mut v4 = vec![op(LD_W_ABS, 0, 0, 30)];
    let mut v6 = vec![
        // ICMPv6 right behind the header, to anybody: solicitations for the VIPs, backends' advertisements.
        op(LD_B_ABS, 0, 0, 20),
        op(JMP_JEQ_K, 0, 1, 58),
        op(RET_K, 0, 0, ACCEPT),
    ];
    for vip in vips {
        match vip {
            IpAddr::V4(vip) => v4.extend([op(JMP_JEQ_K, 0, 1, vip.to_bits()), op(RET_K, 0, 0, ACCEPT)]),
            IpAddr::V6(vip) => {
                let words = vip.octets();
                for (n, word) in words.as_chunks::<4>().0.iter().enumerate() {
                    // A word that differs jumps behind this address's accept.
                    let rest = (3 - n) as u8 * 2 + 1;
                    v6.extend([
                        op(LD_W_ABS, 0, 0, 38 + 4 * n as u32),
                        op(JMP_JEQ_K, 0, rest, u32::from_be_bytes(*word)),
                    ]);
                }
                v6.push(op(RET_K, 0, 0, ACCEPT));
            }
        }
    }
    if v4.len() + v6.len() > MOST {
        return coarse_program(tag);
    }
    v4.push(op(RET_K, 0, 0, REJECT));
    v6.push(op(RET_K, 0, 0, REJECT));
    assemble(tag, v4, v6)
}

/// Accepts ARP, all of IPv4 and IPv6, and frames with a further tag: for more addresses than a program has room for.
pub(super) fn coarse_program(tag: Tag) -> Vec<sock_filter> {
    assemble(tag, vec![op(RET_K, 0, 0, ACCEPT)], vec![op(RET_K, 0, 0, ACCEPT)])
}

/// A program that goes on with `v4` or `v6` for packets of that family.
fn assemble(tag: Tag, v4: Vec<sock_filter>, v6: Vec<sock_filter>) -> Vec<sock_filter> {
    let mut program = vec![
        op(LD_B_ABS, 0, 0, VLAN_TAG_PRESENT),
        op(JMP_JEQ_K, 1, 0, u32::from(tag == Tag::Present)),
        op(RET_K, 0, 0, REJECT),
        op(LD_H_ABS, 0, 0, 12),
        // ARP, and a second tag that is still in the frame.
        op(JMP_JEQ_K, 2, 0, 0x0806),
        op(JMP_JEQ_K, 1, 0, 0x8100),
        op(JMP_JEQ_K, 0, 1, 0x88a8),
        op(RET_K, 0, 0, ACCEPT),
        op(JMP_JEQ_K, 0, 1, 0x86dd),
        // Conditional jumps reach 255 instructions, this one any number.
        op(JMP_JA, 0, 0, v4.len() as u32 + 2),
        op(JMP_JEQ_K, 1, 0, 0x0800),
        op(RET_K, 0, 0, REJECT),
    ];
    program.extend(v4);
    program.extend(v6);
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program over a frame as the kernel would; `None` when it reads beyond the frame, which rejects.
    fn run(program: &[sock_filter], frame: &[u8], tagged: bool) -> Option<u32> {
        let mut a = 0u32;
        let mut pc = 0usize;
        loop {
            let i = program[pc];
            pc += 1;
            let bytes = |n: usize| frame.get(i.k as usize..i.k as usize + n);
            match i.code {
                LD_B_ABS if i.k == VLAN_TAG_PRESENT => a = u32::from(tagged),
                LD_B_ABS => a = u32::from(bytes(1)?[0]),
                LD_H_ABS => a = u32::from(u16::from_be_bytes(bytes(2)?.try_into().ok()?)),
                LD_W_ABS => a = u32::from_be_bytes(bytes(4)?.try_into().ok()?),
                JMP_JEQ_K => pc += usize::from(if a == i.k { i.jt } else { i.jf }),
                JMP_JA => pc += i.k as usize,
                RET_K => return Some(i.k),
                other => panic!("unexpected code {other:#x}"),
            }
        }
    }

    fn frame(ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn v4(destination: [u8; 4]) -> Vec<u8> {
        let mut packet = vec![0x45; 16];
        packet.extend(destination);
        packet.resize(46, 0);
        frame(0x0800, &packet)
    }

    fn v6(destination: &str, next: u8) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        packet.extend([0; 16]);
        packet.extend(destination.parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.resize(60, 0);
        frame(0x86dd, &packet)
    }

    #[test]
    fn lets_pass_what_concerns_the_vips_and_nothing_else() {
        let vips: Vec<IpAddr> =
            ["10.0.0.100", "fd00::100", "10.0.0.101", "fd00::101"].map(|a| a.parse().unwrap()).to_vec();
        let program = program(Tag::Absent, &vips);
        let passes = |frame: &[u8]| run(&program, frame, false).is_some_and(|n| n != 0);
        assert!(passes(&v4([10, 0, 0, 100])) && passes(&v4([10, 0, 0, 101])));
        assert!(!passes(&v4([10, 0, 0, 2])));
        assert!(passes(&v6("fd00::100", 6)) && passes(&v6("fd00::101", 17)));
        assert!(!passes(&v6("fd00::102", 6)) && !passes(&v6("fe00::101", 6)));
        assert!(passes(&v6("fe80::2", 58)), "neighbour discovery");
        assert!(passes(&frame(0x0806, &[0; 28])) && passes(&frame(0x8100, &[0; 50])));
        assert!(!passes(&frame(0x88cc, &[0; 50])), "LLDP");
        assert!(!passes(&frame(0x0800, &[0x45; 4])), "truncated");
    }

    #[test]
    fn each_socket_takes_its_own_frames() {
        let vips = ["10.0.0.100".parse().unwrap()];
        for (tag, tagged) in [(Tag::Absent, false), (Tag::Present, true)] {
            let program = program(tag, &vips);
            assert!(run(&program, &v4([10, 0, 0, 100]), tagged).is_some_and(|n| n != 0));
            assert_eq!(run(&program, &v4([10, 0, 0, 100]), !tagged), Some(0));
        }
    }

    #[test]
    fn thousands_of_addresses_still_make_a_valid_program() {
        let vips: Vec<IpAddr> = (0..3000u32).map(|n| IpAddr::V4((0x0a000000 + n).into())).collect();
        let program = program(Tag::Absent, &vips);
        assert!(program.len() <= 4096);
        assert!(run(&program, &v4([10, 0, 0, 100]), false).is_some_and(|n| n != 0));
    }
}
