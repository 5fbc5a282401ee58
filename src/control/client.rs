//! The client of the control socket: `pen-dsr ctl`, and `penctl`.
//!
//! It always asks in JSON, so that a failure keeps its exit code on the way.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::config::ControlAddress;
use crate::control::wire::{self, Answer, send_all};
use crate::failure::{Failure, Sysexit};

/// Where the control socket is unless somebody says otherwise.
pub const DEFAULT_PATH: &str = if cfg!(target_os = "linux") { "/run/pen-dsr.sock" } else { "/var/run/pen-dsr.sock" };
/// The variable of the environment that says otherwise.
pub const VARIABLE: &str = "PEN_DSR_CONTROL";

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the server may be silent: longer than it waits for its main loop.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes of a reply.
const LONGEST_REPLY: usize = 256 << 20;

/// Gives `command` to the pen-dsr at `address` and prints the answer to standard output: as text, or with `json` what
/// programs get, in one line.
///
/// # Errors
/// It cannot be reached (unavailable, no permission); or what the command itself failed with, with its exit code.
pub fn run(address: &ControlAddress, command: &str, json: bool) -> Result<(), Failure> {
    let answer = ask(address, command)?;
    match print(&mut io::stdout().lock(), answer, json) {
        // Whoever read it has had enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(e) => Err(Failure::new(Sysexit::OsErr, format!("the answer cannot be printed: {e}"))),
        Ok(()) => Ok(()),
    }
}

/// Gives `command` to the pen-dsr at `address`.
///
/// # Errors
/// As those of [`run`].
pub fn ask(address: &ControlAddress, command: &str) -> Result<Answer, Failure> {
    let socket = connect(address)?;
    // A server that takes nothing from us may still say why.
    let sent = send_all(&socket, &wire::encode_command(command), Instant::now() + SILENCE);
    // That was all; it need not wait for more.
    let _ = socket.shutdown(Shutdown::Write);
    match receive_line(&socket) {
        Ok(line) if !line.is_empty() => {
            let beginning = String::from_utf8_lossy(line.get(..60).unwrap_or(&line)).into_owned();
            wire::decode_reply(&line).unwrap_or_else(|| {
                let message = format!("{address}: that is no answer of pen-dsr: {beginning:?}; who listens there?");
                Err(Failure::new(Sysexit::Unavailable, message))
            })
        }
        received => Err(no_answer(address, received.err().or(sent.err()))),
    }
}

/// Where to find pen-dsr when nobody says: the environment's `PEN_DSR_CONTROL`, else [`DEFAULT_PATH`].
///
/// # Errors
/// What the environment says is no address.
pub fn default_address() -> Result<ControlAddress, Failure> {
    address_of(env::var_os(VARIABLE).as_deref())
}

fn address_of(variable: Option<&OsStr>) -> Result<ControlAddress, Failure> {
    match variable.map(OsStr::to_string_lossy) {
        None => Ok(ControlAddress::Unix(PathBuf::from(DEFAULT_PATH))),
        Some(text) => text
            .parse()
            .map_err(|e| Failure::usage(format!("{VARIABLE} in the environment: {e}; correct it, or use -C"))),
    }
}

fn print(out: &mut impl Write, answer: Answer, json: bool) -> io::Result<()> {
    let mut text = if json { answer.json.to_string() } else { answer.text };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn connect(address: &ControlAddress) -> Result<Socket, Failure> {
    match address {
        ControlAddress::Unix(path) => connect_unix(path).map_err(|e| unix_failure(path, &e)),
        ControlAddress::Tcp(tcp) => connect_tcp(*tcp).map_err(|e| tcp_failure(*tcp, &e)),
    }
}

fn connect_unix(path: &Path) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // Where many wait already, connecting waits as long as sending would.
    socket.set_write_timeout(Some(CONNECT))?;
    socket.connect(&SockAddr::unix(path)?)?;
    Ok(socket)
}

fn connect_tcp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.connect_timeout(&address.into(), CONNECT)?;
    Ok(socket)
}

