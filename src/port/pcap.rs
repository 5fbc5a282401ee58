//! A port whose wire is a capture file: frames are read from one, what is sent is written to another.

use std::cell::Cell;
use std::fmt::Display;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError};

use super::{Arm, Port, Tally};
use crate::failure::{Failure, Sysexit};
use crate::verdict::Verdict;

/// Reads a classic pcap file of Ethernet frames. Its time is that of the capture.
pub struct PcapPort {
    reader: PcapReader<BufReader<File>>,
    writer: Option<PcapWriter<BufWriter<File>>>,
    clock: CaptureClock,
    first: Option<Duration>,
    ended: bool,
}

/// The time of the frame that was read last; a handle, so that it can be asked while a frame is looked at.
#[derive(Clone, Debug)]
pub struct CaptureClock {
    start: Instant,
    passed: Rc<Cell<Duration>>,
}

impl CaptureClock {
    /// That time.
    pub fn now(&self) -> Instant {
        self.start + self.passed.get()
    }
}

fn named(code: Sysexit, path: &Path, what: impl Display) -> Failure {
    Failure::new(code, format!("{}: {what}", path.display()))
}

impl PcapPort {
    /// Opens the capture `input`; what is sent goes nowhere.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no pcap file of Ethernet frames; the message names it.
    pub fn open(input: &Path) -> Result<PcapPort, Failure> {
        let file = File::open(input).map_err(|e| named(Sysexit::NoInput, input, e))?;
        let reader = PcapReader::new(BufReader::new(file)).map_err(|e| {
            let what = format!("not a pcap file ({e}); pcapng can be converted: tcpdump -r IN -w OUT");
            named(Sysexit::DataErr, input, what)
        })?;
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(named(Sysexit::DataErr, input, format!("holds {link:?} frames, not Ethernet")));
        }
        let clock = CaptureClock { start: Instant::now(), passed: Rc::default() };
        Ok(PcapPort { reader, writer: None, clock, first: None, ended: false })
    }

    /// Writes what is sent to a new file `output`.
    ///
    /// # Errors
    /// It cannot be created.
    pub fn write_to(&mut self, output: &Path) -> Result<(), Failure> {
        let file = File::create(output).map_err(|e| named(Sysexit::CantCreat, output, e))?;
        let header = PcapHeader { snaplen: 262_144, datalink: DataLink::ETHERNET, ..PcapHeader::default() };
        let writer = PcapWriter::with_header(BufWriter::new(file), header);
        self.writer = Some(writer.map_err(|e| named(Sysexit::CantCreat, output, e))?);
        Ok(())
    }

    /// The time of the frame that was read last.
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// A handle on that time.
    pub fn clock(&self) -> CaptureClock {
        self.clock.clone()
    }

    /// Has the last frame been read?
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The output file cannot be written.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(writer) => writer.into_writer().flush(),
            None => Ok(()),
        }
    }

    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let Some(packet) = self.reader.next_packet() else {
            self.ended = true;
            return Ok(None);
        };
        let packet = packet.map_err(|e| io::Error::new(io::ErrorKind::InvalidData, format!("damaged capture: {e}")))?;
        let first = *self.first.get_or_insert(packet.timestamp);
        self.clock.passed.set(packet.timestamp.saturating_sub(first));
        Ok(Some(packet.data.into_owned()))
    }
}

impl Port for PcapPort {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        for n in 0..budget {
            let Some(mut frame) = self.read()? else {
                return Ok(n);
            };
            if decide(Arm::Front, &mut frame) == Verdict::Transmit {
                self.send(&frame)?;
            }
        }
        Ok(budget)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let time = self.first.unwrap_or_default() + self.clock.passed.get();
        let packet = PcapPacket::new(time, frame.len() as u32, frame);
        writer.write_packet(&packet).map(|_| ()).map_err(|e| match e {
            PcapError::IoError(e) => e,
            other => io::Error::other(other.to_string()),
        })
    }

    fn wait(&mut self, _until: Option<Instant>) -> io::Result<()> {
        Ok(())
    }

    fn tally(&mut self) -> Tally {
        Tally::default()
    }
}
