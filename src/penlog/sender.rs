//! `penlog`: sends each line of standard input to a penlogd.

use std::io::{self, BufRead, Read, Write};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::time::{Duration, Instant};

use clap::Parser;

use super::line::LONGEST;
use crate::failure::{Failure, Sysexit};

/// Losses are told of at most that often.
const REPORT: Duration = Duration::from_secs(10);

/// Send each line of standard input, a web server's log, to penlogd
///
/// For a web server that writes its log to a program, in Apache: CustomLog "|/usr/local/bin/penlog loghost 10000" combined
#[derive(Parser, Clone, Debug)]
#[command(name = "penlog", version)]
pub struct Arguments {
    /// Where penlogd is: HOST PORT, or HOST:PORT; and the address to send from, by which penlogd knows this web server: the
    /// one that it has among the balancer's backends
    #[arg(value_name = "HOST PORT [SOURCE]", required = true, num_args = 1..=3)]
    pub words: Vec<String>,
}

/// Sends standard input, until its end.
///
/// # Errors
/// Words that make no sense, a host without an address, a source that is not this host's.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (collector, source) = addresses(&arguments.words)?;
    let socket = UdpSocket::bind((source, 0)).map_err(|e| {
        Failure::new(Sysexit::Unavailable, format!("{source} cannot be sent from: {e}; is it an address of this host?"))
    })?;
    socket
        .connect(collector)
        .map_err(|e| Failure::new(Sysexit::NoHost, format!("{collector} cannot be reached: {e}")))?;
    let sent = send(&mut io::stdin().lock(), &mut io::stderr(), |line| socket.send(line).map(drop));
    sent.map_err(|e| Failure::new(Sysexit::NoInput, format!("standard input cannot be read: {e}")))
}

fn addresses(words: &[String]) -> Result<(SocketAddr, IpAddr), Failure> {
    let one = |text: &str| text.rsplit_once(':').map(|(host, port)| (host.to_owned(), port.to_owned()));
    let (host, port, source) = match words {
        [both] => one(both).map(|(host, port)| (host, port, None)),
        [both, source] if source.parse::<IpAddr>().is_ok() => one(both).map(|(host, port)| (host, port, Some(source))),
        [host, port] => Some((host.clone(), port.clone(), None)),
        [host, port, source] => Some((host.clone(), port.clone(), Some(source))),
        _ => None,
    }
    .ok_or_else(|| Failure::usage(format!("{:?} is not HOST PORT [SOURCE]", words.join(" "))))?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
    let port: u16 = port
        .parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| Failure::usage(format!("{port:?} is no port: a number from 1 to 65535")))?;
    let source: Option<IpAddr> = source
        .map(|source| source.parse().map_err(|_| Failure::usage(format!("{source:?} is no address to send from"))))
        .transpose()?;
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|e| Failure::new(Sysexit::NoHost, format!("{host:?} cannot be looked up: {e}")))?;
    let fits = |address: &SocketAddr| source.is_none_or(|source| source.is_ipv4() == address.is_ipv4());
    let collector = found.into_iter().find(fits).ok_or_else(|| {
        Failure::new(Sysexit::NoHost, format!("{host:?} has no address of the family of what is sent from"))
    })?;
    let any: IpAddr = if collector.is_ipv4() { [0u8; 4].into() } else { [0u16; 8].into() };
    Ok((collector, source.unwrap_or(any)))
}

/// Reads lines until the end, and sends each. What cannot be sent is lost, and said now and then: a web server must not
/// stand still, nor start this program again and again, while penlogd is away.
fn send(
    lines: &mut impl BufRead,
    remarks: &mut impl Write,
    mut send: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut line = Vec::new();
    let (mut lost, mut told) = (0u64, None::<Instant>);
    let mut tell = |lost: &mut u64, why: &str| {
        let _ = writeln!(remarks, "penlog: {lost} lines could not be sent: {why}");
        *lost = 0;
    };
    let mut reason = String::new();
    loop {
        line.clear();
        // One byte for the line's end.
        let length = lines.by_ref().take(LONGEST as u64 + 1).read_until(b'\n', &mut line)?;
        if length == 0 {
            break;
        }
        let whole = line.last() == Some(&b'\n') || length <= LONGEST;
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        if !whole {
            while !lines.fill_buf()?.is_empty() {
                let buffer = lines.fill_buf()?;
                let (end, length) = match buffer.iter().position(|&byte| byte == b'\n') {
                    Some(at) => (true, at + 1),
                    None => (false, buffer.len()),
                };
                lines.consume(length);
                if end {
                    break;
                }
            }
            (lost, reason) = (lost + 1, "longer than a datagram".to_owned());
        } else if !text.is_empty()
            && let Err(e) = send(text)
        {
            (lost, reason) = (lost + 1, e.to_string());
        }
        if lost > 0 && told.is_none_or(|told| told.elapsed() >= REPORT) {
            tell(&mut lost, &reason);
            told = Some(Instant::now());
        }
    }
    if lost > 0 {
        tell(&mut lost, &reason);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_collector_is_host_and_port_in_one_word_or_two() {
        let read = |line: &str| addresses(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let both = |collector: &str, source: &str| (collector.parse().unwrap(), source.parse().unwrap());
        assert_eq!(read("127.0.0.1 10000"), Ok(both("127.0.0.1:10000", "0.0.0.0")));
        assert_eq!(read("127.0.0.1:10000"), Ok(both("127.0.0.1:10000", "0.0.0.0")));
        assert_eq!(read("::1 10000 ::1"), Ok(both("[::1]:10000", "::1")));
        assert_eq!(read("[::1]:10000"), Ok(both("[::1]:10000", "::")));
        assert_eq!(read("127.0.0.1:10000 127.0.0.2"), Ok(both("127.0.0.1:10000", "127.0.0.2")));
        for (line, code) in [
            ("127.0.0.1", Sysexit::Usage),
            ("127.0.0.1 0", Sysexit::Usage),
            ("127.0.0.1 65536", Sysexit::Usage),
            ("127.0.0.1 http", Sysexit::Usage),
            ("127.0.0.1 10000 here", Sysexit::Usage),
            ("127.0.0.1 10000 ::1", Sysexit::NoHost),
        ] {
            assert_eq!(read(line).map_err(|failure| failure.code), Err(code), "{line}");
        }
    }

    #[test]
    fn each_line_is_sent_without_its_end_and_what_cannot_be_is_said() {
        let long = "x".repeat(LONGEST);
        let input = format!("one\n\ntwo \n{long}\n{long}y\nbad\nlast");
        let (mut sent, mut said) = (Vec::new(), Vec::new());
        send(&mut input.as_bytes(), &mut said, |line| {
            if line == b"bad" {
                return Err(io::ErrorKind::ConnectionRefused.into());
            }
            sent.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
        assert_eq!(sent, ["one", "two ", &long, "last"]);
        let said = String::from_utf8(said).unwrap();
        assert!(said.starts_with("penlog: 1 lines could not be sent: longer than a datagram\n"), "{said}");
        assert_eq!(said.lines().count(), 2, "{said}");
    }
}
