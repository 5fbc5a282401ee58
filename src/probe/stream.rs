//! One TCP connection from user space (smoltcp), between the packets that come in and those that are to leave.
//!
//! # Its clock
//!
//! smoltcp sends again after a second, doubled each time (RFC 6298), which is as long as a whole probe may take. Its
//! clock is its own, so it runs faster here: what it takes for a second is the *unit*, a fifth of the timeout, but not
//! more than 250 ms. In a timeout of one second a SYN goes out at 0, 200 and 600 ms.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, Device, DeviceCapabilities, Medium};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint};

use super::Target;

/// The IP packets that it sends are not larger, bytes.
const MTU: usize = 1500;
/// Its receive window, bytes.
const WINDOW: usize = 16 << 10;
const SHORTEST_UNIT: Duration = Duration::from_millis(1);
const LONGEST_UNIT: Duration = Duration::from_millis(250);

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The SYN is not answered yet.
    Connecting,
    /// Both directions are open.
    Open,
    /// The peer has sent all that it wants to send.
    Ended,
    /// The peer has reset it, or it was aborted here.
    Closed,
}

/// A connection.
pub struct Stream {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    wire: Wire,
    began: Instant,
    unit: Duration,
    next: Option<Instant>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("phase", &self.phase()).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Stream {
    /// A connection to `port` of the VIP that is about to be opened, with room for `outgoing` bytes to send. `None` for
    /// addresses or ports between which there can be none.
    pub fn connect(
        target: &Target,
        port: u16,
        outgoing: usize,
        timeout: Duration,
        seed: u64,
        now: Instant,
    ) -> Option<Stream> {
        let (source, vip) = (IpAddress::from(target.source), IpAddress::from(target.vip));
        if !source.is_unicast() {
            return None;
        }
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut wire, StackTime::ZERO);
        let width = if target.source.is_ipv4() { 32 } else { 128 };
        interface.update_ip_addrs(|addresses| addresses.extend([IpCidr::new(source, width)]));
        let mut socket =
            tcp::Socket::new(tcp::SocketBuffer::new(vec![0; WINDOW]), tcp::SocketBuffer::new(vec![0; outgoing]));
        socket.set_ack_delay(None);
        let remote = IpEndpoint::new(vip, port);
        socket.connect(interface.context(), remote, (source, target.local_port)).ok()?;
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let unit = (timeout / 5).clamp(SHORTEST_UNIT, LONGEST_UNIT);
        Some(Stream { interface, sockets, handle, wire, began: now, unit, next: Some(now) })
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        match self.sockets.get::<tcp::Socket>(self.handle).state() {
            tcp::State::SynSent | tcp::State::Listen | tcp::State::SynReceived => Phase::Connecting,
            tcp::State::Established | tcp::State::FinWait1 | tcp::State::FinWait2 => Phase::Open,
            tcp::State::CloseWait | tcp::State::Closing | tcp::State::LastAck | tcp::State::TimeWait => Phase::Ended,
            tcp::State::Closed => Phase::Closed,
        }
    }

    /// Takes an IP packet with a segment of this connection, `flags` being its flags. What it makes the stack send waits
    /// for [`Stream::flush`], but for answers to segments that cannot be.
    pub fn receive(&mut self, packet: &[u8], flags: u8, now: Instant) {
        const SYN: u8 = 0x02;
        const ACK: u8 = 0x10;
        // A SYN from the other side would be a connection of its own making.
        if flags & SYN != 0 && flags & ACK == 0 {
            return;
        }
        let time = self.stack_time(now);
        self.wire.incoming = Some(packet.to_vec());
        self.interface.poll_ingress_single(time, &mut self.wire, &mut self.sockets);
        self.wire.incoming = None;
    }

    /// Sends `bytes`, as far as there is room.
    pub fn send(&mut self, bytes: &[u8]) {
        // It is open, and its room is as much as was asked for: nothing is left over.
        let _ = self.socket().send_slice(bytes);
    }

    /// Hands over what has come, until nothing is left or `take` has enough.
    pub fn read(&mut self, mut take: impl FnMut(&[u8]) -> bool) {
        let socket = self.socket();
        let mut more = true;
        while more && socket.can_recv() {
            let read = socket.recv(|bytes| {
                more = !bytes.is_empty() && take(bytes);
                (bytes.len(), ())
            });
            more &= read.is_ok();
        }
    }

    /// Closes it at once, by a RST that [`Stream::flush`] sends, if there is anybody to be told.
    pub fn abort(&mut self) {
        self.socket().abort();
    }

    /// Moves what is to leave by `now` to `queue`: IP packets with their checksums.
    pub fn flush(&mut self, queue: &mut VecDeque<Vec<u8>>, now: Instant) {
        let time = self.stack_time(now);
        while self.interface.poll_egress(time, &mut self.wire, &mut self.sockets) == PollResult::SocketStateChanged {}
        queue.append(&mut self.wire.outgoing);
        let due = self.interface.poll_at(time, &self.sockets);
        // What was due now has been done.
        self.next = due.map(|due| self.real_time(due).max(now + SHORTEST_UNIT));
    }

    /// When [`Stream::flush`] has something to do next.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn stack_time(&self, now: Instant) -> StackTime {
        let elapsed = now.saturating_duration_since(self.began);
        let micros = elapsed.as_nanos() * 1_000_000 / self.unit.as_nanos();
        StackTime::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    /// The earliest moment at which the stack's clock is not before `time`.
    fn real_time(&self, time: StackTime) -> Instant {
        let micros = u128::try_from(time.total_micros()).unwrap_or(0);
        let nanos = (micros * self.unit.as_nanos()).div_ceil(1_000_000);
        self.began + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// The stack's link: at most one packet in, any number out.
#[derive(Default)]
struct Wire {
    incoming: Option<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _now: StackTime) -> Option<(Incoming, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _now: StackTime) -> Option<Outgoing<'_>> {
        Some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        // What comes in was checked before, and may be unfinished.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

struct Incoming(Vec<u8>);

impl phy::RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

struct Outgoing<'a>(&'a mut VecDeque<Vec<u8>>);

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.0.push_back(packet);
        result
    }
}
