//! What an interface has to be for netmap(4): up, without the offloads that netmap cannot carry, perhaps promiscuous. And
//! for XDP: without those that keep something from a program in the driver.
//!
//! A process of its own, the keeper, changes it and puts back exactly what it changed: when it is told to, or when the
//! process that it keeps the interface for has ended, by a panic or by KILL, too. It stays root when that has become
//! another user, so that it can set up an interface again that had gone and has returned.
//!
//! One at a time: the keeper holds a lock of the interface, with the process and beyond its end, until everything is put
//! back. Otherwise a process that is started right after another was killed would find the offloads off, and the other's
//! keeper would switch them on under it.

mod keeper;
mod lock;
mod target;
mod turn;

use std::io;
use std::time::Duration;

use super::system::link;
use keeper::Keeper;
use lock::SetupLock;
pub(super) use target::{Bits, request_socket};
use target::{Made, Target};

/// Some drivers start their hardware anew for each change. Whoever waits for another's turn waits for such changes, too.
const PATIENCE: Duration = Duration::from_secs(15);

/// What an interface is set up for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// netmap(4), which hands over plain frames.
    #[default]
    Netmap,
    /// A program in the NIC's driver (XDP).
    Xdp,
}

/// Which frames an interface takes from the segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacFilter {
    /// Those for its own MAC, for groups that were joined, and for everybody.
    #[default]
    Own,
    /// All: what `--vip-mac` needs on netmap.
    Promiscuous,
}

/// An interface that is set up for netmap or XDP, until this is dropped or the process has ended.
///
/// Drivers start their rings anew for such changes: it has to be there before the interface is opened with netmap, and
/// to go after that is closed.
#[derive(Debug)]
pub struct Setup {
    target: Target,
    keeper: Keeper,
    made: Made,
    /// Held here, too, should somebody end the keeper. `None`: everything is put back.
    lock: Option<SetupLock>,
}

impl Setup {
    /// Sets up `interface`. It forks: the fewer threads and the less memory there are yet, the better. Only one can
    /// exist for an interface at a time, in whatever process, or the one would put back what the other needs: this waits
    /// for up to 15 s until another's is put back.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`]: another process has it set up and goes on; the message says what to do. There is
    /// no such interface; the system does not permit it, or the driver refuses: then all is as it was.
    pub fn apply(interface: &str, filter: MacFilter) -> io::Result<Setup> {
        Setup::apply_within(PATIENCE, interface, filter)
    }

    /// The same for a program in the NIC's driver.
    ///
    /// # Errors
    /// As for that.
    pub fn apply_for_xdp(interface: &str) -> io::Result<Setup> {
        Setup::make(PATIENCE, interface, Target::new(interface, Purpose::Xdp, MacFilter::Own)?)
    }

    /// [`Setup::apply`], which waits for another's no longer than `patience`.
    ///
    /// # Errors
    /// As for that.
    pub fn apply_within(patience: Duration, interface: &str, filter: MacFilter) -> io::Result<Setup> {
        Setup::make(patience, interface, Target::new(interface, Purpose::Netmap, filter)?)
    }

    fn make(patience: Duration, interface: &str, target: Target) -> io::Result<Setup> {
        // Before the first look at the offloads, and before the fork: the keeper inherits it.
        let lock = turn::wait_for(interface, patience)?;
        let keeper = Keeper::start(interface, &target, &lock)?;
        let mut setup = Setup { target, keeper, made: Made::default(), lock: Some(lock) };
        setup.renew()?;
        Ok(setup)
    }

    /// Sets the interface up again, after it had gone and returned, perhaps with other offloads. Permitted also when
    /// this process itself is not root any more. What is still set up stays so; what somebody has switched on meanwhile is
    /// switched off, and on again in the end, as what was found.
    ///
    /// # Errors
    /// As [`Setup::apply`]; or the keeper was killed.
    pub fn renew(&mut self) -> io::Result<()> {
        self.made = self.keeper.make(PATIENCE)?;
        Ok(())
    }

    /// What somebody else has changed since: offloads that are on again, as ifconfig(8) or ethtool(8) calls them; `down`
    /// and `not promiscuous`. Nothing: it is as it was set up. netmap carries frames wrongly then, and some drivers have
    /// started their rings anew: close it, [`Setup::renew`] this, open it again. Two or three system calls, permitted to
    /// every user; to be asked now and then, about once a second.
    ///
    /// # Errors
    /// The interface has gone.
    pub fn disturbed(&self) -> io::Result<Vec<&str>> {
        if let Some(lock) = &self.lock {
            lock.sign();
        }
        Ok(self.target.disturbed(&self.made)?)
    }

    /// Puts everything back as it was found, and waits for that. A second time there is nothing to do, and nothing
    /// without the interface. A [`Setup::renew`] after it fails.
    ///
    /// # Errors
    /// The system's; not within 15 s.
    pub fn restore(&mut self) -> io::Result<()> {
        let restored = match self.keeper.finish(PATIENCE) {
            // It was killed. Perhaps we may do it ourselves.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let made = std::mem::take(&mut self.made);
                self.target.undo(self.target.socket(), &made).map_err(io::Error::from)
            }
            finished => finished,
        };
        // A keeper that is not done yet still holds it.
        self.lock = None;
        restored
    }

    /// The offloads that were switched off, as ifconfig(8) or ethtool(8) calls them.
    pub fn switched_off(&self) -> Vec<&str> {
        self.target.offloads.words(self.made.switched_off)
    }

    /// Offloads that are on nevertheless, as the driver cannot be without them.
    pub fn left_on(&self) -> Vec<&str> {
        self.target.offloads.words(self.made.left_on)
    }

    /// Was the interface down before?
    pub fn brought_up(&self) -> bool {
        self.made.flags & link::UP != 0
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        if let Err(e) = self.restore() {
            tracing::error!("{}: not all is as it was before: {e}", self.target.name());
        }
    }
}
