//! Waiting for the sockets of a port: epoll(7), which need not be told anew each time what to wait for; or ppoll(2), which
//! costs those who send to a socket nothing while nobody waits.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use super::PacketSockets;
use crate::os::Ready;

/// Waits for frames, and for being woken.
pub struct Waiter {
    epoll: Epoll,
}

const CLIENTS: u64 = 0;
const ASIDE: u64 = 1;
const WAKE: u64 = 2;

impl Waiter {
    /// A waiter for `sockets`, which `wake` interrupts. Both have to live as long as it does.
    ///
    /// # Errors
    /// No descriptors left.
    pub fn new(sockets: &PacketSockets, wake: impl AsFd) -> io::Result<Waiter> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let [clients, aside] = sockets.descriptors();
        for (fd, number) in [(Some(wake.as_fd()), WAKE), (clients, CLIENTS), (aside, ASIDE)] {
            if let Some(fd) = fd {
                epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, number))?;
            }
        }
        Ok(Waiter { epoll })
    }

    /// Waits until something is there to be read, or `until` has come; `None` waits for ever.
    ///
    /// # Errors
    /// The system's.
    pub fn wait(&self, until: Option<Instant>) -> io::Result<Ready> {
        let timeout = match until {
            None => EpollTimeout::NONE,
            Some(until) => {
                // Rounded up: a timer that is looked at too early would be looked at again and again.
                let left = until.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        };
        let mut events = [EpollEvent::empty(); 3];
        let count = match self.epoll.wait(&mut events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(e) => return Err(e.into()),
        };
        let mut ready = Ready::default();
        for event in &events[..count] {
            ready.failed |= event.events().contains(EpollFlags::EPOLLERR);
            match event.data() {
                ASIDE => ready.aside = true,
                WAKE => ready.woken = true,
                _ => {}
            }
        }
        Ok(ready)
    }
}

/// Waits until `clients`, `aside` or `wake` has something to be read, or `until` has come; `None` waits for ever.
///
/// # Errors
/// The system's.
pub(super) fn poll(
    clients: BorrowedFd<'_>,
    aside: Option<BorrowedFd<'_>>,
    wake: BorrowedFd<'_>,
    until: Option<Instant>,
) -> io::Result<Ready> {
    let input = |fd| PollFd::new(fd, PollFlags::POLLIN);
    // Who has nothing aside waits for the same twice.
    let mut fds = [input(wake), input(clients), input(aside.unwrap_or(wake))];
    let left = until.map(|until| TimeSpec::from(until.saturating_duration_since(Instant::now())));
    match ppoll(&mut fds, left, None) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Ready::default()),
        Err(e) => return Err(e.into()),
    }
    let [wake, clients, stands_aside] = fds.map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
    Ok(Ready {
        woken: wake.contains(PollFlags::POLLIN),
        aside: aside.is_some() && !stands_aside.is_empty(),
        failed: (clients | stands_aside).contains(PollFlags::POLLERR),
    })
}
