//! The port through pnet: AF_PACKET on Linux, BPF on FreeBSD. It works everywhere and is nowhere the fastest.
//!
//! On Linux each frame comes with, and leaves with, its `virtio_net_hdr` in front (the *prefix*), so that offloads go on
//! working through the balancer: 64 KB segments pass whole, and a checksum that is not finished yet is finished by whoever
//! would have. pnet hands out frames read-only, hence the one copy into a buffer of our own.

use std::io::{self, ErrorKind};
use std::os::fd::IntoRawFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use pnet::datalink::{self, Channel, DataLinkReceiver, DataLinkSender};
use socket2::SockRef;

use super::{Arm, Port, Tally, WakeReceiver};
use crate::os::{self, FRAME_PREFIX, FilterControl, Interface, PacketSockets, Waiter, Wanted};
use crate::verdict::Verdict;

/// The longest frame with its prefix and two tags, and some room to notice one that is longer.
const BUFFER: usize = 128 << 10;

/// Calls of `drive` between two looks at what stands aside, if nobody says that something does.
const LOOK_ASIDE: u32 = 16;

/// A port on a network interface.
pub struct PacketPort {
    receiver: Box<dyn DataLinkReceiver>,
    sender: Box<dyn DataLinkSender>,
    sockets: PacketSockets,
    waiter: Waiter,
    wake: WakeReceiver,
    buffer: Box<[u8]>,
    tally: Tally,
    /// May a frame wait aside? They are rare, and looking costs a system call.
    aside_waits: bool,
    /// Calls of `drive` since the last look aside.
    drives: u32,
}

impl PacketPort {
    /// Opens `interface` for the packets that are `wanted`.
    ///
    /// # Errors
    /// The system's: not permitted, no such interface.
    pub fn open(interface: &Interface, wanted: &Wanted, wake: WakeReceiver) -> io::Result<PacketPort> {
        let mut sockets = os::open_packet_sockets(interface.index, wanted)?;
        let waiter = Waiter::new(&sockets, &wake)?;
        let config = datalink::Config {
            // pnet closes the descriptor that it is given.
            socket_fd: sockets.plain.take().map(IntoRawFd::into_raw_fd),
            read_buffer_size: BUFFER,
            write_buffer_size: BUFFER,
            read_timeout: Some(os::READ_TIMEOUT),
            write_timeout: Some(Duration::ZERO),
            promiscuous: false,
            ..datalink::Config::default()
        };
        match datalink::channel(&interface.pnet, config)? {
            Channel::Ethernet(sender, receiver) => Ok(PacketPort {
                receiver,
                sender,
                sockets,
                waiter,
                wake,
                buffer: vec![0; BUFFER].into_boxed_slice(),
                tally: Tally::default(),
                aside_waits: true,
                drives: 0,
            }),
            _ => Err(io::Error::new(ErrorKind::Unsupported, "not an Ethernet interface")),
        }
    }

    /// A handle to change what is wanted while the port is at work; it should go when the port does.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn filters(&self) -> io::Result<FilterControl> {
        self.sockets.filters()
    }
}

/// What an error of the socket means for the port.
pub(super) enum Trouble {
    /// Nothing there now.
    Nothing,
    /// This frame is lost, the next may pass.
    Frame,
    /// The interface has gone.
    Gone(io::Error),
}

/// What `e` means.
pub(super) fn trouble(e: io::Error) -> Trouble {
    match (e.kind(), e.raw_os_error().map(Errno::from_raw)) {
        (ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted, _) => Trouble::Nothing,
        (_, Some(Errno::ENXIO | Errno::ENODEV | Errno::EBADF)) => Trouble::Gone(e),
        _ => Trouble::Frame,
    }
}

impl Port for PacketPort {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        let mut n = 0;
        // Who is never idle never waits, and so is not told of what stands aside.
        self.drives += 1;
        if self.drives >= LOOK_ASIDE {
            self.drives = 0;
            self.aside_waits = true;
        }
        // A flood of clients' frames must not keep the others waiting.
        let clients = if self.aside_waits { budget - budget / 4 } else { budget };
        while n < clients {
            let length = match self.receiver.next() {
                Ok(frame) if frame.len() < BUFFER => {
                    self.buffer[..frame.len()].copy_from_slice(frame);
                    frame.len()
                }
                Ok(_) => {
                    // Cut off: no frame that this port could pass on.
                    self.tally.overrun += 1;
                    n += 1;
                    continue;
                }
                Err(e) => match trouble(e) {
                    Trouble::Nothing => break,
                    Trouble::Gone(e) => return Err(e),
                    Trouble::Frame => {
                        // An error that the socket has to tell: the link went down. The interface's watcher sees to it.
                        self.clear_error();
                        break;
                    }
                },
            };
            n += 1;
            self.decide(length, decide)?;
        }
        while n < budget && self.aside_waits {
            let received = self.sockets.aside.receive(&mut self.buffer).or_else(|e| match trouble(e) {
                Trouble::Gone(e) => Err(e),
                _ => Ok(None),
            })?;
            let Some(length) = received else {
                self.aside_waits = false;
                break;
            };
            n += 1;
            self.decide(length, decide)?;
        }
        Ok(n)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(room) = self.buffer.get_mut(..FRAME_PREFIX + frame.len()) else {
            self.tally.send_failed += 1;
            return Ok(());
        };
        let (prefix, rest) = room.split_at_mut(FRAME_PREFIX);
        os::prepare_send(prefix);
        rest.copy_from_slice(frame);
        self.transmit(FRAME_PREFIX + frame.len())
    }

    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let ready = self.waiter.wait(until)?;
        if ready.woken {
            self.wake.clear();
        }
        if ready.failed {
            self.clear_error();
        }
        self.aside_waits |= ready.aside;
        Ok(())
    }

    fn tally(&mut self) -> Tally {
        self.tally.overrun += self.sockets.take_drops();
        self.tally
    }
}

impl PacketPort {
    #[inline]
    fn decide(&mut self, length: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<()> {
        let Some(frame) = self.buffer.get_mut(FRAME_PREFIX..length) else {
            return Ok(());
        };
        match decide(Arm::Front, frame) {
            Verdict::Transmit => self.transmit(length),
            // The host has its own copy, unless it is kept from it.
            Verdict::Host | Verdict::Drop(_) => Ok(()),
        }
    }

    /// Sends the first `length` bytes of the buffer, prefix and frame.
    #[inline]
    fn transmit(&mut self, length: usize) -> io::Result<()> {
        let Some(Err(e)) = self.sender.send_to(&self.buffer[..length], None) else {
            return Ok(());
        };
        match trouble(e) {
            Trouble::Gone(e) => Err(e),
            Trouble::Nothing | Trouble::Frame => {
                self.tally.send_failed += 1;
                Ok(())
            }
        }
    }

    fn clear_error(&self) {
        for socket in self.sockets.descriptors().into_iter().flatten() {
            let _ = SockRef::from(&socket).take_error();
        }
    }
}