/// Why a Unix socket cannot be connected to, and what to do.
fn unix_failure(path: &Path, e: &io::Error) -> Failure {
    let no_socket = fs::metadata(path).is_ok_and(|found| !found.file_type().is_socket());
    let (code, remedy) = match e.kind() {
        io::ErrorKind::NotFound => (
            Sysexit::Unavailable,
            "there is no such socket: start pen-dsr with -C and this path, or say with -C where it takes commands",
        ),
        io::ErrorKind::PermissionDenied => {
            (Sysexit::NoPerm, "not permitted: commands are taken from the socket's owner and from root alone")
        }
        _ if no_socket => (Sysexit::Unavailable, "that is no socket: say with -C where pen-dsr takes commands"),
        io::ErrorKind::ConnectionRefused => {
            (Sysexit::Unavailable, "nobody listens: the pen-dsr that made it has ended; start it again")
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            (Sysexit::Unavailable, "it does not take connections: too many others wait; try again later")
        }
        _ => {
            return Failure::new(
                Sysexit::OsErr,
                format!("{}: {e}; say with -C where pen-dsr takes commands", path.display()),
            );
        }
    };
    Failure::new(code, format!("{}: {remedy}", path.display()))
}

/// Why an address cannot be connected to, and what to do.
fn tcp_failure(address: SocketAddr, e: &io::Error) -> Failure {
    let (code, remedy) = match e.kind() {
        io::ErrorKind::ConnectionRefused => (
            Sysexit::Unavailable,
            "nobody listens: start pen-dsr with -C and this address, or say with -C where it takes commands".to_owned(),
        ),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => (
            Sysexit::Unavailable,
            "no answer: is the host up, and does no packet filter keep the port closed?".to_owned(),
        ),
        io::ErrorKind::PermissionDenied => {
            (Sysexit::NoPerm, "not permitted: a packet filter of this host refuses it".to_owned())
        }
        _ => (Sysexit::Unavailable, format!("{e}; say with -C where pen-dsr takes commands")),
    };
    Failure::new(code, format!("{address}: {remedy}"))
}

/// The server said nothing: why, and what to do.
fn no_answer(address: &ControlAddress, e: Option<io::Error>) -> Failure {
    let timed_out = e.as_ref().is_some_and(|e| matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut));
    let why = match (address, e) {
        _ if timed_out => format!("no answer within {} s; is that pen-dsr?", SILENCE.as_secs()),
        (_, Some(e)) if e.kind() == io::ErrorKind::FileTooLarge => {
            format!("the answer has more than {} MiB; ask for less", LONGEST_REPLY >> 20)
        }
        (ControlAddress::Tcp(_), _) => {
            "closed without an answer: there, control_acl has to name a list that permits this host".to_owned()
        }
        (ControlAddress::Unix(_), _) => "closed without an answer: pen-dsr has just ended; see its log".to_owned(),
    };
    Failure::new(Sysexit::Unavailable, format!("{address}: {why}"))
}

/// Reads until the end of a line, or of the connection.
fn receive_line(mut socket: &Socket) -> io::Result<Vec<u8>> {
    socket.set_read_timeout(Some(SILENCE))?;
    let mut line = Vec::new();
    let mut chunk = [0; 16 * 1024];
    while !line.ends_with(b"\n") {
        match socket.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => line.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // What came before is worth more than how it ended.
            Err(e) if e.kind() == io::ErrorKind::ConnectionReset && !line.is_empty() => break,
            Err(e) => return Err(e),
        }
        if line.len() > LONGEST_REPLY {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
    }
    Ok(line)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(answer: Answer, json: bool) -> String {
        let mut out = Vec::new();
        print(&mut out, answer, json).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn prints_lines_or_one_line_of_json() {
        let answer = || Answer::new("be1 up\nbe2 down", json!([{"name": "be1\n"}]));
        assert_eq!(printed(answer(), false), "be1 up\nbe2 down\n");
        assert_eq!(printed(answer(), true), "[{\"name\":\"be1\\n\"}]\n");
        assert_eq!(printed(Answer::new("", json!(null)), false), "", "nothing to say is no empty line");
        assert_eq!(printed(Answer::plain("4711\n"), true), "\"4711\"\n");
    }

    #[test]
    fn the_environment_says_where() {
        assert_eq!(address_of(None).unwrap().to_string(), DEFAULT_PATH);
        assert_eq!(address_of(Some(OsStr::new("127.0.0.1:8888"))).unwrap().to_string(), "127.0.0.1:8888");
        let failure = address_of(Some(OsStr::new("nonsense"))).unwrap_err();
        assert_eq!(failure.code, Sysexit::Usage);
        assert!(failure.message.contains(VARIABLE) && failure.message.contains("nonsense"), "{failure}");
    }
}
