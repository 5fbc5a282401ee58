//! The thread that writes, and the event loops' ends of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{info, warn};

use super::Entry;
use super::layout::Formatter;
use super::target::Target;
use crate::config::proxy::{AccessLog, LogLayout, LogTarget};
use crate::failure::{Failure, Sysexit};

/// Lines are written together that come within so long: to wake the writer for each would cost more than the line.
const GATHER: Duration = Duration::from_millis(50);
/// An event loop that has so much ready for the writer, bytes, loses what comes then.
const ROOM: usize = 4 << 20;
/// Losses are told of at most that often.
const REPORT: Duration = Duration::from_secs(10);

/// The access log, opened, with the thread that writes it. Dropped, it writes what there is, and ends.
#[derive(Debug)]
pub struct AccessWriter {
    shared: Arc<Shared>,
    /// Until the thread has it.
    target: Option<Target>,
    writer: Option<JoinHandle<()>>,
    layout: LogLayout,
    to_udp: bool,
}

#[derive(Debug, Default)]
struct Shared {
    slots: Mutex<Vec<Arc<Slot>>>,
    written: AtomicU64,
    lost: AtomicU64,
    /// The writer sleeps until somebody wakes it.
    asleep: AtomicBool,
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// Lines of one event loop for the writer. Held for as long as it takes to append or to swap.
#[derive(Debug, Default)]
struct Slot(Mutex<Vec<u8>>);

impl AccessWriter {
    /// Opens the target: before privileges are dropped and the root is changed.
    ///
    /// # Errors
    /// The target cannot be opened.
    pub fn open(log: &AccessLog) -> Result<AccessWriter, Failure> {
        let target = Target::open(&log.target)?;
        let to_udp = matches!(log.target, LogTarget::Udp(_));
        Ok(AccessWriter { shared: Arc::default(), target: Some(target), writer: None, layout: log.layout, to_udp })
    }

