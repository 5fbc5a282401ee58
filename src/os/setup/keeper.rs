//! The keeper: a forked process that outlives this one, but not for long.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

use super::lock::SetupLock;
use super::target::{Made, Step, Target};
use crate::os::system::detach::{Title, close_from};

/// What the keeper is told to do; the end of its input tells it to put everything back and to end.
const MAKE: u8 = 1;

/// In place of the lock's descriptor, where there is no lock.
const NONE: RawFd = -1;

/// The forked process, seen from the one that it serves.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: Pid,
    orders: UnixStream,
    finished: bool,
}

impl Keeper {
    /// Forks a process that keeps `target`, which is called `interface`, and holds `lock` until it ends.
    ///
    /// # Errors
    /// The system's: no processes or descriptors left.
    pub(super) fn start(interface: &str, target: &Target, lock: &SetupLock) -> io::Result<Keeper> {
        let title = Title::new(interface);
        let (orders, end) = UnixStream::pair()?;
        // Those for this process, from a terminal or by a process group, are not for the keeper, which has to outlive
        // it. It inherits the mask, so that there is no moment without it.
        let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        // SAFETY: there may be other threads. The child calls `keep`, which allocates nothing, takes no lock, and never
        // returns.
        let forked = unsafe { fork() };
        if matches!(forked, Ok(ForkResult::Child)) {
            let lock = lock.descriptor().map_or(NONE, |lock| lock.as_raw_fd());
            keep(target, &title, &[target.socket().as_raw_fd(), end.as_raw_fd(), lock]);
        }
        mask.thread_set_mask()?;
        match forked? {
            ForkResult::Parent { child } => Ok(Keeper { pid: child, orders, finished: false }),
            ForkResult::Child => unreachable!("the keeper does not return"),
        }
    }

    /// Has the interface set up; what was changed so far. Waits for it no longer than `patience`.
    ///
    /// # Errors
    /// What the system said; nothing was changed then.
    pub(super) fn make(&mut self, patience: Duration) -> io::Result<Made> {
        // A signal would end this process, if it is gone.
        send(self.orders.as_raw_fd(), &[MAKE], MsgFlags::MSG_NOSIGNAL).map_err(|_| gone())?;
        let report = self.report(patience)?;
        match report.failure() {
            None => Ok(report.made),
            Some((step, errno)) => {
                let e = io::Error::from(errno);
                Err(io::Error::new(e.kind(), format!("{step}: {e}")))
            }
        }
    }

    /// Has everything put back, and the keeper end. A second time nothing is done.
    ///
    /// # Errors
    /// What the system said; [`ErrorKind::UnexpectedEof`] if the keeper has ended before.
    pub(super) fn finish(&mut self, patience: Duration) -> io::Result<()> {
        if std::mem::replace(&mut self.finished, true) {
            return Ok(());
        }
        // Whoever has inherited our end cannot keep it waiting.
        let reported = self.orders.shutdown(Shutdown::Write).and_then(|()| self.report(patience));
        // Not ours to wait for any more, once this process has gone to the background. It ends right after its report;
        // where that did not come, it is not waited for either.
        let flags = if reported.is_ok() { None } else { Some(WaitPidFlag::WNOHANG) };
        let _ = waitpid(self.pid, flags);
        reported?.failure().map_or(Ok(()), |(_, errno)| Err(errno.into()))
    }

    fn report(&mut self, patience: Duration) -> io::Result<Report> {
        self.orders.set_read_timeout(Some(patience))?;
        let mut bytes = [0; Report::BYTES];
        match self.orders.read_exact(&mut bytes) {
            Ok(()) => Ok(Report::decode(&bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(io::Error::new(ErrorKind::TimedOut, format!("no answer within {} s", patience.as_secs())))
            }
            Err(_) => Err(gone()),
        }
    }
}

fn gone() -> io::Error {
    let why = "the process that keeps the interface's settings was ended by somebody else; start the program anew";
    io::Error::new(ErrorKind::UnexpectedEof, why)
}

/// What the keeper answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Report {
    step: u32,
    errno: i32,
    made: Made,
}

impl Report {
    const BYTES: usize = 48;

    fn of(outcome: Result<(), (Step, Errno)>, made: Made) -> Report {
        let (step, errno) = outcome.err().map_or((0, 0), |(step, errno)| (step as u32, errno as i32));
        Report { step, errno, made }
    }

    fn failure(&self) -> Option<(Step, Errno)> {
        let steps = [Step::Look, Step::Offloads, Step::Flags];
        let step = steps.into_iter().find(|step| *step as u32 == self.step).unwrap_or(Step::Look);
        (self.errno != 0).then(|| (step, Errno::from_raw(self.errno)))
    }

