//! What an interface has to be for netmap(4): up, without the offloads that netmap cannot carry, perhaps promiscuous.
//!
//! A process of its own, the keeper, changes it and puts back exactly what it changed: when it is told to, or when the
//! process that it keeps the interface for has ended, by a panic or by KILL, too. It stays root when that has become
//! another user, so that it can set up an interface again that had gone and has returned.

mod keeper;
mod target;

use std::io;
use std::time::Duration;

use super::system::link;
use keeper::Keeper;
pub(super) use target::{Bits, request_socket};
use target::{Made, Target};

/// Some drivers start their hardware anew for each change.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which frames an interface takes from the segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MacFilter {
    /// Those for its own MAC, for groups that were joined, and for everybody.
    #[default]
    Own,
    /// All: what `--vip-mac` needs on netmap.
    Promiscuous,
}

/// An interface that is set up for netmap, until this is dropped or the process has ended.
///
/// Drivers start their rings anew for such changes: it has to be there before the interface is opened with netmap, and
/// to go after that is closed.
#[derive(Debug)]
pub struct Setup {
    target: Target,
    keeper: Keeper,
    made: Made,
}

impl Setup {
    /// Sets up `interface`. It forks: the fewer threads and the less memory there are yet, the better. Only one may
    /// exist for an interface at a time, or the one would put back what the other needs.
    ///
    /// # Errors
    /// There is no such interface; the system does not permit it, or the driver refuses: then all is as it was.
    pub fn apply(interface: &str, filter: MacFilter) -> io::Result<Setup> {
        let target = Target::new(interface, filter)?;
        let keeper = Keeper::start(interface, &target)?;
        let mut setup = Setup { target, keeper, made: Made::default() };
        setup.renew()?;
        Ok(setup)
    }

    /// Sets the interface up again, after it had gone and returned, perhaps with other offloads. Permitted also when
    /// this process itself is not root any more. What is still set up stays so.
    ///
    /// # Errors
    /// As [`Setup::apply`]; or the keeper was killed.
    pub fn renew(&mut self) -> io::Result<()> {
        self.made = self.keeper.make(PATIENCE)?;
        Ok(())
    }

    /// Puts everything back as it was found, and waits for that. A second time there is nothing to do, and nothing
    /// without the interface. A [`Setup::renew`] after it fails.
    ///
    /// # Errors
    /// The system's; not within 15 s.
    pub fn restore(&mut self) -> io::Result<()> {
        match self.keeper.finish(PATIENCE) {
            // It was killed. Perhaps we may do it ourselves.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                let made = std::mem::take(&mut self.made);
                self.target.undo(self.target.socket(), &made).map_err(io::Error::from)
            }
            finished => finished,
        }
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
