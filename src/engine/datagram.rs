//! What a datagram's parts and ICMP need: the memory of a first fragment, and the flow that an error quotes.

use super::steer::Steered;
use super::{Engine, Waiting, flow_of, steer};
use crate::lb::flow::Flow;
use crate::lb::fragment::{Destination, Key};
use crate::verdict::{DropReason, Verdict};
use crate::wire::ip::protocol;
use crate::wire::{ether, icmp, ip, l4};

impl Engine {
    /// A part of a datagram for a VIP: all parts go where the first one goes.
    pub(super) fn fragment(
        &mut self,
        frame: &mut [u8],
        eth: &ether::Header,
        vip: usize,
        header: &ip::Header,
        fragment: ip::Fragment,
    ) -> Verdict {
        let key = Key::new(header, fragment);
        if fragment.offset == 0 {
            return self.first_fragment(frame, eth, vip, header, key);
        }
        match self.fragments.get(&key, self.now) {
            Some(Destination::Host) => Verdict::Host,
            Some(Destination::Backend(backend)) => self.forward(frame, vip, backend),
            Some(Destination::Nowhere(reason)) => Verdict::Drop(reason),
            None => self.keep(frame, Waiting::First(key)),
        }
    }

    /// The part of a datagram that has its ports; parts that came before it follow it now.
    pub(super) fn first_fragment(
        &mut self,
        frame: &mut [u8],
        eth: &ether::Header,
        vip: usize,
        header: &ip::Header,
        key: Key,
    ) -> Verdict {
        let Engine { tables, flows, .. } = self;
        let steered = match header.protocol {
            protocol::TCP | protocol::UDP => {
                let segment = &frame[eth.payload + header.payload..eth.payload + header.end];
                let Ok(ports) = l4::leading_ports(segment) else {
                    return Verdict::Drop(DropReason::Malformed);
                };
                let signal = steer::signal(header.protocol, l4::tcp_flags(segment));
                let service = tables.service(vip, header.protocol, ports.destination);
                service.map(|service| steer::steer(tables, flows, service, &flow_of(header, ports), signal))
            }
            // A ping too long to answer in place: a backend has the VIP, it reassembles and answers.
            protocol::ICMP | protocol::ICMPV6 => tables.vips()[vip].services.first().map(|service| {
                let backend = service.current.choose(header.source, 0).backend;
                backend.map_or(Steered::NoBackend, |index| Steered::Backend { index, opened: false, settled: None })
            }),
            _ => None,
        };
        let destination = match steered {
            None => Destination::Host,
            Some(Steered::Backend { index, .. }) => Destination::Backend(index),
            Some(Steered::NoBackend) => Destination::Nowhere(DropReason::NoBackend),
            Some(Steered::Denied) => Destination::Nowhere(DropReason::Denied),
        };
        self.fragments.insert(key, destination, self.now);
        let verdict = match destination {
            Destination::Host => Verdict::Host,
            Destination::Backend(backend) => self.forward(frame, vip, backend),
            Destination::Nowhere(reason) => Verdict::Drop(reason),
        };
        self.release(|waiting| *waiting == Waiting::First(key));
        verdict
    }

    /// ICMP for a VIP: echo is answered here, an error goes to the backend of the flow that it quotes.
    pub(super) fn icmp(&mut self, frame: &mut [u8], eth: &ether::Header, vip: usize, header: &ip::Header) -> Verdict {
        let l4 = eth.payload + header.payload..eth.payload + header.end;
        match icmp::parse(header.protocol, &frame[l4.clone()]) {
            Err(_) => Verdict::Drop(DropReason::Malformed),
            Ok(icmp::Message::EchoRequest) if self.tables.settings().silent => Verdict::Host,
            Ok(icmp::Message::EchoRequest) => self.answer_echo(frame, eth, header, l4),
            Ok(icmp::Message::Error(quote)) => self.icmp_error(frame, vip, &quote),
            Ok(icmp::Message::Other) => self.neighbor_discovery(frame, eth),
        }
    }

    pub(super) fn icmp_error(&mut self, frame: &mut [u8], vip: usize, quote: &icmp::Quote) -> Verdict {
        // The quoted packet went from the VIP to the client: its source is our service, its destination our client.
        if self.tables.vip(quote.source) != Some(vip) {
            return Verdict::Host;
        }
        let Engine { tables, flows, .. } = self;
        let backend = match quote.ports {
            Some(ports) => tables.service(vip, quote.protocol, ports.source).map(|service| {
                let flow = Flow {
                    client: quote.destination,
                    client_port: ports.destination,
                    vip: quote.source,
                    vip_port: ports.source,
                    protocol: quote.protocol,
                };
                steer::backend_of(tables, flows, service, &flow)
            }),
            None => {
                let service = tables.portless_service(vip, quote.protocol);
                service.map(|service| tables.elder_choice(service, quote.destination, 0).backend)
            }
        };
        let Some(backend) = backend else {
            return Verdict::Host;
        };
        self.counters.icmp_errors.add(u64::from(backend.is_some()));
        self.forward_if_any(frame, vip, backend)
    }
}