    fn encode(&self) -> [u8; Report::BYTES] {
        let mut bytes = [0; Report::BYTES];
        let numbers = [self.step, self.errno as u32, self.made.index, self.made.flags];
        let (words, sets) = bytes.split_at_mut(16);
        for (to, number) in words.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *to = number.to_ne_bytes();
        }
        for (to, set) in sets.as_chunks_mut::<16>().0.iter_mut().zip([self.made.switched_off, self.made.left_on]) {
            *to = set.to_ne_bytes();
        }
        bytes
    }

    fn decode(bytes: &[u8; Report::BYTES]) -> Report {
        let (words, sets) = bytes.split_at(16);
        let mut words = words.as_chunks::<4>().0.iter().map(|chunk| u32::from_ne_bytes(*chunk));
        let mut sets = sets.as_chunks::<16>().0.iter().map(|chunk| u128::from_ne_bytes(*chunk));
        let (mut word, mut set) = (|| words.next().unwrap_or(0), || sets.next().unwrap_or(0));
        let (step, errno) = (word(), word() as i32);
        Report { step, errno, made: Made { index: word(), flags: word(), switched_off: set(), left_on: set() } }
    }
}

/// The keeper's life. Of the descriptors the first is for ioctl(2), by the second come orders, and the third holds the
/// lock, which goes when the keeper ends and everything is put back. A panic here aborts, as this is no Rust function by
/// its interface: nothing of the other process may be unwound in this one.
extern "C" fn keep(target: &Target, title: &Title, descriptors: &[RawFd; 3]) -> ! {
    // SAFETY: setsid(2) and chdir(2) with a string that is a constant: no signals by a terminal, no busy file system.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
    }
    title.set();
    let Some((requests, orders)) = keep_only(descriptors) else { end() };
    let mut made = Made::default();
    loop {
        let mut order = 0u8;
        // SAFETY: one byte is writable there.
        let read = unsafe { libc::read(orders.as_raw_fd(), (&raw mut order).cast(), 1) };
        if read < 0 && Errno::last() == Errno::EINTR {
            continue;
        }
        if read == 1 && order == MAKE {
            let outcome = target.make(requests, &mut made);
            answer(orders, Report::of(outcome, made));
            continue;
        }
        target.await_release(requests, &made);
        let outcome = target.undo(requests, &made).map_err(|errno| (Step::Flags, errno));
        answer(orders, Report::of(outcome, made));
        end();
    }
}

fn answer(orders: BorrowedFd<'_>, report: Report) {
    let bytes = report.encode();
    // SAFETY: the bytes are there, as many as said. The socket's buffer has room for more than that, so that all are
    // written; where nobody reads them any more, SIGPIPE is blocked.
    unsafe { libc::write(orders.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
}

/// Closes all descriptors but these, which get the numbers 0, 1 and, if there is a third, 2. The others may be locks,
/// sockets, or the other end of another keeper's orders. Returns the first two.
fn keep_only(descriptors: &[RawFd; 3]) -> Option<(BorrowedFd<'static>, BorrowedFd<'static>)> {
    let &[requests, orders, lock] = descriptors;
    // SAFETY: system calls on numbers of descriptors. Nothing else in this process uses any.
    unsafe {
        // Out of the way first: they may have those numbers crosswise.
        let requests = libc::fcntl(requests, libc::F_DUPFD, 3);
        let orders = libc::fcntl(orders, libc::F_DUPFD, 3);
        let lock = if lock == NONE { NONE } else { libc::fcntl(lock, libc::F_DUPFD, 3) };
        if requests < 0 || orders < 0 || libc::dup2(requests, 0) < 0 || libc::dup2(orders, 1) < 0 {
            return None;
        }
        // Without the lock rather than not at all.
        close_from(if lock >= 0 && libc::dup2(lock, 2) == 2 { 3 } else { 2 });
        Some((BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(1)))
    }
}

fn end() -> ! {
    // SAFETY: ends the process at once, without what others have registered for its end.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_arrive_as_they_were_sent() {
        let made = Made { index: 7, flags: 0x2_0001, switched_off: 1 << 127 | 5, left_on: 1 << 64 };
        for outcome in [Ok(()), Err((Step::Flags, Errno::EPERM)), Err((Step::Offloads, Errno::ENODEV))] {
            let report = Report::of(outcome, made);
            let arrived = Report::decode(&report.encode());
            assert_eq!(arrived, report);
            assert_eq!(arrived.failure(), outcome.err());
        }
    }
}
