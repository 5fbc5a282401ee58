//! The other side of a probe, and the wire in between, on a virtual clock.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::*;

pub const MS: Duration = Duration::from_millis(1);
pub const TIMEOUT: Duration = Duration::from_secs(1);
pub const PORT: u16 = 80;
pub const LOCAL_PORT: u16 = 40_001;

/// IPv4 and IPv6: whatever is tried has to hold for both.
pub const FAMILIES: [Target; 2] = [
    Target {
        vip: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100)),
        vip_port: PORT,
        source: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        local_port: LOCAL_PORT,
    },
    Target {
        vip: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x100)),
        vip_port: PORT,
        source: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
        local_port: LOCAL_PORT,
    },
];

/// What answers packets.
pub trait Backend {
    /// A packet came in.
    fn receive(&mut self, packet: &[u8], now: Instant) -> Vec<Vec<u8>>;
    /// A millisecond has passed.
    fn tick(&mut self, _now: Instant) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

/// A backend of a few lines.
impl<F: FnMut(&[u8]) -> Vec<Vec<u8>>> Backend for F {
    fn receive(&mut self, packet: &[u8], _now: Instant) -> Vec<Vec<u8>> {
        self(packet)
    }
}

/// Nobody there.
pub fn silence(_packet: &[u8]) -> Vec<Vec<u8>> {
    Vec::new()
}

/// What became of a probe.
#[derive(Debug)]
pub struct Run {
    pub result: Result<(), Reason>,
    pub took: Duration,
    /// What it sent, lost packets included, and when.
    pub sent: Vec<(Duration, Vec<u8>)>,
    /// Packets on the wire, of both sides.
    pub packets: usize,
}

/// Lets `check` ask `backend`; of all packets on the wire those are lost whose number `lost` says so.
pub fn run(check: &Check, target: Target, backend: &mut dyn Backend, lost: impl Fn(usize) -> bool) -> Run {
    let begin = Instant::now();
    let mut now = begin;
    let mut probe = Probe::start(check, target, TIMEOUT, 7, now);
    let (mut sent, mut packets) = (Vec::new(), 0);
    let mut arrives = || {
        packets += 1;
        !lost(packets - 1)
    };
    loop {
        let mut back = VecDeque::from(backend.tick(now));
        // Only when it says so: its deadline has to be true.
        if now >= probe.deadline(now) || !back.is_empty() {
            loop {
                while let Some(packet) = probe.poll_transmit(now) {
                    check_outgoing(&packet, target);
                    if arrives() {
                        back.extend(backend.receive(&packet, now));
                    }
                    sent.push((now - begin, packet));
                }
                let Some(packet) = back.pop_front() else { break };
                if arrives() {
                    assert_eq!(key_of(&packet), Some(probe.key()));
                    probe.handle_packet(&packet, now);
                }
            }
            let outcome = probe.outcome(now);
            assert_eq!(probe.poll_transmit(now), None, "nothing comes behind the last packet");
            if let Some(result) = outcome {
                assert_eq!(probe.outcome(now + TIMEOUT), Some(result.clone()), "a verdict stays");
                return Run { result, took: now - begin, sent, packets };
            }
            assert!(probe.deadline(now) > now, "nothing is due twice");
        }
        now += MS;
        assert!(now <= begin + TIMEOUT, "no verdict at the end of the timeout");
    }
}

/// As [`run`], and nothing is lost.
pub fn ask(check: &Check, target: Target, backend: &mut dyn Backend) -> Run {
    run(check, target, backend, |_| false)
}

/// Goes through each packet of an exchange that succeeds, and loses just that one.
pub fn survives_any_single_loss<B: Backend>(check: &Check, target: Target, backend: impl Fn() -> B) {
    let packets = ask(check, target, &mut backend()).packets;
    assert!(packets >= 2);
    for lost in 0..packets {
        let run = run(check, target, &mut backend(), |packet| packet == lost);
        assert_eq!(run.result, Ok(()), "{check} to {target:?} without packet {lost}");
    }
}

/// Somebody else's reading of what a probe sends.
fn check_outgoing(packet: &[u8], target: Target) {
    let headers = PacketHeaders::from_ip_slice(packet).expect("an IP packet");
    let payload = headers.payload.slice();
    let length = match headers.net.as_ref().expect("an IP header") {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!((IpAddr::from(ip.source), IpAddr::from(ip.destination)), (target.source, target.vip));
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(ip.time_to_live, 64);
            let sum = match headers.transport.as_ref().expect("an upper layer") {
                TransportHeader::Tcp(tcp) => (tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).unwrap()),
                TransportHeader::Udp(udp) => (udp.checksum, udp.calc_checksum_ipv4(ip, payload).unwrap()),
                TransportHeader::Icmpv4(icmp) => (icmp.checksum, icmp.icmp_type.calc_checksum(payload)),
                other => panic!("not in IPv4: {other:?}"),
            };
            assert_eq!(sum.0, sum.1);
            usize::from(ip.total_len)
        }
        NetHeaders::Arp(_) => panic!("ARP"),
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!((IpAddr::from(ip.source), IpAddr::from(ip.destination)), (target.source, target.vip));
            assert_eq!(ip.hop_limit, 64);
            let sum = match headers.transport.as_ref().expect("an upper layer") {
                TransportHeader::Tcp(tcp) => (tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).unwrap()),
                TransportHeader::Udp(udp) => (udp.checksum, udp.calc_checksum_ipv6(ip, payload).unwrap()),
                TransportHeader::Icmpv6(icmp) => {
                    (icmp.checksum, icmp.icmp_type.calc_checksum(ip.source, ip.destination, payload).unwrap())
                }
                other => panic!("not in IPv6: {other:?}"),
            };
            assert_eq!(sum.0, sum.1);
            40 + usize::from(ip.payload_length)
        }
    };
    assert_eq!(length, packet.len());
}

