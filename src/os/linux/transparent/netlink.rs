//! Questions to the kernel by netlink(7), and its answers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

const REQUEST: u16 = 0x1;
const DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Flags in the upper two bits of an attribute's kind.
const KIND: u16 = 0x3fff;
/// More answers than any host's rules need.
const MOST_ANSWERS: usize = 1 << 16;

/// A socket to one of the kernel's subsystems.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// One to `subsystem`, which answers within 5 s or not at all.
    pub(super) fn open(subsystem: SockProtocol) -> io::Result<Netlink> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, subsystem)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5))?;
        Ok(Netlink { socket, sequence: 0, buffer: vec![0; 64 << 10] })
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
        let mut message = Vec::with_capacity(16 + payload.len());
        message.extend((16 + payload.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]); // port: the kernel knows
        message.extend(payload);
        sendto(self.socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answers = Vec::new();
        loop {
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())?;
            let mut rest = &self.buffer[..length];
            while let Some(header) = rest.first_chunk::<16>() {
                let size = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let sequence = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
                let body = rest.get(16..size).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or_default();
                if sequence != self.sequence {
                    continue;
                }
                match (kind, body.first_chunk::<4>()) {
                    (NLMSG_DONE, _) => return Ok(answers),
                    (NLMSG_ERROR, Some(code)) => {
                        return match i32::from_ne_bytes(*code) {
                            0 => Ok(answers),
                            code => Err(io::Error::from_raw_os_error(-code)),
                        };
                    }
                    _ => answers.push(body.to_vec()),
                }
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

/// Adds an attribute to a payload.
pub(super) fn attribute(payload: &mut Vec<u8>, kind: u16, value: &[u8]) {
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
    fn attributes_end_where_they_are_not_whole() {
        for bytes in [&[][..], &[8, 0, 1], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3, 4], &[0, 0, 0, 0]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
    }
}