    /// Starts the thread: after fork(2).
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(&mut self) -> Result<(), Failure> {
        let Some(target) = self.target.take() else { return Ok(()) };
        let shared = Arc::clone(&self.shared);
        let writer = thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&shared, target));
        let failed = |e| Failure::new(Sysexit::OsErr, format!("access log: no thread to write it: {e}"));
        self.writer = Some(writer.map_err(failed)?);
        Ok(())
    }

    /// The end for one event loop.
    pub fn recorder(&self) -> Recorder {
        let slot = Arc::new(Slot::default());
        self.shared.slots.lock().push(Arc::clone(&slot));
        Recorder {
            formatter: Formatter::new(self.layout),
            own: Vec::with_capacity(4096),
            slot,
            writer: self.writer.as_ref().map(|writer| writer.thread().clone()),
            shared: Arc::clone(&self.shared),
            plain: self.layout == LogLayout::Plain,
            json: self.layout == LogLayout::Json,
            to_udp: self.to_udp,
        }
    }

    /// Has the file opened by its name again, once what was recorded before is written (HUP). The old one stays if that
    /// fails, and the log says so.
    pub fn reopen(&self) {
        self.shared.reopen.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// Lines that were written, or sent.
    pub fn written(&self) -> u64 {
        self.shared.written.load(Ordering::Relaxed)
    }

    /// Lines that were lost: the disk was full, the network or syslogd took none, or the writer was too slow.
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    fn wake(&self) {
        if let Some(writer) = &self.writer {
            writer.thread().unpark();
        }
    }
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.wake();
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// An event loop's end of the access log.
#[derive(Debug)]
pub struct Recorder {
    formatter: Formatter,
    /// Lines that the slot does not have yet: nearly always only the one that is being made.
    own: Vec<u8>,
    slot: Arc<Slot>,
    writer: Option<Thread>,
    shared: Arc<Shared>,
    plain: bool,
    json: bool,
    to_udp: bool,
}

impl Recorder {
    /// Records `entry`; takes about a microsecond, and never waits.
    pub fn record(&mut self, entry: &Entry) {
        if self.own.len() >= ROOM {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.formatter.line(entry, &mut self.own);
        }
        self.flush();
    }

    /// Hands over what an earlier [`record`](Recorder::record) could not, because the writer was just about to take it. For
    /// every turn of an event loop, before it sleeps.
    pub fn flush(&mut self) {
        if self.own.is_empty() {
            return;
        }
        let Some(mut lines) = self.slot.0.try_lock() else { return };
        if lines.len() >= ROOM {
            let lost = self.own.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        } else {
            lines.extend_from_slice(&self.own);
        }
        let hurry = lines.len() >= ROOM / 4;
        drop(lines);
        self.own.clear();
        if hurry && let Some(writer) = &self.writer {
            writer.unpark();
        } else if self.shared.asleep.load(Ordering::SeqCst)
            && self.shared.asleep.swap(false, Ordering::SeqCst)
            && let Some(writer) = &self.writer
        {
            writer.unpark();
        }
    }

    /// Does a line have the first line of a stream ([`About::Stream`](super::About::Stream))? Otherwise nobody need keep
    /// it.
    pub fn wants_first_line(&self) -> bool {
        self.plain || self.json
    }

    /// Is a connection that is relayed as it comes to be recorded when its first bytes are there, too
    /// ([`End::Begun`](super::End::Begun)), as penlogd cannot wait until it is over? The line at its end is then without
    /// the first line.
    pub fn wants_begin(&self) -> bool {
        self.plain && self.to_udp
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // The event loop is over: it may wait for the writer's swap now.
        let mut lines = self.slot.0.lock();
        lines.extend_from_slice(&self.own);
        drop(lines);
        self.own.clear();
        if let Some(writer) = &self.writer {
            writer.unpark();
        }
    }
}

/// Writes what the event loops have recorded, until it is told to stop.
fn write(shared: &Shared, mut target: Target) {
    let mut report = Report::default();
    let mut lines = Vec::new();
    loop {
        let stopping = shared.stop.load(Ordering::SeqCst);
        let reopening = shared.reopen.swap(false, Ordering::SeqCst);
        let busy = take(shared, &mut target, &mut lines, &mut report);
        if reopening && let Err(e) = target.reopen() {
            warn!("access log {}: {e}; it goes on to the file that was opened before", target.name());
        }
        report.tell(shared.lost.load(Ordering::Relaxed), &target, stopping);
        if stopping {
            return;
        }
        if busy {
            thread::park_timeout(GATHER);
            continue;
        }
        shared.asleep.store(true, Ordering::SeqCst);
        // Whoever recorded before that has not woken us.
        let idle = shared.slots.lock().iter().all(|slot| slot.0.lock().is_empty());
        let told = shared.stop.load(Ordering::SeqCst) || shared.reopen.load(Ordering::SeqCst);
        if idle && !told {
            if report.pending { thread::park_timeout(REPORT) } else { thread::park() }
        }
        shared.asleep.store(false, Ordering::SeqCst);
        if !shared.stop.load(Ordering::SeqCst) && !shared.reopen.load(Ordering::SeqCst) {
            thread::park_timeout(GATHER);
        }
    }
}

/// Takes and writes what each event loop has; returns whether one had something.
fn take(shared: &Shared, target: &mut Target, lines: &mut Vec<u8>, report: &mut Report) -> bool {
    let slots: Vec<Arc<Slot>> = {
        let mut slots = shared.slots.lock();
        // The event loop is gone, and nothing is left of it.
        slots.retain(|slot| Arc::strong_count(slot) > 1 || !slot.0.lock().is_empty());
        slots.clone()
    };
    let mut busy = false;
    for slot in slots {
        std::mem::swap(lines, &mut *slot.0.lock());
        if lines.is_empty() {
            continue;
        }
        busy = true;
        let outcome = target.write(lines);
        lines.clear();
        shared.written.fetch_add(outcome.written, Ordering::Relaxed);
        shared.lost.fetch_add(outcome.lost, Ordering::Relaxed);
        if let Some(error) = outcome.error {
            report.reason = Some(error.to_string());
        }
    }
    busy
}

/// What has been said about lost lines.
#[derive(Default)]
struct Report {
    told: u64,
    when: Option<Instant>,
    reason: Option<String>,
    /// There is something to tell, later.
    pending: bool,
}

impl Report {
    fn tell(&mut self, lost: u64, target: &Target, now_or_never: bool) {
        let new = lost.saturating_sub(self.told);
        let early = self.when.is_some_and(|when| when.elapsed() < REPORT);
        self.pending = new > 0 && early && !now_or_never;
        if new == 0 || self.pending {
            return;
        }
        let reason = self.reason.take().unwrap_or_else(|| "it cannot keep up".to_owned());
        warn!("access log {}: {new} lines lost: {reason}", target.name());
        if now_or_never {
            info!("access log {}: {lost} lines lost in all", target.name());
        }
        (self.told, self.when) = (lost, Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::proxy::access::{About, End};

    fn entry<'a>(first: &'a [u8]) -> Entry<'a> {
        Entry {
            client: "192.0.2.7:1".parse().ok(),
            listener: "l",
            server: None,
            start: SystemTime::now(),
            connect: None,
            total: Duration::ZERO,
            received: 0,
            sent: 0,
            end: End::Closed,
            about: About::Stream(first),
        }
    }

    fn writer(target: LogTarget) -> AccessWriter {
        let mut writer = AccessWriter::open(&AccessLog { target, layout: LogLayout::Plain }).unwrap();
        writer.start().unwrap();
        writer
    }

    fn until(mut what: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !what() {
            assert!(begin.elapsed() < Duration::from_secs(60), "it does not come to that");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn each_line_of_every_event_loop_is_written_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access");
        let writer = writer(LogTarget::File(path.clone()));
        thread::scope(|scope| {
            for name in ["a", "b", "c"] {
                let mut log = writer.recorder();
                scope.spawn(move || {
                    for number in 0..5000 {
                        log.record(&entry(format!("{name}{number}").as_bytes()));
                        if number % 1000 == 0 {
                            thread::sleep(Duration::from_millis(3));
                        }
                    }
                });
            }
        });
        drop(writer);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split('"').nth(1).unwrap()).collect();
        assert_eq!(lines.len(), 15_000);
        for name in ["a", "b", "c"] {
            let own =
                lines.iter().filter_map(|line| line.strip_prefix(name)).map(|number| number.parse::<i32>().unwrap());
            assert!(own.eq(0..5000), "{name}");
        }
    }

    #[test]
    fn a_single_line_is_written_without_another_and_reopening_comes_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, moved) = (folder.path().join("access"), folder.path().join("access.1"));
        let writer = writer(LogTarget::File(path.clone()));
        let mut log = writer.recorder();
        log.record(&entry(b"one"));
        until(|| writer.written() == 1);
        // It sleeps by now, or soon.
        thread::sleep(GATHER * 3);
        log.record(&entry(b"two"));
        until(|| writer.written() == 2);
        std::fs::rename(&path, &moved).unwrap();
        writer.reopen();
        until(|| path.exists());
        log.record(&entry(b"three"));
        until(|| writer.written() == 3);
        assert_eq!(std::fs::read_to_string(&moved).unwrap().lines().count(), 2);
        assert!(std::fs::read_to_string(&path).unwrap().contains("three"));
        assert_eq!(writer.lost(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn lines_for_a_full_disk_are_lost_and_the_event_loop_goes_on() {
        let writer = writer(LogTarget::File("/dev/full".into()));
        let mut log = writer.recorder();
        for _ in 0..1000 {
            log.record(&entry(b"x"));
        }
        until(|| writer.lost() == 1000);
        assert_eq!(writer.written(), 0);
    }

    #[test]
    fn what_a_writer_that_stands_still_leaves_no_room_for_is_lost_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(LogTarget::File(folder.path().join("access")));
        let mut log = writer.recorder();
        let slot = Arc::clone(&log.slot);
        let held = slot.0.lock();
        let long = [b'x'; 4000];
        let mut recorded = 0;
        while writer.lost() < 10 {
            log.record(&entry(&long));
            recorded += 1;
            assert!(recorded < 10_000);
        }
        drop(held);
        until(|| {
            log.flush();
            writer.written() + writer.lost() == recorded
        });
        assert!(recorded >= 1000 && writer.lost() == 10, "{recorded} recorded, {} lost", writer.lost());
    }
}