/// What a [`Server`] does with a request.
#[derive(Clone, Debug)]
pub enum Manner {
    /// Takes the connection and does nothing.
    Hang,
    /// Sends this, and keeps the connection open.
    Say(Vec<u8>),
    /// Sends this and closes.
    SayAndClose(Vec<u8>),
    /// Resets the connection.
    Reset,
}

/// A TCP server: smoltcp, with checksums that have to be right. Its clock runs five times as fast, so that it sends
/// again after 200 ms, as Linux does.
pub struct Server {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    manner: Manner,
    /// What of the answer is not sent yet.
    rest: Option<VecDeque<u8>>,
    pub request: Vec<u8>,
    /// Was there ever a whole connection?
    pub accepted: bool,
    began: Instant,
}

impl Server {
    pub fn new(target: Target, port: u16, manner: Manner) -> Server {
        let mut wire = Wire::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut wire, StackTime::ZERO);
        let vip = IpAddress::from(target.vip);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(vip, if target.vip.is_ipv4() { 32 } else { 128 })).unwrap();
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 8 << 10]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.listen((vip, port)).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let began = Instant::now();
        Server { interface, sockets, handle, wire, manner, rest: None, request: vec![], accepted: false, began }
    }

    /// One that talks HTTP: what `answer` says, then it closes.
    pub fn http(target: Target, answer: &str) -> Server {
        Server::new(target, PORT, Manner::SayAndClose(answer.as_bytes().to_vec()))
    }

    pub fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket>(self.handle).state()
    }

    fn serve(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        self.accepted |= socket.may_send();
        while socket.can_recv() {
            self.request.extend(socket.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap());
        }
        if !self.request.ends_with(b"\r\n\r\n") {
            return;
        }
        let (answer, close) = match &self.manner {
            Manner::Hang => return,
            Manner::Reset => return socket.abort(),
            Manner::Say(answer) => (answer, false),
            Manner::SayAndClose(answer) => (answer, true),
        };
        let rest = self.rest.get_or_insert_with(|| answer.iter().copied().collect());
        if socket.can_send() {
            let sent = socket.send_slice(rest.make_contiguous()).unwrap();
            rest.drain(..sent);
        }
        if close && rest.is_empty() {
            socket.close();
        }
    }
}

impl Backend for Server {
    fn receive(&mut self, packet: &[u8], now: Instant) -> Vec<Vec<u8>> {
        self.wire.incoming = Some(packet.to_vec());
        self.tick(now)
    }

    fn tick(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let time = StackTime::from_micros((now.saturating_duration_since(self.began).as_micros() * 5) as i64);
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        self.serve();
        self.interface.poll(time, &mut self.wire, &mut self.sockets);
        std::mem::take(&mut self.wire.outgoing)
    }
}

#[derive(Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

struct Read(Vec<u8>);

struct Write<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Read {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Write<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Read;
    type TxToken<'a> = Write<'a>;

    fn receive(&mut self, _now: StackTime) -> Option<(Read, Write<'_>)> {
        self.incoming.take().map(|packet| (Read(packet), Write(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: StackTime) -> Option<Write<'_>> {
        Some(Write(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

/// The upper layer of `packet`, which a probe has sent.
pub fn upper(packet: &[u8]) -> &[u8] {
    &packet[if packet[0] >> 4 == 4 { 20 } else { 40 }..]
}

/// A packet from the VIP to the probe.
pub fn reply(target: Target, number: u8, upper: Vec<u8>, checksum: usize) -> Vec<u8> {
    packet::build(target.vip, target.source, number, upper, checksum)
}

/// A TCP segment from the VIP's `port` to the probe.
pub fn segment(target: Target, port: u16, sequence: u32, acknowledgment: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(port.to_be_bytes());
    segment.extend(target.local_port.to_be_bytes());
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledgment.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    reply(target, protocol::TCP, segment, 16)
}

/// The ICMP error of that type and code about `packet`, from `from`.
pub fn icmp_error(target: Target, from: IpAddr, [kind, code]: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    let quoted = if target.vip.is_ipv4() { 28 } else { packet.len() };
    message.extend(&packet[..quoted]);
    let number = if target.vip.is_ipv4() { protocol::ICMP } else { protocol::ICMPV6 };
    packet::build(from, target.source, number, message, 2)
}
