//! Fragments, in any order and any mixture of datagrams.

use std::collections::HashMap;

use pen_dsr::verdict::{DropReason, Verdict};
use proptest::prelude::*;

use crate::golden::config::{self, ALL, SOME, UNRESOLVED, VIP_MAC};
use crate::golden::frames::{Packet, Tags, quote, udp_datagram};
use crate::invariants::Watched;

/// One datagram to come in parts.
#[derive(Clone, Debug)]
struct Datagram {
    client: u8,
    port: u16,
    v6: bool,
    vip: usize,
    parts: u16,
    tagged: bool,
}

fn datagram() -> impl Strategy<Value = Datagram> {
    (1..250u8, 1024..u16::MAX, any::<bool>(), 0..2usize, 2..8u16, any::<bool>())
        .prop_map(|(client, port, v6, vip, parts, tagged)| Datagram { client, port, v6, vip, parts, tagged })
}

impl Datagram {
    fn client(&self) -> String {
        if self.v6 { format!("2001:db8::{:x}", self.client) } else { format!("198.51.100.{}", self.client) }
    }

    fn vip(&self) -> &'static str {
        [ALL, SOME][self.vip][usize::from(self.v6)]
    }

    /// The frames, 32 bytes of the datagram in each.
    fn frames(&self, id: u16) -> Vec<Vec<u8>> {
        let payload: Vec<u8> = (0..self.parts * 32 - 8).map(|n| n as u8).collect();
        let whole = udp_datagram(&self.client(), self.vip(), (self.port, 53), &payload);
        let tags = if self.tagged { Tags::Customer(7) } else { Tags::None };
        (0..self.parts)
            .map(|part| {
                let at = usize::from(part) * 32;
                Packet::new(VIP_MAC, &self.client(), self.vip())
                    .tags(tags)
                    .fragment(id, part * 32, part + 1 < self.parts)
                    .protocol(17, &whole[at..at + 32])
            })
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_parts_of_a_datagram_reach_one_backend_in_whatever_order_they_come(
        (datagrams, order) in prop::collection::vec(datagram(), 1..7).prop_flat_map(|datagrams| {
            let all: Vec<(usize, usize)> = datagrams.iter().enumerate()
                .flat_map(|(i, datagram)| (0..usize::from(datagram.parts)).map(move |part| (i, part))).collect();
            (Just(datagrams), Just(all).prop_shuffle())
        }),
        with_port in any::<bool>(),
    ) {
        let frames: Vec<Vec<Vec<u8>>> = datagrams.iter().enumerate().map(|(i, datagram)| datagram.frames(100 + i as u16)).collect();
        let mut engine = Watched::new(with_port);
        let mut left = Vec::new();
        for (i, part) in order {
            let (verdict, sent) = engine.show(&frames[i][part]);
            prop_assert!(matches!(verdict, Verdict::Transmit | Verdict::Drop(DropReason::Held)), "{:?}", verdict);
            left.extend(sent);
        }
        // What lies behind the MACs says which datagram and part a frame is.
        let sent: HashMap<&[u8], &[u8]> = left.iter().map(|frame| (&frame[12..], &frame[..6])).collect();
        let tables = config::tables(with_port);
        for (datagram, frames) in datagrams.iter().zip(&frames) {
            let vip = tables.vip(datagram.vip().parse().unwrap()).unwrap();
            let service = tables.service(vip, 17, 53).unwrap();
            let choice = service.current.choose(datagram.client().parse().unwrap(), datagram.port).backend.unwrap();
            let backend = tables.backend(choice).unwrap().mac.unwrap();
            for frame in frames {
                prop_assert_eq!(sent.get(&frame[12..]).copied(), Some(&backend.0[..]), "{:?}", datagram);
            }
        }
        prop_assert_eq!(left.len(), frames.iter().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn with_the_port_in_the_hash_one_clients_datagrams_go_to_several_backends_and_each_stays_whole() {
    let mut engine = Watched::new(true);
    let mut seen = HashMap::new();
    for port in 1..=300u16 {
        let datagram = Datagram { client: 1, port, v6: false, vip: 0, parts: 3, tagged: false };
        let mut backends: Vec<Vec<u8>> =
            datagram.frames(port).iter().map(|frame| engine.show(frame).1.swap_remove(0)[..6].to_vec()).collect();
        backends.dedup();
        assert_eq!(backends.len(), 1, "port {port}");
        *seen.entry(backends.swap_remove(0)).or_insert(0) += 1;
    }
    // Weights 1, 1 and 2.
    assert_eq!(seen.len(), 3, "{seen:?}");
    assert!(seen.values().all(|n| (40..200).contains(n)), "{seen:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_error_reaches_the_backend_of_the_flow_that_it_quotes(
        flow in datagram(),
        with_port in any::<bool>(),
        is_tcp in any::<bool>(),
        bytes in 8usize..60,
    ) {
        let (client, vip) = (flow.client(), flow.vip());
        let service = if is_tcp { 80 } else { 53 };
        let to_vip = Packet::new(VIP_MAC, &client, vip);
        let from_vip = Packet::new(VIP_MAC, vip, &client);
        let (packet, lost) = if is_tcp {
            (to_vip.tcp(flow.port, service, b""), from_vip.tcp(service, flow.port, &[0x55; 60]))
        } else {
            (to_vip.udp(flow.port, service, b""), from_vip.udp(service, flow.port, &[0x55; 60]))
        };
        let (router, kind, header) = if flow.v6 { ("2001:db8:f::1", 2, 40) } else { ("203.0.113.1", 3, 20) };
        let quote = quote(&lost, header + bytes);
        let error = Packet::new(VIP_MAC, router, vip).icmp(kind, 4 * u8::from(!flow.v6), [0, 0, 5, 0x78], quote);
        let mut engine = Watched::new(with_port);
        let (of_flow, of_error) = (engine.show(&packet).1, engine.show(&error).1);
        prop_assert_eq!((of_flow.len(), of_error.len()), (1, 1));
        prop_assert_eq!(&of_flow[0][..6], &of_error[0][..6]);
    }
}

#[test]
fn parts_of_datagrams_that_never_come_whole_do_not_keep_out_what_waits_for_a_backend() {
    let mut engine = Watched::new(true);
    for id in 0..1000 {
        let datagram = Datagram { client: 1, port: 1024, v6: false, vip: 0, parts: 2, tagged: false };
        engine.show(&datagram.frames(id)[1]);
    }
    let syn = Packet::new(VIP_MAC, "198.51.100.2", UNRESOLVED[0]).syn(40000, 80);
    assert_eq!(engine.show(&syn).0, Verdict::Drop(DropReason::Held));
}
