//! A port whose wire is a capture file: frames are read from one, what is sent is written to another.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapReader, PcapWriter};
use pcap_file::{DataLink, PcapError};

use super::{Losses, Port};
use crate::verdict::Verdict;

/// Reads a classic pcap file of Ethernet frames. Its time is that of the capture.
pub struct PcapPort {
    reader: PcapReader<BufReader<File>>,
    writer: Option<PcapWriter<BufWriter<File>>>,
    start: Instant,
    first: Option<Duration>,
    now: Instant,
    ended: bool,
}

impl PcapPort {
    /// Opens the capture `input`; what is sent goes to a new file `output`.
    ///
    /// # Errors
    /// A file that cannot be opened, or is no pcap file of Ethernet frames; the message names it.
    pub fn open(input: &Path, output: Option<&Path>) -> io::Result<PcapPort> {
        let named = |path: &Path, e: &dyn std::fmt::Display| io::Error::other(format!("{}: {e}", path.display()));
        let file = File::open(input).map_err(|e| named(input, &e))?;
        let reader = PcapReader::new(BufReader::new(file)).map_err(|e| {
            named(input, &format!("not a pcap file ({e}); pcapng can be converted: tcpdump -r IN -w OUT"))
        })?;
        let link = reader.header().datalink;
        if link != DataLink::ETHERNET {
            return Err(named(input, &format!("holds {link:?} frames, not Ethernet")));
        }
        let writer = match output {
            None => None,
            Some(path) => {
                let file = File::create(path).map_err(|e| named(path, &e))?;
                let header = PcapHeader { snaplen: 262_144, datalink: DataLink::ETHERNET, ..PcapHeader::default() };
                Some(PcapWriter::with_header(BufWriter::new(file), header).map_err(|e| named(path, &e))?)
            }
        };
        let start = Instant::now();
        Ok(PcapPort { reader, writer, start, first: None, now: start, ended: false })
    }

    /// The time of the frame that was read last.
    pub fn now(&self) -> Instant {
        self.now
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
        self.now = self.start + packet.timestamp.saturating_sub(first);
        Ok(Some(packet.data.into_owned()))
    }
}

impl Port for PcapPort {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(&mut [u8]) -> Verdict) -> io::Result<usize> {
        for n in 0..budget {
            let Some(mut frame) = self.read()? else {
                return Ok(n);
            };
            if decide(&mut frame) == Verdict::Transmit {
                self.send(&frame)?;
            }
        }
        Ok(budget)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let time = self.first.unwrap_or_default() + self.now.saturating_duration_since(self.start);
        let packet = PcapPacket::new(time, frame.len() as u32, frame);
        writer.write_packet(&packet).map(|_| ()).map_err(|e| match e {
            PcapError::IoError(e) => e,
            other => io::Error::other(other.to_string()),
        })
    }

    fn wait(&mut self, _until: Option<Instant>) -> io::Result<()> {
        Ok(())
    }

    fn losses(&mut self) -> Losses {
        Losses::default()
    }
}
