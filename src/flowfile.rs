//! The file that keeps the flows over a restart, however the process ended.
//!
//! Its pages are the flow table's memory, so that nothing has to be written when the process is killed. In front of them
//! stand a page that says what the file is, and the numbers of the backends by name. It belongs on a file system in
//! memory (`/run`, `/dev/shm`): flows older than the last boot mean nothing.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, posix_fallocate};

use crate::counters::MOST_BACKENDS;
use crate::failure::{Failure, Sysexit};
use crate::lb::flow::{Memory, Shape};
use crate::os::{self, Boot};

const MAGIC: &[u8; 8] = b"pdsrflow";
/// Changes with the layout, and with the meaning of any byte.
const VERSION: u32 = 1;
/// Where the numbers of the backends begin, and their room.
const NAMES_AT: u64 = 4096;
const NAMES_ROOM: usize = MOST_BACKENDS * 272;
/// Where the flows begin: at a page, whatever its size.
const FLOWS_AT: u64 = 2 << 20;
/// The longest name of a backend that is kept: a host name's (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

/// The open file.
pub struct FlowFile {
    path: PathBuf,
    file: Flock<File>,
    shape: Shape,
}

/// The key that names the flows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Of a new file; one that is there has its own.
    Own((u64, u64)),
    /// This one: another balancer names flows by it, too.
    Shared((u64, u64)),
}

/// What a flow file had to give.
pub struct Kept {
    /// The table's memory.
    pub memory: Memory,
    /// Backends by their numbers, with their epochs; none if the file was new.
    pub seats: Vec<(String, u8)>,
    /// Why what was there is not used, if something was.
    pub discarded: Option<String>,
}

