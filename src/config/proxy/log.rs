//! The access log.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// One line for each connection, or for each request where HTTP is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// Where to (`-l`).
    pub target: LogTarget,
    /// What a line looks like.
    pub layout: LogLayout,
}

/// Where the lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To this file, which is opened anew after HUP.
    File(PathBuf),
    /// To syslog(3).
    Syslog,
    /// To this address, a datagram a line (penlogd's, or any collector's).
    Udp(SocketAddr),
}

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLayout {
    /// Client, server, bytes, times.
    #[default]
    Plain,
    /// The common log format of web servers.
    Common,
    /// The combined log format of web servers.
    Combined,
    /// An object of JSON.
    Json,
}

impl fmt::Display for LogLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogLayout::Plain => "plain",
            LogLayout::Common => "common",
            LogLayout::Combined => "combined",
            LogLayout::Json => "json",
        })
    }
}
