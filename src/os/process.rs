//! The process: pid file, background, user. The same on every Unix.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::User;

use crate::failure::{Failure, Sysexit};

/// A pid file, locked while the process lives and removed when it ends.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    file: Flock<File>,
    written: bool,
}

impl Pidfile {
    /// Takes the pid file `path`; its content is written by [`Pidfile::write`].
    ///
    /// # Errors
    /// It cannot be created, another process holds it, or it holds something else than a process number.
    pub fn take(path: &Path) -> Result<Pidfile, Failure> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|e| Failure::new(Sysexit::CantCreat, format!("pid file {}: {e}", path.display())))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(file, _)| {
            let pid = std::io::read_to_string(&file).unwrap_or_default();
            let message = format!("pid file {}: process {} holds it; stop that one first", path.display(), pid.trim());
            Failure::new(Sysexit::CantCreat, message)
        })?;
        let mut content = String::new();
        let read = (&*file).take(64).read_to_string(&mut content);
        if read.is_err() || !content.trim().bytes().all(|b| b.is_ascii_digit()) {
            let message =
                format!("pid file {}: it holds something else than a process number; name another", path.display());
            return Err(Failure::new(Sysexit::CantCreat, message));
        }
        Ok(Pidfile { path: path.to_owned(), file, written: false })
    }

    /// Takes the pid file `path` over from the process that this one succeeds, which still holds it.
    ///
    /// # Errors
    /// It cannot be replaced.
    pub fn succeed(path: &Path) -> Result<Pidfile, Failure> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut pidfile = Pidfile::take(&new)?;
        std::fs::rename(&new, path)
            .map_err(|e| Failure::new(Sysexit::CantCreat, format!("pid file {}: {e}", path.display())))?;
        pidfile.path = path.to_owned();
        Ok(pidfile)
    }

    /// Writes the number of this process.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&mut self) -> Result<(), Failure> {
        self.written = true;
        let rewound = self.file.rewind();
        let written =
            rewound.and_then(|()| self.file.set_len(0)).and_then(|()| writeln!(self.file, "{}", std::process::id()));
        written.map_err(|e| Failure::new(Sysexit::CantCreat, format!("pid file {}: {e}", self.path.display())))
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        // A successor may have its own there by now.
        let here = std::fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        let ours = self.file.metadata().map(|own| (own.dev(), own.ino()));
        if !self.written || here.ok() != ours.ok() {
            return;
        }
        // Another user by now may not remove it from its directory, but can still empty it.
        if std::fs::remove_file(&self.path).is_err() {
            let _ = self.file.set_len(0);
        }
    }
}

/// Goes on in the background, detached from the terminal. Before any thread is started.
///
/// # Errors
/// The system refuses.
pub fn daemonize() -> Result<(), Failure> {
    // Relative paths of the command line stay what they were.
    nix::unistd::daemon(true, false)
        .map_err(|e| Failure::new(Sysexit::OsErr, format!("cannot go to the background: {e}")))
}

/// Looks up the user to become.
///
/// # Errors
/// There is no such user.
pub fn user(name: &str) -> Result<User, Failure> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(user),
        Ok(None) => Err(Failure::new(Sysexit::NoUser, format!("no user {name:?}; create it, or name another with -u"))),
        Err(e) => Err(Failure::new(Sysexit::NoUser, format!("user {name:?} cannot be looked up: {e}"))),
    }
}

/// Lets the process have as many descriptors as it may (getrlimit(2), RLIMIT_NOFILE); how many those are.
///
/// # Errors
/// The system refuses.
pub fn raise_file_limit() -> std::io::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    // Signed on some systems.
    Ok(hard as _)
}

/// How many descriptors the process may have now (getrlimit(2), RLIMIT_NOFILE): each is less than that.
pub fn file_limit() -> std::os::fd::RawFd {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_NOFILE).map_or(std::os::fd::RawFd::MAX, |(soft, _)| soft.try_into().unwrap_or(i32::MAX))
}

/// Makes `root` the root of all paths (chroot(2)); what is open stays open.
///
/// # Errors
/// There is no such folder, or it is not permitted.
pub fn change_root(root: &Path) -> Result<(), Failure> {
    nix::unistd::chroot(root).and_then(|()| nix::unistd::chdir("/")).map_err(|e| {
        let code = if e == nix::Error::EPERM { Sysexit::NoPerm } else { Sysexit::Config };
        let remedy = if e == nix::Error::EPERM { "start as root" } else { "name a folder that is there" };
        Failure::new(code, format!("{} cannot become the root (-j): {e}: {remedy}, or leave -j out", root.display()))
    })
}

/// Makes the file or folder `path` the property of `user`; a device stays whose it is.
///
/// # Errors
/// The system refuses.
pub fn give(path: &Path, user: &User) -> Result<(), Failure> {
    if !path.metadata().is_ok_and(|metadata| metadata.is_file() || metadata.is_dir()) {
        return Ok(());
    }
    nix::unistd::chown(path, Some(user.uid), Some(user.gid)).map_err(|e| {
        Failure::new(Sysexit::NoPerm, format!("{} cannot be given to user {}: {e}", path.display(), user.name))
    })
}

/// Ends the process quietly when nobody reads its output any more, as Unix filters do.
pub fn end_on_broken_pipe() {
    // SAFETY: the default action replaces the one that ignores the signal; no handler of ours is involved.
    let _ =
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl) };
}

/// Since when the system runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Another number after every boot, where the system has one; 0 otherwise.
    pub id: u64,
    /// How long it has run, by a clock that nobody sets.
    pub uptime: Duration,
}

/// Since when the system runs.
///
/// # Errors
/// The system does not say.
pub fn boot() -> std::io::Result<Boot> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)?;
    let uptime = Duration::new(time.tv_sec().try_into().unwrap_or(0), time.tv_nsec().try_into().unwrap_or(0));
    // Linux: random(4). Elsewhere a clock that has begun anew has to do.
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    Ok(Boot { id: u64::from_str_radix(&digits, 16).unwrap_or(0), uptime })
}

/// Two random numbers that nobody can guess.
///
/// # Errors
/// The system has no source of them.
pub fn random_key() -> Result<(u64, u64), Failure> {
    let number = || getrandom::u64().map_err(|e| Failure::new(Sysexit::OsErr, format!("no random numbers: {e}")));
    Ok((number()?, number()?))
}
