//! Where the merged log goes.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::failure::{Failure, Sysexit};
use crate::proxy::access::LogFile;

/// Losses are told of at most that often.
const REPORT: Duration = Duration::from_secs(10);

/// A file, or standard output.
#[derive(Debug)]
pub(super) struct Output {
    file: Option<(PathBuf, LogFile)>,
    lost: u64,
    told: Option<Instant>,
}

impl Output {
    /// Opens the file at `path`; without one it is standard output.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(super) fn open(path: Option<&Path>) -> Result<Output, Failure> {
        let open = |path: &Path| match LogFile::open(path) {
            Ok(file) => Ok((path.to_owned(), file)),
            Err(e) => {
                Err(Failure::new(Sysexit::CantCreat, format!("log {} cannot be written to: {e}", path.display())))
            }
        };
        Ok(Output { file: path.map(open).transpose()?, lost: 0, told: None })
    }

    /// Lines that could not be written.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Opens the file by its name again; the old one stays if that fails.
    pub(super) fn reopen(&mut self) {
        let Some((path, file)) = &mut self.file else { return };
        match file.reopen() {
            Ok(()) => info!("log {} is opened anew", path.display()),
            Err(e) => warn!("log {}: {e}; it goes on to the file that was opened before", path.display()),
        }
    }

    /// Writes `lines`. What a file does not take is lost, and counted.
    ///
    /// # Errors
    /// Nobody reads standard output any more.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), Failure> {
        if lines.is_empty() {
            return Ok(());
        }
        let Some((path, file)) = &mut self.file else {
            let mut out = io::stdout().lock();
            let written = out.write_all(lines).and_then(|()| out.flush());
            return written
                .map_err(|e| Failure::new(Sysexit::CantCreat, format!("standard output cannot be written to: {e}")));
        };
        let outcome = file.write(lines);
        self.lost += outcome.lost;
        if let Some(error) = outcome.error
            && self.told.is_none_or(|told| told.elapsed() >= REPORT)
        {
            self.told = Some(Instant::now());
            warn!("log {}: {} lines lost in all: {error}", path.display(), self.lost);
        }
        Ok(())
    }
}