impl FlowFile {
    /// Opens or creates `path` for a table of `shape`.
    ///
    /// # Errors
    /// It cannot be created, another process has it, it holds something else, or there is no room.
    pub fn open(path: &Path, shape: Shape, key: Key) -> Result<(FlowFile, Kept), Failure> {
        let failed = |what: &str| Failure::new(Sysexit::CantCreat, format!("flow file {}: {what}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| failed(&e.to_string()))?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| failed("another process has it; stop that one first, or name another file"))?;
        let length = file.metadata().map_err(|e| failed(&e.to_string()))?.len();
        let mut head = [0u8; 64];
        if length > 0 {
            let read = file.read_exact_at(&mut head, 0);
            if read.is_err() || head[..8] != *MAGIC {
                return Err(failed("it holds something else than flows; name another"));
            }
        }
        let this = FlowFile { path: path.to_owned(), file, shape };
        let boot = os::boot().map_err(|e| failed(&e.to_string()))?;
        let usable = if length == 0 { Err(None) } else { this.read_head(&head, length, &boot).map_err(Some) };
        let usable = usable.and_then(|(kept, age)| match key {
            Key::Shared(key) if key != kept => {
                Err(Some("its flows are named by another key than the peer's".to_owned()))
            }
            Key::Shared(_) | Key::Own(_) => Ok((kept, age)),
        });
        let (Key::Own(key) | Key::Shared(key)) = key;
        let kept = match usable {
            Ok((key, age)) => this.reserve().map(|()| (key, age, this.read_seats(), None)),
            Err(why) => this.begin(key, &boot).map(|()| (key, Duration::ZERO, Vec::new(), why)),
        };
        let (key, age, seats, discarded) = kept.map_err(|e| failed(&e.to_string()))?;
        let memory = os::map_file(&this.file, FLOWS_AT, shape.bytes())
            .and_then(|map| Memory::inherited(map, shape, key, age))
            .map_err(|e| failed(&e.to_string()))?;
        Ok((this, Kept { memory, seats, discarded }))
    }

    /// Key and age of the table that the file holds, or why it is of no use.
    fn read_head(&self, head: &[u8; 64], length: u64, boot: &Boot) -> Result<((u64, u64), Duration), String> {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        if number(8) != u64::from(VERSION) {
            return Err("it was written by another version".to_owned());
        }
        if number(16) != self.shape.main_entries() as u64 || length != FLOWS_AT + self.shape.bytes() as u64 {
            return Err(format!("it was made for {} flows", number(16)));
        }
        if number(48) != boot.id {
            return Err("it is from before the last boot".to_owned());
        }
        let age = boot.uptime.checked_sub(Duration::from_millis(number(40)));
        let age = age.ok_or_else(|| "it is from the future".to_owned())?;
        Ok(((number(24), number(32)), age))
    }

    /// Makes the file anew.
    fn begin(&self, key: (u64, u64), boot: &Boot) -> io::Result<()> {
        self.file.set_len(0)?;
        if let Err(e) = self.reserve() {
            // What has been begun would be taken for a file of flows.
            let _ = self.file.set_len(0);
            return Err(e);
        }
        let born = boot.uptime.as_millis() as u64;
        let numbers = [u64::from(VERSION), self.shape.main_entries() as u64, key.0, key.1, born, boot.id];
        let mut head = MAGIC.to_vec();
        numbers.iter().for_each(|n| head.extend_from_slice(&n.to_le_bytes()));
        self.file.write_all_at(&head, 0)
    }

    /// Takes the room for the whole file now: where a file system is full, a page that is written to later ends the process.
    fn reserve(&self) -> io::Result<()> {
        let length = FLOWS_AT + self.shape.bytes() as u64;
        let no_room = |e: io::Error| {
            let mib = length.div_ceil(1 << 20);
            let what = format!("no room for {mib} MiB: {e}; take a larger file system, or fewer --flow-entries");
            io::Error::new(e.kind(), what)
        };
        match posix_fallocate(&*self.file, 0, length as i64) {
            Ok(()) => Ok(()),
            // Not every file system can (ZFS). Bytes that are written there take no other room than others.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::ENODEV) => {
                let page = vec![0u8; 1 << 20];
                let mut at = self.file.metadata()?.len();
                while at < length {
                    let part = page.len().min((length - at) as usize);
                    self.file.write_all_at(&page[..part], at).map_err(no_room)?;
                    at += part as u64;
                }
                Ok(())
            }
            Err(e) => Err(no_room(e.into())),
        }
    }

    /// Keeps the numbers of the backends; `seats` are names and epochs by number.
    ///
    /// # Errors
    /// The system's.
    pub fn keep_seats<'a>(&self, seats: impl IntoIterator<Item = (&'a str, u8)>) -> io::Result<()> {
        let mut text = Vec::new();
        for (name, epoch) in seats {
            // A name that is too long for a host is kept as nobody's: its flows are forgotten at the next start.
            let name = if name.len() > LONGEST_NAME || name.contains('\n') { "" } else { name };
            text.extend_from_slice(format!("{epoch} {name}\n").as_bytes());
        }
        text.truncate(NAMES_ROOM - 1);
        text.push(0);
        self.file.write_all_at(&text, NAMES_AT)
    }

    fn read_seats(&self) -> Vec<(String, u8)> {
        let mut text = vec![0; NAMES_ROOM];
        if self.file.read_exact_at(&mut text, NAMES_AT).is_err() {
            return Vec::new();
        }
        let end = text.iter().position(|&b| b == 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..end]);
        let seat =
            |line: &str| line.split_once(' ').and_then(|(epoch, name)| Some((name.to_owned(), epoch.parse().ok()?)));
        text.lines().map_while(seat).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Key = Key::Own((5, 6));

    fn open(path: &Path, entries: usize) -> Result<(FlowFile, Kept), Failure> {
        FlowFile::open(path, Shape::of(entries), KEY)
    }

    #[test]
    fn names_and_memory_are_there_when_it_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let (file, kept) = open(&path, 1024).unwrap();
        assert!(kept.seats.is_empty() && kept.discarded.is_none());
        file.keep_seats([("be1", 0), ("be2", 7)]).unwrap();
        assert!(open(&path, 1024).is_err_and(|failure| failure.message.contains("another process")));
        drop((file, kept));
        let (_, kept) = open(&path, 1024).unwrap();
        assert_eq!(kept.seats, [("be1".to_owned(), 0), ("be2".to_owned(), 7)]);
    }

    #[test]
    fn a_table_of_another_size_begins_anew_and_a_strange_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        open(&path, 1024).unwrap().0.keep_seats([("be1", 0)]).unwrap();
        let (_, kept) = open(&path, 2048).unwrap();
        assert!(kept.seats.is_empty() && kept.discarded.is_some_and(|why| why.contains("1024")));
        let shared = |key| FlowFile::open(&path, Shape::of(2048), Key::Shared(key)).unwrap().1.discarded;
        assert!(shared((7, 8)).is_some_and(|why| why.contains("peer")), "it had a key of its own");
        assert_eq!((shared((7, 8)), shared((9, 9)).is_some()), (None, true));
        std::fs::write(&path, "precious").unwrap();
        assert!(open(&path, 1024).is_err_and(|failure| failure.message.contains("something else")));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    }
}
