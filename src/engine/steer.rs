//! Which backend a packet of a service goes to: the one that has its flow, or the one that is chosen for it.

use crate::lb::flow::{Flow, FlowTable, Settled, Signal, Stage};
use crate::lb::{Service, Tables};
use crate::wire::ip::protocol;
use crate::wire::l4::flags;

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Steered {
    /// To this backend.
    Backend {
        /// Its number.
        index: usize,
        /// The packet opened a flow.
        opened: bool,
        /// The flow is one of which more packets change nothing, and may be given a shortcut.
        settled: Option<Settled>,
    },
    /// Nobody is in service.
    NoBackend,
    /// The client is not permitted.
    Denied,
}

/// What a packet with these TCP flags says about its flow.
#[inline]
pub(super) fn signal(proto: u8, tcp_flags: u8) -> Signal {
    if proto != protocol::TCP {
        Signal::Datagram
    } else if tcp_flags & flags::RST != 0 {
        Signal::Reset
    } else if tcp_flags & flags::FIN != 0 {
        Signal::Finish
    } else if tcp_flags & (flags::SYN | flags::ACK) == flags::SYN {
        Signal::Open
    } else {
        Signal::Segment
    }
}

/// Steers a packet of `flow` that says `signal`, and remembers what was decided.
///
/// A flow that is known stays where it is while its backend keeps its flows. Otherwise, what opens a flow chooses by the
/// current generation; a TCP segment of a flow that is not known is older than what is remembered, and the previous
/// generation decides if there is one.
// Always: a flow that is passed in memory and read again at once, in other words, holds the processor up.
#[inline(always)]
pub(super) fn steer(tables: &Tables, flows: &mut FlowTable, service: &Service, flow: &Flow, signal: Signal) -> Steered {
    let tag = flows.tag(flow);
    let found = flows.find(tag);
    if let Some(found) = found {
        let opens_another = signal == Signal::Open && (found.stage.is_over() || found.stage == Stage::Adopted);
        if !opens_another && tables.keeps_flows(found.owner) {
            let settled = flows.refresh(tag, found, signal);
            return Steered::Backend { index: usize::from(found.owner.backend), opened: false, settled };
        }
    }
    if !service.admits(flow.client) {
        return Steered::Denied;
    }
    let opens = matches!(signal, Signal::Open | Signal::Datagram);
    let choice = if opens {
        service.current.choose(flow.client, flow.client_port)
    } else {
        tables.elder_choice(service, flow.client, flow.client_port)
    };
    let Some(index) = choice.backend else {
        return Steered::NoBackend;
    };
    let reachable = tables.backend(index).is_some_and(|backend| backend.mac.is_some());
    match found {
        // It has to wait until its backend has been found. If that is gone, the flow may always have been another's.
        None if !opens && !reachable => {}
        None => flows.insert(tag, tables.owner(index), signal),
        Some(found) if opens || !tables.knows(found.owner) => flows.replace(tag, found, tables.owner(index), signal),
        // Only one packet was seen, and may not have been answered: a SYN that waited in vain, a segment whose backend was
        // guessed. Another balancer may have had the flow since.
        Some(found) if matches!(found.stage, Stage::Opening | Stage::Adopted) && reachable => {
            flows.replace(tag, found, tables.owner(index), signal);
        }
        // Its backend is down. This segment goes where it is answered by a RST; should the backend return before the
        // client says anything, the flow goes on.
        Some(_) => {}
    }
    Steered::Backend { index, opened: opens, settled: None }
}

