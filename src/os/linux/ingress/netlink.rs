//! Just enough of nfnetlink to install a table in one transaction.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{MsgFlags, SockProtocol, recv, setsockopt, sockopt};

use crate::os::system::netlink::{self, ACK, NESTED, REQUEST, attribute, messages};

/// The object must not exist yet.
pub(super) const EXCLUSIVE: u16 = 0x200;
/// Make the object.
pub(super) const CREATE: u16 = 0x400;
/// At the end of the list.
pub(super) const APPEND: u16 = 0x800;

const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const SUBSYSTEM_NFTABLES: u16 = 10;
const FAMILY_NETDEV: u8 = 5;

/// A list of netlink attributes.
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn new() -> Attributes {
        Attributes(Vec::new())
    }

    /// An attribute holds 65531 bytes.
    pub(super) fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Attributes {
        attribute(&mut self.0, kind, value);
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
        self.bytes.extend(netlink::header(4 + attributes.len(), kind, flags, sequence));
        self.bytes.extend([family, 0]); // struct nfgenmsg
        self.bytes.extend(resource.to_be_bytes());
        self.bytes.extend(attributes);
    }
}

/// A netlink socket to the netfilter subsystem.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open() -> io::Result<Socket> {
        netlink::open(SockProtocol::NetlinkNetFilter).map(Socket)
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
        netlink::send(&self.0, &batch.bytes)?;
        let mut buffer = vec![0; 32 << 10];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for message in messages(&buffer[..length]) {
                let Some(outcome) = message.outcome() else { continue };
                outcome?;
                if message.sequence == last {
                    return Ok(());
                }
            }
        }
    }
}
