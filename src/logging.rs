//! The log: to a terminal, a file, or syslog; for people or for machines.

use std::ffi::CStr;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use parking_lot::{Mutex, MutexGuard};
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{Layer, MakeWriter, layer};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, Process};
use crate::failure::{Failure, Sysexit};

const IDENTITY: &CStr = c"pen-dsr";
/// Lines that wait to be written to standard error.
const LINES: usize = 4096;

/// Lines that have been lost.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The file that the log goes to, if it goes to one.
static FILE: OnceLock<LogFile> = OnceLock::new();
/// Changes how much is logged.
static SET_LEVEL: OnceLock<Box<dyn Fn(LevelFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging as `process` asks.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(process: &Process) -> Result<Log, Failure> {
    let layer = layer().with_target(false);
    if let Some(path) = &process.log_file {
        let file = LogFile::open(path)
            .map_err(|e| Failure::new(Sysexit::CantCreat, format!("log file {}: {e}", path.display())))?;
        install(layer.with_ansi(false).with_writer(FILE.get_or_init(|| file)), process);
    } else if process.daemon {
        let options = syslog_tracing::Options::LOG_PID;
        if let Some(syslog) = syslog_tracing::Syslog::new(IDENTITY, options, syslog_tracing::Facility::Daemon) {
            install(layer.with_ansi(false).without_time().with_level(false).with_writer(syslog), process);
        }
    } else {
        let (writer, guard) = NonBlockingBuilder::default().buffered_lines_limit(LINES).finish(Unread { told: 0 });
        let _ = LOST.set(writer.error_counter());
        install(layer.with_ansi(io::stderr().is_terminal()).with_writer(writer), process);
        return Ok(Log(Some(guard)));
    }
    Ok(Log(None))
}

/// The log, until it is dropped: then what has been said is written, unless nobody reads it.
#[must_use]
pub struct Log(#[expect(dead_code, reason = "it works by being dropped")] Option<WorkerGuard>);

/// Standard error, written to by a thread of its own: a reader that stands still does not hold up the program. What there
/// is no room for is lost, and counted.
struct Unread {
    /// So many lost lines have been told of.
    told: usize,
}

impl Write for Unread {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lost = LOST.get().map_or(0, ErrorCounter::dropped_lines);
        if lost > self.told {
            writeln!(io::stderr(), "pen-dsr: {} lines of the log are lost, as nobody has read it", lost - self.told)?;
            self.told = lost;
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// Logs as much as `debug` says from now on: 0 information, 1 debug, 2 trace.
pub fn set_level(debug: u8) {
    if let Some(set) = SET_LEVEL.get() {
        set(filter(debug));
    }
}

/// Opens the log file by its name again, as somebody may have moved it away; the old one stays if that fails, as it does
/// when another user by now may not write to it. Nothing to do without a log file.
pub fn reopen() {
    let Some(log) = FILE.get() else { return };
    if let Err(e) = log.reopen() {
        warn!("log file {}: {e}; the log goes on to the file that was opened before", log.path.display());
    }
}

fn filter(debug: u8) -> LevelFilter {
    match debug {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// What decides how much is logged; it can be exchanged.
type Filtered = Layered<reload::Layer<LevelFilter, Registry>, Registry>;

/// Logs through `layer` from now on, the whole process, in the format and as much as `process` asks for.
fn install<T, W>(layer: Layer<Filtered, DefaultFields, Format<Full, T>, W>, process: &Process)
where
    T: FormatTime + Send + Sync + 'static,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(process.debug));
    let _ = SET_LEVEL.set(Box::new(move |level| {
        let _ = handle.reload(level);
    }));
    let registry = tracing_subscriber::registry().with(filter);
    match process.log_format {
        LogFormat::Human => registry.with(layer).init(),
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).init(),
    }
}

/// A file that is written to its end, and can be exchanged.
struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<LogFile> {
        Ok(LogFile { path: path.to_owned(), file: Mutex::new(append(path)?) })
    }

    fn reopen(&self) -> io::Result<()> {
        *self.file.lock() = append(&self.path)?;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl<'w> MakeWriter<'w> for &'static LogFile {
    type Writer = Locked<'w>;

    fn make_writer(&'w self) -> Locked<'w> {
        Locked(self.file.lock())
    }
}

/// The file, while one line is written.
struct Locked<'w>(MutexGuard<'w, File>);

impl Write for Locked<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_was_moved_away_goes_on_under_its_name_once_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("log"), folder.path().join("log.1"));
        let log: &'static LogFile = Box::leak(Box::new(LogFile::open(&path).unwrap()));
        let say = |text: &str| (&log).make_writer().write_all(text.as_bytes()).unwrap();
        say("one ");
        std::fs::rename(&path, &moved).unwrap();
        say("two");
        log.reopen().unwrap();
        say("three");
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "one two");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "three");
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert!(log.reopen().is_err());
        say("to the old one, without an error");
    }
}