/// Which backend has `flow`, of which an ICMP error tells; nothing is remembered.
pub(super) fn backend_of(tables: &Tables, flows: &mut FlowTable, service: &Service, flow: &Flow) -> Option<usize> {
    let tag = flows.tag(flow);
    let found = flows.find(tag).filter(|found| tables.keeps_flows(found.owner));
    match found {
        Some(found) => Some(usize::from(found.owner.backend)),
        None => tables.elder_choice(service, flow.client, flow.client_port).backend,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::counters::FlowCounters;
    use crate::lb::flow::{Memory, Shape, Timeouts};
    use crate::lb::maglev::{Member, Table};
    use crate::lb::{Backend, ClientHash, Generation, Protocols, Seed, Settings, Vip};
    use crate::wire::ether::Mac;

    fn generation(shares: [u8; 2]) -> Generation {
        let member = |n: usize| Member { share: shares[n], ..Member::up(["be1", "be2"][n], 1) };
        let slots = Arc::new(Table::build(&[member(0), member(1)], Seed(1), 251));
        Generation { hash: ClientHash::new(Seed(1), false), slots }
    }

    /// Tables by which new flows choose by `current` and older ones by `previous`, and be1 is `first`.
    fn tables(current: Generation, previous: Option<Generation>, first: Backend) -> Tables {
        let services = vec![Service { previous, ..Service::new(0, Protocols::All, current) }];
        let vips = vec![Vip { address: "10.0.0.100".parse().unwrap(), number: 0, services }];
        Tables::new(vips, vec![first, Backend::up(Mac([2, 0, 0, 0, 0, 2]))], Settings::default())
    }

    /// Where packets of a flow that is not known go, one after the other, whose client chooses be1 if it is up: numbers of
    /// the backends.
    fn packets(by: &[(Signal, Tables)]) -> Vec<usize> {
        let mut clients = (1..).map(|n: u32| std::net::IpAddr::V4(n.into()));
        let both = generation([100, 100]);
        let client = clients.find(|c| both.choose(*c, 0).backend == Some(0)).unwrap();
        let vip = "10.0.0.100".parse().unwrap();
        let flow = Flow { client, client_port: 1, vip, vip_port: 80, protocol: protocol::TCP };
        let memory = Memory::fresh(Shape::of(1024), (1, 2)).unwrap();
        let counters = Arc::new(FlowCounters::default());
        let mut flows = FlowTable::new(memory, &Timeouts::default(), counters, Instant::now(), |_| true);
        let packet = |(signal, tables): &(Signal, Tables)| {
            let service = tables.service(0, protocol::TCP, 80).unwrap();
            match steer(tables, &mut flows, service, &flow, *signal) {
                Steered::Backend { index, .. } => index,
                other => panic!("{other:?}"),
            }
        };
        by.iter().map(packet).collect()
    }

    fn segments(by: &[Tables]) -> Vec<usize> {
        packets(&by.iter().map(|tables| (Signal::Segment, tables.clone())).collect::<Vec<_>>())
    }

    #[test]
    fn a_flow_is_not_remembered_with_a_backend_that_may_never_be_found() {
        // The balancer has just started: be1 is being asked for. It is dead; the flow was opened at be2.
        let asked = Backend { mac: None, ..Backend::up(Mac::default()) };
        let gone = Backend { in_service: false, keeps_flows: false, ..asked };
        let up = Backend::up(Mac([2, 0, 0, 0, 0, 1]));
        let both = || generation([100, 100]);
        let at_first = tables(both(), None, asked);
        let then = tables(generation([0, 100]), Some(both()), gone);
        // be1 returns, and the flow is not its own.
        let at_last = tables(both(), None, up);
        assert_eq!(segments(&[at_first.clone(), at_first, then, at_last]), [0, 0, 1, 1]);
    }

    #[test]
    fn what_was_guessed_is_forgotten_when_it_cannot_be_so() {
        let up = Backend::up(Mac([2, 0, 0, 0, 0, 1]));
        let gone = Backend { mac: None, in_service: false, keeps_flows: false, epoch: 0 };
        let both = || generation([100, 100]);
        let then = tables(generation([0, 100]), Some(both()), gone);
        let at_last = tables(both(), None, up);
        assert_eq!(segments(&[tables(both(), None, up), then, at_last.clone()]), [0, 1, 1]);
        let then = tables(generation([0, 100]), Some(both()), gone);
        let by = [(Signal::Open, at_last.clone()), (Signal::Segment, then), (Signal::Segment, at_last.clone())];
        assert_eq!(packets(&by), [0, 1, 1], "another balancer has opened it anew");
        // A flow of which more was seen goes on if its backend returns before it has been reset.
        let then = tables(generation([0, 100]), Some(both()), gone);
        assert_eq!(segments(&[at_last.clone(), at_last.clone(), then, at_last]), [0, 0, 1, 0]);
    }
}
