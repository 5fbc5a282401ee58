//! Just enough of netlink(7) and nfnetlink to install a table in one transaction.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
/// The object must not exist yet.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Make the object.
pub(super) const CREATE: u16 = 0x400;
/// At the end of the list.
pub(super) const APPEND: u16 = 0x800;

const NLMSG_ERROR: u16 = 2;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM_NFTABLES: u16 = 10;
const FAMILY_NETDEV: u8 = 5;
const NESTED: u16 = 0x8000;

/// A list of netlink attributes.
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Attributes {
        Attributes(Vec::new())
    }

    /// An attribute holds 65531 bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Attributes {
        debug_assert!(value.len() <= usize::from(u16::MAX) - 4, "{} bytes in an attribute", value.len());
        self.0.extend((4 + value.len() as u16).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn be32(&mut self, kind: u16, value: u32) -> &mut Attributes {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(&mut self, kind: u16, value: &str) -> &mut Attributes {
        let mut terminated = value.as_bytes().to_vec();
        terminated.push(0);
        self.bytes(kind, &terminated)
    }

    pub(super) fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) -> &mut Attributes {
        let mut inner = Attributes::new();
        fill(&mut inner);
        self.bytes(kind | NESTED, &inner.0)
    }
}

/// Messages that take effect together or not at all.
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    messages: u32,
    /// Where the flags of the last message are.
    last_flags: usize,
}

impl Batch {
    pub(super) fn new() -> Batch {
        let mut batch = Batch { bytes: Vec::new(), messages: 0, last_flags: 0 };
        batch.append(BATCH_BEGIN, REQUEST, 0, 0, SUBSYSTEM_NFTABLES, &[]);
        batch
    }

    pub(super) fn message(&mut self, kind: u8, flags: u16, attributes: &Attributes) {
        self.messages += 1;
        let kind = SUBSYSTEM_NFTABLES << 8 | u16::from(kind);
        self.last_flags = self.bytes.len() + 6;
        self.append(kind, REQUEST | flags, self.messages, FAMILY_NETDEV, 0, &attributes.0);
    }

    fn append(&mut self, kind: u16, flags: u16, sequence: u32, family: u8, resource: u16, attributes: &[u8]) {
        self.bytes.extend((20 + attributes.len() as u32).to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend(sequence.to_ne_bytes());
        self.bytes.extend([0; 4]); // port: the kernel knows
        self.bytes.extend([family, 0]); // struct nfgenmsg
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes);
    }
}

/// A netlink socket to the netfilter subsystem.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Socket> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Socket(fd))
    }

    /// Sends `batch` and waits for the kernel's word: the first error, or success of the last message.
    pub(super) fn commit(&mut self, mut batch: Batch) -> io::Result<()> {
        let last = batch.messages;
        if let Some(flags) = batch.bytes.get_mut(batch.last_flags..).and_then(|rest| rest.first_chunk_mut::<2>()) {
            *flags = (u16::from_ne_bytes(*flags) | ACK).to_ne_bytes();
        }
        batch.append(BATCH_END, REQUEST, batch.messages + 1, 0, SUBSYSTEM_NFTABLES, &[]);
        // A transaction is one message to the socket, however many rules it has.
        let room = batch.bytes.len() + (64 << 10);
        setsockopt(&self.0, sockopt::SndBufForce, &room).or_else(|_| setsockopt(&self.0, sockopt::SndBuf, &room))?;
        sendto(self.0.as_raw_fd(), &batch.bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = &buffer[..length];
            while let Some(header) = rest.first_chunk::<20>() {
                let size = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
                let error = i32::from_ne_bytes([header[16], header[17], header[18], header[19]]);
                if kind == NLMSG_ERROR {
                    if error != 0 {
                        return Err(io::Error::from_raw_os_error(-error));
                    }
                    if sequence == last {
                        return Ok(());
                    }
                }
                rest = rest.get(size.max(20).next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}
