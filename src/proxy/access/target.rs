//! Where lines go: a file, syslog, or another host by UDP.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use crate::config::proxy::LogTarget;
use crate::failure::{Failure, Sysexit};

/// Only the log's owner and group see who the clients are.
const MODE: u32 = 0o640;
/// A syslogd that does not read, or a network that takes nothing, is waited for this long for one line.
const PATIENCE: Duration = Duration::from_millis(100);
/// Where syslogd reads: Linux and the BSDs of today; FreeBSD.
const SYSLOG: [&str; 2] = ["/dev/log", "/var/run/log"];
/// Facility local0, severity info (RFC 3164, section 4.1.1): 16 * 8 + 6.
const PRIORITY: u8 = 134;

/// An opened target.
#[derive(Debug)]
pub(super) enum Target {
    File(LogFile),
    Syslog(Syslog),
    Udp(UdpSocket),
}

/// What became of some lines.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Lines that are written, or sent.
    pub written: u64,
    /// Lines that are not.
    pub lost: u64,
    /// Why the last one of these is not.
    pub error: Option<io::Error>,
}

impl Target {
    pub fn open(target: &LogTarget) -> Result<Target, Failure> {
        match target {
            LogTarget::File(path) => LogFile::open(path).map(Target::File).map_err(|e| {
                Failure::new(Sysexit::CantCreat, format!("access log {}: it cannot be written to: {e}", path.display()))
            }),
            LogTarget::Syslog => Syslog::open().map(Target::Syslog).map_err(|e| {
                let tried = SYSLOG.join(", ");
                Failure::new(
                    Sysexit::Unavailable,
                    format!(
                        "access log: no syslogd takes messages at {tried}: {e}; start one, or name a file (-l FILE)"
                    ),
                )
            }),
            LogTarget::Udp(address) => connect(*address).map(Target::Udp).map_err(|e| {
                Failure::new(Sysexit::OsErr, format!("access log to {address}: no socket to send from: {e}"))
            }),
        }
    }

    /// What it is called in messages.
    pub fn name(&self) -> String {
        match self {
            Target::File(file) => file.path.display().to_string(),
            Target::Syslog(_) => "syslog".to_owned(),
            Target::Udp(socket) => socket.peer_addr().map_or_else(|_| "UDP".to_owned(), |peer| peer.to_string()),
        }
    }

    /// Writes `lines`, each with its end.
    pub fn write(&mut self, lines: &[u8]) -> Outcome {
        match self {
            Target::File(file) => file.write(lines),
            Target::Syslog(syslog) => datagrams(lines, |line| syslog.send(line)),
            Target::Udp(socket) => datagrams(lines, |line| socket.send(line).map(drop)),
        }
    }

    /// Opens the file by its name again.
    pub fn reopen(&mut self) -> io::Result<()> {
        match self {
            Target::File(file) => file.reopen(),
            Target::Syslog(_) | Target::Udp(_) => Ok(()),
        }
    }
}

/// A file that is appended to.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    /// Its folder and its name there: the folder still can be reached after chroot(2).
    folder: OwnedFd,
    name: OsString,
    file: File,
    /// The last line was cut off, when the disk was full.
    torn: bool,
}

impl LogFile {
    /// Opens `path`, or makes it.
    pub fn open(path: &Path) -> io::Result<LogFile> {
        let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?.to_owned();
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(folder)?.into();
        Ok(LogFile { file: append(path)?, path: path.to_owned(), folder, name, torn: false })
    }

    /// Opens it by its name again; the old one stays if that fails.
    pub fn reopen(&mut self) -> io::Result<()> {
        let flags = OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP;
        self.file = match openat(&self.folder, self.name.as_os_str(), flags, mode) {
            Ok(file) => file.into(),
            // The folder is another one by now.
            Err(nix::Error::ENOENT) => append(&self.path)?,
            Err(e) => return Err(e.into()),
        };
        self.torn = false;
        Ok(())
    }

