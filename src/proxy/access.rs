//! The access log: one line for each connection, or for each request where HTTP is read.
//!
//! ```text
//! event loop: Recorder::record -> its own buffer -> (try_lock) its Slot      writer thread: all Slots -> file, syslog, UDP
//! ```
//!
//! An event loop formats a line into memory and goes on: it never waits, neither for the disk nor for the writer. What
//! does not fit is counted, and the writer says how many lines were lost. The layouts are in docs/ACCESSLOG.md.

mod calendar;
mod layout;
mod target;
mod text;
mod writer;

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

pub use calendar::{Civil, MONTHS, seconds_since_epoch};
pub use layout::Formatter;
pub(crate) use target::LogFile;
pub use writer::{AccessWriter, Recorder};

use super::select::Why;

/// What one line is about.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// The client's address: the one of its PROXY header, if there was one. `None`: it is at a Unix socket.
    pub client: Option<SocketAddr>,
    /// The address of the listener, as it is configured.
    pub listener: &'a str,
    /// The server, if one was connected to, or tried last.
    pub server: Option<Server<'a>>,
    /// When the connection was accepted, or the request began; wall clock.
    pub start: SystemTime,
    /// How long the connection to the server took to make; zero for one that was there already. `None`: it was not made.
    pub connect: Option<Duration>,
    /// From `start` until the end.
    pub total: Duration,
    /// Bytes from the client, after TLS and without the PROXY header.
    pub received: u64,
    /// Bytes to the client, before TLS.
    pub sent: u64,
    /// How it ended.
    pub end: End,
    /// What was asked for.
    pub about: About<'a>,
}

/// A server, as a line has it.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The backend's name.
    pub name: &'a str,
    /// Where it is connected to. `None`: at a Unix socket.
    pub address: Option<SocketAddr>,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub enum About<'a> {
    /// A connection that was relayed as it came. With it the first line of what the client sent, or as much of it as is
    /// at hand, where [`Recorder::wants_first_line`]; empty otherwise.
    Stream(&'a [u8]),
    /// One request of HTTP.
    Request(Request<'a>),
}

/// One request of HTTP. The texts are as the client sent them; the log escapes what they must not do to a line.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// `GET`
    pub method: &'a [u8],
    /// `/index.html?x=1`
    pub target: &'a [u8],
    /// `HTTP/1.1`, `HTTP/2.0`
    pub version: &'a str,
    /// `Host`, or `:authority`.
    pub host: Option<&'a [u8]>,
    /// Of the response; 0: none was sent.
    pub status: u16,
    /// Bytes of the response's body, without the framing of chunks.
    pub body: u64,
    /// `Referer`
    pub referer: Option<&'a [u8]>,
    /// `User-Agent`
    pub user_agent: Option<&'a [u8]>,
}

/// How a connection or a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has only begun: the line that tells penlogd of a connection as soon as its first bytes are there.
    Begun,
    /// As it should: both sides were closed; the request was answered in full.
    Closed,
    /// One of both sides broke off; which one is not known.
    Broken,
    /// The client reset the connection, or left in the midst of a request.
    ClientReset,
    /// The server reset the connection, or closed it in the midst of a response.
    ServerReset,
    /// Nothing moved for too long.
    Idle,
    /// The client's TLS handshake, PROXY header or request head did not come in time.
    Late,
    /// What the client sent was refused: TLS, PROXY header, request.
    BadClient,
    /// What the server sent was refused.
    BadServer,
    /// There was no server for the client.
    Refused(Why),
    /// A limit of the proxy itself was reached.
    Limit,
    /// The proxy was stopped, or the server taken out, before it was over.
    Stopped,
    /// The system failed us: no memory, no descriptor.
    System,
}

impl End {
    /// The word for it in a line.
    pub fn word(self) -> &'static str {
        match self {
            End::Begun => "begun",
            End::Closed => "closed",
            End::Broken => "broken",
            End::ClientReset => "client-reset",
            End::ServerReset => "server-reset",
            End::Idle => "idle",
            End::Late => "late",
            End::BadClient => "bad-client",
            End::BadServer => "bad-server",
            End::Refused(why) => why.name(),
            End::Limit => "limit",
            End::Stopped => "stopped",
            End::System => "system",
        }
    }
}
