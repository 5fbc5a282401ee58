//! Descriptors that are passed on over a Unix socket (SCM_RIGHTS: unix(7), recv(2)). The same on every Unix.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, UnixAddr, recvmsg, sendmsg};

/// Descriptors in one message at most: every system takes so many.
pub const MOST_RIGHTS: usize = 64;
/// What Linux and FreeBSD let a message have.
const MOST_RECEIVED: usize = 253;

/// Sends `bytes`, the first of them with `rights`, of which [`MOST_RIGHTS`] are sent; how many bytes were sent.
///
/// # Errors
/// As sendmsg(2).
pub fn send_rights(socket: &UnixStream, bytes: &[u8], rights: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let rights: Vec<RawFd> = rights.iter().take(MOST_RIGHTS).map(AsRawFd::as_raw_fd).collect();
    let message = [ControlMessage::ScmRights(&rights)];
    let control = if rights.is_empty() { &[][..] } else { &message[..] };
    Ok(sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?)
}

/// Receives what fits into `buffer`, and the descriptors that came with it; 0 bytes: the end.
///
/// # Errors
/// As recvmsg(2).
pub fn receive_rights(socket: &UnixStream, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = nix::cmsg_space!([RawFd; MOST_RECEIVED]);
    let mut parts = [IoSliceMut::new(buffer)];
    let received = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut rights = Vec::new();
    for message in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = message {
            // SAFETY: the kernel has just made these descriptors for us; nobody else knows their numbers.
            rights.extend(descriptors.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((received.bytes, rights))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn a_descriptor_arrives_with_its_bytes_and_is_the_same_file() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut kept, passed) = UnixStream::pair().unwrap();
        assert_eq!(send_rights(&here, b"one", &[passed.as_fd()]).unwrap(), 3);
        drop(passed);
        assert_eq!(send_rights(&here, b"none", &[]).unwrap(), 4);
        let mut buffer = [0; 64];
        let (length, mut rights) = receive_rights(&there, &mut buffer).unwrap();
        assert_eq!((&buffer[..length.min(3)], rights.len()), (&b"one"[..], 1));
        let mut arrived = UnixStream::from(rights.remove(0));
        arrived.write_all(b"hello").unwrap();
        kept.read_exact(&mut buffer[..5]).unwrap();
        assert_eq!(&buffer[..5], b"hello");
        drop(here);
        let mut rest = Vec::new();
        while let (1.., rights) = receive_rights(&there, &mut buffer).unwrap() {
            assert!(rights.is_empty());
            rest.push(());
        }
    }
}
