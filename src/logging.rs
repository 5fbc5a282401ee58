//! The log: to a terminal, a file, or syslog; for people or for machines.

use std::ffi::CStr;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::Mutex;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::format::{DefaultFields, Format, Full};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{self, MakeWriter, SubscriberBuilder};

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
    let builder = fmt::fmt().with_max_level(level).with_target(false);
    if let Some(path) = &process.log_file {
        let file = OpenOptions::new().append(true).create(true).open(path);
        let file = file.map_err(|e| Failure::new(Sysexit::CantCreat, format!("log file {}: {e}", path.display())))?;
        let builder = builder.with_ansi(false).with_writer(Mutex::new(file));
        install(builder, process.log_format);
    } else if process.daemon {
        let options = syslog_tracing::Options::LOG_PID;
        if let Some(syslog) = syslog_tracing::Syslog::new(IDENTITY, options, syslog_tracing::Facility::Daemon) {
            let builder = builder.with_ansi(false).without_time().with_level(false).with_writer(syslog);
            install(builder, process.log_format);
        }
    } else {
        let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
        install(builder, process.log_format);
    }
    Ok(())
}

/// Takes `builder` for the whole process, in the asked-for format.
fn install<T, W>(builder: SubscriberBuilder<DefaultFields, Format<Full, T>, LevelFilter, W>, format: LogFormat)
where
    T: FormatTime + Send + Sync + 'static,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        LogFormat::Human => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
