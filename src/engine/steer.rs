//! Which backend a packet of a service goes to: the one that has its flow, or the one that is chosen for it.

use crate::lb::flow::{Flow, FlowTable, Signal, Stage};
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
#[inline]
pub(super) fn steer(tables: &Tables, flows: &mut FlowTable, service: &Service, flow: &Flow, signal: Signal) -> Steered {
    let tag = flows.tag(flow);
    let found = flows.find(tag);
    if let Some(found) = found {
        let opens_another = signal == Signal::Open && (found.stage.is_over() || found.stage == Stage::Adopted);
        if !opens_another && tables.keeps_flows(found.owner) {
            flows.refresh(tag, found, signal);
            return Steered::Backend { index: usize::from(found.owner.backend), opened: false };
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
        // Its backend is down. This segment goes where it is answered by a RST; should the backend return before the
        // client says anything, the flow goes on.
        Some(_) => {}
    }
    Steered::Backend { index, opened: opens }
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
