//! The log: to a terminal, a file, or syslog; for people or for machines.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt;

use crate::config::cli::{LogFormat, ProcessArgs};
use crate::failure::{Failure, Sysexit};

const IDENTITY: &CStr = c"pen-dsr";

/// Starts logging as `process` asks.
///
/// # Errors
/// The log file cannot be opened.
pub fn start(process: &ProcessArgs) -> Result<(), Failure> {
    let level = match process.debug {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let builder = fmt().with_max_level(level).with_target(false);
    if let Some(path) = &process.log_file {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|e| Failure::new(Sysexit::CantCreat, format!("log file {}: {e}", path.display())))?;
        let builder = builder.with_ansi(false).with_writer(Mutex::new(file));
        match process.log_format {
            LogFormat::Human => builder.init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
    } else if process.daemon {
        let options = syslog_tracing::Options::LOG_PID;
        if let Some(syslog) = syslog_tracing::Syslog::new(IDENTITY, options, syslog_tracing::Facility::Daemon) {
            let builder = builder.with_ansi(false).without_time().with_level(false).with_writer(syslog);
            match process.log_format {
                LogFormat::Human => builder.init(),
                LogFormat::Json => builder.json().flatten_event(true).init(),
            }
        }
    } else {
        let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        match process.log_format {
            LogFormat::Human => builder.init(),
            LogFormat::Json => builder.json().flatten_event(true).init(),
        }
    }
    Ok(())
}
