//! netlink(7), as far as it is needed: questions to the kernel and its answers, and what messages are made of.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// Flags of messages: a question or an order; the kernel answers even if all went well.
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Bytes of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Flags in the upper two bits of an attribute's kind.
const KIND: u16 = 0x3fff;
/// It holds attributes.
pub(super) const NESTED: u16 = 0x8000;
/// More answers than any host's rules need.
const MOST_ANSWERS: usize = 1 << 16;

/// Opens a socket to `subsystem`, which answers within 5 s or not at all.
///
/// # Errors
/// The system's.
pub(super) fn open(subsystem: SockProtocol) -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, subsystem)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
    Ok(socket)
}

/// Sends `bytes` to the kernel.
///
/// # Errors
/// The system's.
pub(super) fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    sendto(socket.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    Ok(())
}

/// What stands before a message's `length` bytes of payload (`struct nlmsghdr`).
pub(super) fn header(length: usize, kind: u16, flags: u16, sequence: u32) -> [u8; HEADER] {
    let mut header = [0; HEADER]; // the last four: port; the kernel knows
    header[0..4].copy_from_slice(&((HEADER + length) as u32).to_ne_bytes());
    header[4..6].copy_from_slice(&kind.to_ne_bytes());
    header[6..8].copy_from_slice(&flags.to_ne_bytes());
    header[8..12].copy_from_slice(&sequence.to_ne_bytes());
    header
}

/// A message of the kernel's.
pub(super) struct Message<'a> {
    kind: u16,
    /// That of the message that it answers.
    pub(super) sequence: u32,
    /// Its payload, as far as there was room for it.
    body: &'a [u8],
    is_whole: bool,
}

impl Message<'_> {
    /// The kernel's word on what it was asked to do; none, if this is another kind of message.
    pub(super) fn outcome(&self) -> Option<io::Result<()>> {
        let code = self.body.first_chunk::<4>().filter(|_| self.kind == NLMSG_ERROR)?;
        Some(match i32::from_ne_bytes(*code) {
            0 => Ok(()),
            code => Err(io::Error::from_raw_os_error(-code)),
        })
    }
}

/// The messages in `bytes`, of which the last may not be whole.
pub(super) fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let h = rest.first_chunk::<HEADER>()?;
        let size = u32::from_ne_bytes([h[0], h[1], h[2], h[3]]) as usize;
        let message = Message {
            kind: u16::from_ne_bytes([h[4], h[5]]),
            sequence: u32::from_ne_bytes([h[8], h[9], h[10], h[11]]),
            body: &rest[HEADER..size.clamp(HEADER, rest.len())],
            is_whole: (HEADER..=rest.len()).contains(&size),
        };
        rest = rest.get(size.max(HEADER).next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// A socket to one of the kernel's subsystems.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// One to `subsystem`.
    ///
    /// # Errors
    /// The system's.
    pub(super) fn open(subsystem: SockProtocol) -> io::Result<Netlink> {
        Ok(Netlink { socket: open(subsystem)?, sequence: 0, buffer: vec![0; 64 << 10] })
    }

    /// Asks for one thing; the answer's payload.
    pub(super) fn ask(&mut self, kind: u16, payload: &[u8]) -> io::Result<Vec<u8>> {
        let answers = self.exchange(kind, REQUEST, payload)?;
        answers.into_iter().next().ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    }

    /// Asks for all there are; the payload of each.
    pub(super) fn list(&mut self, kind: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.exchange(kind, REQUEST | DUMP, payload)
    }

    fn exchange(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        self.sequence += 1;
        let mut message = header(payload.len(), kind, flags, self.sequence).to_vec();
        message.extend(payload);
        send(&self.socket, &message)?;
        let mut answers = Vec::new();
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            for message in messages(&self.buffer[..length]) {
                if !message.is_whole {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                if message.sequence != self.sequence {
                    continue;
                }
                if message.kind == NLMSG_DONE {
                    return Ok(answers);
                }
                if let Some(outcome) = message.outcome() {
                    return outcome.map(|()| answers);
                }
                answers.push(message.body.to_vec());
                if flags & DUMP == 0 {
                    return Ok(answers);
                }
                if answers.len() > MOST_ANSWERS {
                    return Err(io::Error::other("more answers than can be looked through"));
                }
            }
        }
    }
}

/// Adds an attribute to a payload; it holds 65531 bytes.
pub(super) fn attribute(payload: &mut Vec<u8>, kind: u16, value: &[u8]) {
    debug_assert!(value.len() <= usize::from(u16::MAX) - 4, "{} bytes in an attribute", value.len());
    payload.extend((4 + value.len() as u16).to_ne_bytes());
    payload.extend(kind.to_ne_bytes());
    payload.extend(value);
    payload.resize(payload.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`, as kind and value; ends at the first that is not whole.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let header = rest.first_chunk::<4>()?;
        let size = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & KIND;
        let value = rest.get(4..size)?;
        rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The value of the first attribute of that kind.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// A number of this machine's byte order.
pub(super) fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut payload = Vec::new();
        attribute(&mut payload, 1, b"socket\0");
        attribute(&mut payload, 0x8002, &7u32.to_ne_bytes());
        assert_eq!(payload.len() % 4, 0);
        assert_eq!(attributes(&payload).map(|(kind, _)| kind).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(find(&payload, 1), Some(&b"socket\0"[..]));
        assert_eq!(find(&payload, 2).and_then(number), Some(7));
        assert_eq!(find(&payload, 3), None);
    }

    #[test]
    fn messages_are_read_as_they_are_written_and_the_last_as_far_as_it_goes() {
        let mut bytes = header(4, 7, REQUEST, 1).to_vec();
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(header(8, NLMSG_ERROR, 0, 2));
        bytes.extend((-libc::EPERM).to_ne_bytes());
        let read: Vec<_> = messages(&bytes).collect();
        assert_eq!(
            read.iter().map(|m| (m.kind, m.sequence, m.is_whole)).collect::<Vec<_>>(),
            [(7, 1, true), (2, 2, false)]
        );
        assert!(read[0].outcome().is_none(), "no word on an order");
        let error = read[1].outcome().unwrap().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "as the request that is quoted behind it has no room");
    }

    #[test]
    fn messages_that_say_nonsense_of_their_length_are_not_whole() {
        for size in [0u32, 15, 17, u32::MAX] {
            let mut bytes = header(0, 7, 0, 1);
            bytes[..4].copy_from_slice(&size.to_ne_bytes());
            assert!(messages(&bytes).all(|message| !message.is_whole), "{size}");
            assert_eq!(messages(&bytes).count(), 1, "{size}");
        }
    }

    #[test]
    fn attributes_end_where_they_are_not_whole() {
        for bytes in [&[][..], &[8, 0, 1], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3, 4], &[0, 0, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