    /// Appends `lines`, each with its end.
    pub fn write(&mut self, mut lines: &[u8]) -> Outcome {
        let mut outcome = Outcome::default();
        if self.torn && !lines.is_empty() && self.file.write_all(b"\n").is_ok() {
            self.torn = false;
        }
        while !lines.is_empty() {
            match self.file.write(lines) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(length @ 1..) => {
                    let (done, rest) = lines.split_at(length.min(lines.len()));
                    outcome.written += count(done);
                    self.torn = done.last() != Some(&b'\n');
                    lines = rest;
                }
                failed => {
                    outcome.lost = count(lines);
                    outcome.error = Some(failed.err().unwrap_or_else(|| io::ErrorKind::WriteZero.into()));
                    break;
                }
            }
        }
        outcome
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

fn count(lines: &[u8]) -> u64 {
    lines.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// The local syslogd. It has the time itself; a message without one is in the zone of nobody.
#[derive(Debug)]
pub(super) struct Syslog {
    socket: UnixDatagram,
    message: Vec<u8>,
    prefix: usize,
}

impl Syslog {
    fn open() -> io::Result<Syslog> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let message = format!("<{PRIORITY}>pen-dsr[{}]: ", std::process::id()).into_bytes();
        let syslog = Syslog { socket, prefix: message.len(), message };
        syslog.connect()?;
        Ok(syslog)
    }

    fn connect(&self) -> io::Result<()> {
        let [first, second] = SYSLOG;
        self.socket.connect(first).or_else(|_| self.socket.connect(second))
    }

    fn send(&mut self, line: &[u8]) -> io::Result<()> {
        self.message.truncate(self.prefix);
        self.message.extend_from_slice(line);
        match self.socket.send(&self.message) {
            // It was restarted, unless it is out of our reach after chroot(2).
            Err(e) if matches!(e.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotConnected) => {
                self.connect().map_err(|_| e)?;
                self.socket.send(&self.message)?;
            }
            sent => drop(sent?),
        }
        Ok(())
    }
}

fn connect(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = match address {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?,
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?,
    };
    socket.connect(address)?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends each line without its end.
fn datagrams(lines: &[u8], mut send: impl FnMut(&[u8]) -> io::Result<()>) -> Outcome {
    let mut outcome = Outcome::default();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match send(line) {
            Ok(()) => outcome.written += 1,
            Err(e) => {
                outcome.lost += 1;
                let nobody_has_time = matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
                outcome.error = Some(e);
                if nobody_has_time {
                    // To wait for each line would hold the others up for minutes.
                    outcome.lost = count(lines).saturating_sub(outcome.written);
                    break;
                }
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_opened_anew_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access"), folder.path().join("access.1"));
        let mut target = Target::open(&LogTarget::File(path.clone())).unwrap();
        assert_eq!(target.write(b"one\n").written, 1);
        std::fs::rename(&path, &moved).unwrap();
        assert_eq!(target.write(b"two\n").written, 1);
        target.reopen().unwrap();
        assert_eq!(target.write(b"three\nfour\n").written, 2);
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one\ntwo\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three\nfour\n");
    }

    #[test]
    fn a_folder_that_was_made_anew_is_found_again_and_one_that_is_gone_leaves_the_old_file() {
        let folder = tempfile::tempdir().unwrap();
        let within = folder.path().join("log");
        std::fs::create_dir(&within).unwrap();
        let path = within.join("access");
        let mut target = Target::open(&LogTarget::File(path.clone())).unwrap();
        std::fs::remove_dir_all(&within).unwrap();
        assert!(target.reopen().is_err());
        assert_eq!(target.write(b"to nobody\n").lost, 0);
        std::fs::create_dir(&within).unwrap();
        target.reopen().unwrap();
        target.write(b"again\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "again\n");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_a_full_disk_does_not_take_is_counted() {
        let mut target = Target::open(&LogTarget::File("/dev/full".into())).unwrap();
        let outcome = target.write(b"one\ntwo\n");
        assert_eq!((outcome.written, outcome.lost), (0, 2));
        assert_eq!(outcome.error.unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_line_is_a_datagram() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        collector.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut target = Target::open(&LogTarget::Udp(collector.local_addr().unwrap())).unwrap();
        assert_eq!(target.write(b"one\ntwo 2\n").written, 2);
        let mut received = [0; 99];
        for expected in [&b"one"[..], b"two 2"] {
            let length = collector.recv(&mut received).unwrap();
            assert_eq!(&received[..length], expected);
        }
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let failure = Target::open(&LogTarget::File("/nonexistent/access".into())).unwrap_err();
        assert!(failure.to_string().contains("/nonexistent/access"), "{failure}");
    }
}
