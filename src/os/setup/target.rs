//! What is done to an interface and undone. The keeper calls it between fork(2) and _exit(2), where little is allowed:
//! [`Target::make`] and [`Target::undo`] and all below them only make system calls, on the stack's memory.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::{MacFilter, Purpose};
use crate::os::ifname::IfName;
use crate::os::system::link;
use crate::os::system::offloads::Offloads;

/// Offloads as bits, numbered as the system does.
pub(in crate::os) type Bits = u128;

/// An interface, and what it is to become.
#[derive(Debug)]
pub(super) struct Target {
    socket: OwnedFd,
    name: IfName,
    text: String,
    /// Flags that it is to have.
    flags: u32,
    pub(super) offloads: Offloads,
}

/// What was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    /// The number of the interface; 0: nothing was changed.
    pub(super) index: u32,
    /// Flags that were set.
    pub(super) flags: u32,
    /// Offloads that were switched off.
    pub(super) switched_off: Bits,
    /// Those that are still on.
    pub(super) left_on: Bits,
}

/// What the system would not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Say what the interface is now.
    Look,
    /// Switch off its offloads.
    Offloads,
    /// Set its flags.
    Flags,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Look => "its offloads and flags cannot be looked up",
            Step::Offloads => "its offloads cannot be switched off",
            Step::Flags => "it cannot be brought up or made promiscuous",
        })
    }
}

impl Target {
    pub(super) fn new(interface: &str, purpose: Purpose, filter: MacFilter) -> io::Result<Target> {
        let name = IfName::new(interface)?;
        let socket = request_socket()?;
        link::index(socket.as_fd(), name)?;
        let offloads = Offloads::of(socket.as_fd(), name, purpose)?;
        let flags = match filter {
            MacFilter::Own => link::UP,
            MacFilter::Promiscuous => link::UP | link::PROMISCUOUS,
        };
        Ok(Target { socket, name, text: interface.to_owned(), flags, offloads })
    }

    pub(super) fn name(&self) -> &str {
        &self.text
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Changes what has to be changed, through `socket`, beside what `made` says was changed before; or nothing of it.
    pub(super) fn make(&self, socket: BorrowedFd<'_>, made: &mut Made) -> Result<(), (Step, Errno)> {
        let index = link::index(socket, self.name).map_err(|e| (Step::Look, e))?;
        if made.index != index {
            // Another interface by that name: nobody has changed anything there.
            *made = Made { index, ..Made::default() };
        }
        let mut new = Made { index, ..Made::default() };
        let done = self.make_anew(socket, &mut new);
        if done.is_err() {
            let _ = self.undo(socket, &new);
            return done;
        }
        made.switched_off |= new.switched_off;
        made.flags |= new.flags;
        made.left_on = new.left_on;
        Ok(())
    }

    /// What is not as it was set up, beside what was `left_on` then.
    pub(super) fn disturbed(&self, made: &Made) -> Result<Vec<&str>, Errno> {
        let active = self.offloads.active(self.socket(), self.name)?;
        let missing = self.flags & !link::flags(self.socket(), self.name)?;
        let mut words = self.offloads.words(active & !made.left_on);
        let flags = [(link::UP, "down"), (link::PROMISCUOUS, "not promiscuous")];
        words.extend(flags.iter().filter(|(flag, _)| missing & flag != 0).map(|(_, word)| *word));
        Ok(words)
    }

    /// Waits, for a moment only, until netmap has let go of the interface, if something is to be put back there.
    pub(super) fn await_release(&self, socket: BorrowedFd<'_>, made: &Made) {
        if made.flags != 0 || made.switched_off != 0 {
            self.offloads.await_release(socket, self.name);
        }
    }

    fn make_anew(&self, socket: BorrowedFd<'_>, new: &mut Made) -> Result<(), (Step, Errno)> {
        let before = self.offloads.active(socket, self.name).map_err(|e| (Step::Look, e))?;
        if before != 0 {
            new.switched_off = self.offloads.switch_off(socket, self.name).map_err(|e| (Step::Offloads, e))?;
            new.left_on = self.offloads.active(socket, self.name).map_err(|e| (Step::Look, e))?;
        }
        let flags = link::flags(socket, self.name).map_err(|e| (Step::Look, e))?;
        let missing = self.flags & !flags;
        if missing != 0 {
            link::set_flags(socket, self.name, flags | missing).map_err(|e| (Step::Flags, e))?;
            new.flags = missing;
        }
        Ok(())
    }

    /// Puts back what was `made`, all that can be; there is nothing to do when the interface has gone.
    pub(super) fn undo(&self, socket: BorrowedFd<'_>, made: &Made) -> Result<(), Errno> {
        // Another interface by that name is none of our business either.
        if link::index(socket, self.name) != Ok(made.index) {
            return Ok(());
        }
        let mut outcome = Ok(());
        if made.flags != 0 {
            let put_back = link::flags(socket, self.name)
                .and_then(|flags| link::set_flags(socket, self.name, flags & !made.flags));
            outcome = outcome.and(put_back);
        }
        if made.switched_off != 0 {
            outcome = outcome.and(self.offloads.switch_on(socket, self.name, made.switched_off));
        }
        outcome
    }
}

/// A socket to make requests about interfaces with.
pub(in crate::os) fn request_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?)
}
