//! `penlogd`: makes one log of what web servers and the balancer send.

mod merger;
mod output;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::{ArgAction, Parser};
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use nix::unistd::{User, chdir, chroot, setgid, setgroups, setuid};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use socket2::{Domain, Protocol, Socket, Type};
use tracing::{debug, info, warn};

use self::merger::{Merger, Settings};
use self::output::Output;
use super::line::LONGEST;
use crate::config::Process;
use crate::failure::{Failure, Sysexit};
use crate::lb::acl::Network;
use crate::os::{self, Pidfile};

/// Datagrams that are read and not yet looked at, at most; then the kernel keeps them.
const AHEAD: usize = 4096;
/// How much the kernel is asked to keep, bytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Make one log, with the clients' addresses, of what web servers (penlog) and the balancer send by UDP
#[derive(Parser, Clone, Debug)]
#[command(name = "penlogd", version)]
pub struct Arguments {
    /// Append to this file, and go to the background; otherwise standard output
    #[arg(short = 'l', long = "log", value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// Stay in the foreground
    #[arg(short = 'f', long = "foreground")]
    pub foreground: bool,
    /// Say more
    #[arg(short = 'd', long = "debug", action = ArgAction::Count)]
    pub debug: u8,
    /// Write the process number to this file; removed at exit
    #[arg(short = 'p', long = "pidfile", value_name = "FILE")]
    pub pidfile: Option<PathBuf>,
    /// Become this user once everything is open
    #[arg(short = 'u', long = "user", value_name = "USER")]
    pub user: Option<String>,
    /// Have this folder for the root once everything is open
    #[arg(short = 'j', long = "chroot", value_name = "DIR")]
    pub chroot: Option<PathBuf>,
    /// Lines of the balancer, and lines of web servers, that wait for each other at most
    #[arg(short = 'n', long = "lines", value_name = "LINES", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub lines: u32,
    /// How long a web server's line waits for the balancer's; then it is written as it is
    #[arg(short = 'b', long = "buffer", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=3600))]
    pub buffer: u32,
    /// By how much the times in both lines may differ at most; the balancer's wait for so long
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=86_400))]
    pub jitter: u32,
    /// Take web servers' lines from these addresses only; repeatable
    #[arg(short = 'a', long = "allow", value_name = "ADDRESS[/PREFIX]")]
    pub allow: Vec<Network>,
    /// Take the balancer's lines from these addresses only; repeatable
    #[arg(long, value_name = "ADDRESS[/PREFIX]")]
    pub balancer: Vec<Network>,
    /// The UDP port, or the address and the port, where lines are taken
    #[arg(value_name = "[ADDRESS:]PORT", value_parser = address)]
    pub address: SocketAddr,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse::<u16>().map(|port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    let address = port.or_else(|_| text.parse()).map_err(|_| "not a port from 1 to 65535, nor ADDRESS:PORT")?;
    if address.port() == 0 { Err("port 0 is none".to_owned()) } else { Ok(address) }
}

/// Collects, until TERM or INT.
///
/// # Errors
/// No such user; the port, the log or the pid file cannot be had; not permitted.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let user = arguments.user.as_deref().map(os::user).transpose()?;
    let background = arguments.log.is_some() && !arguments.foreground;
    let socket = listen(arguments.address)?;
    let output = Output::open(arguments.log.as_deref())?;
    let mut pidfile = arguments.pidfile.as_deref().map(Pidfile::take).transpose()?;
    if background {
        os::daemonize()?;
    }
    // There are threads from here on.
    let _log = crate::logging::start(&Process { daemon: background, debug: arguments.debug, ..Process::default() })?;
    let signals = signals()?;
    if let Some(pidfile) = &mut pidfile {
        pidfile.write()?;
    }
    confine(arguments, user.as_ref())?;
    let (sender, datagrams) = bounded(AHEAD);
    thread::Builder::new()
        .name("receiver".to_owned())
        .spawn(move || receive(&socket, &sender))
        .map_err(|e| Failure::new(Sysexit::OsErr, format!("no thread to receive with: {e}")))?;
    info!("penlogd takes lines at {}", arguments.address);
    Collector { merger: Merger::new(settings(arguments)), output, begun: Instant::now() }.collect(&datagrams, &signals)
}

fn settings(arguments: &Arguments) -> Settings {
    Settings {
        lines: arguments.lines as usize,
        buffer: i64::from(arguments.buffer) * 1000,
        jitter: i64::from(arguments.jitter) * 1000,
        web_servers: arguments.allow.clone(),
        balancers: arguments.balancer.clone(),
    }
}

fn listen(address: SocketAddr) -> Result<UdpSocket, Failure> {
    let bound = || {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        // What the system allows is enough when this is too much.
        let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
        socket.bind(&address.into())?;
        Ok::<UdpSocket, std::io::Error>(socket.into())
    };
    bound().map_err(|e| {
        let code = match e.kind() {
            std::io::ErrorKind::PermissionDenied => Sysexit::NoPerm,
            _ => Sysexit::Unavailable,
        };
        Failure::new(code, format!("{address}/udp cannot be listened on: {e}; does another program have it?"))
    })
}

/// Leaves what is not needed any more: the root, the user. No capability is kept.
fn confine(arguments: &Arguments, user: Option<&User>) -> Result<(), Failure> {
    if let Some(folder) = &arguments.chroot {
        chroot(folder).and_then(|()| chdir("/")).map_err(|e| {
            Failure::new(Sysexit::NoPerm, format!("{} cannot become the root: {e}; start as root", folder.display()))
        })?;
    }
    if let Some(user) = user {
        setgroups(&[user.gid]).and_then(|()| setgid(user.gid)).and_then(|()| setuid(user.uid)).map_err(|e| {
            Failure::new(Sysexit::NoPerm, format!("cannot become user {:?}: {e}; start as root", user.name))
        })?;
    }
    Ok(())
}

/// The signals that mean something to us, as messages.
fn signals() -> Result<Receiver<i32>, Failure> {
    let os_error = |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("signals cannot be handled: {e}"));
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]).map_err(os_error)?;
    let (sender, receiver) = bounded(16);
    let forward = move || signals.forever().all(|signal| sender.send(signal).is_ok());
    thread::Builder::new().name("signals".to_owned()).spawn(forward).map_err(os_error)?;
    Ok(receiver)
}

/// A datagram and who sent it.
type Datagram = (IpAddr, Vec<u8>);

/// Receives until nobody wants any more.
fn receive(socket: &UdpSocket, datagrams: &Sender<Datagram>) {
    let mut buffer = vec![0; LONGEST + 1];
    loop {
        match socket.recv_from(&mut buffer) {
            Ok((length, from)) => {
                if datagrams.send((from.ip().to_canonical(), buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => {
                warn!("penlogd cannot receive: {e}");
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

struct Collector {
    merger: Merger,
    output: Output,
    begun: Instant,
}

impl Collector {
    fn collect(mut self, datagrams: &Receiver<Datagram>, signals: &Receiver<i32>) -> Result<(), Failure> {
        let nobody = never();
        loop {
            let due = self.merger.due().map(|due| Duration::from_millis((due - self.now()).max(0).unsigned_abs()));
            let timer = due.map_or_else(|| nobody.clone(), crossbeam_channel::after);
            select! {
                recv(datagrams) -> datagram => {
                    self.take(datagram.ok());
                    // All that is there, before it is written.
                    for _ in 0..AHEAD {
                        let Ok(datagram) = datagrams.try_recv() else { break };
                        self.take(Some(datagram));
                    }
                }
                recv(signals) -> signal => match signal.unwrap_or(SIGTERM) {
                    SIGHUP => {
                        self.write(false)?;
                        self.output.reopen();
                    }
                    SIGUSR1 => info!("{}", self.merger.statistics(self.output.lost())),
                    _ => {
                        while let Ok(datagram) = datagrams.try_recv() {
                            self.take(Some(datagram));
                        }
                        self.write(true)?;
                        info!("{}", self.merger.statistics(self.output.lost()));
                        return Ok(());
                    }
                },
                recv(timer) -> _ => {}
            }
            self.write(false)?;
        }
    }

    fn take(&mut self, datagram: Option<Datagram>) {
        let Some((from, bytes)) = datagram else { return };
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let refused = self.merger.take(from, &bytes, self.now(), i64::try_from(wall).unwrap_or(i64::MAX));
        if let Some(why) = refused {
            debug!("from {from}: {why}: {}", String::from_utf8_lossy(&bytes).trim_end().escape_debug());
        }
    }

    /// Writes what does not wait any more; `all`: everything.
    fn write(&mut self, all: bool) -> Result<(), Failure> {
        let now = self.now();
        self.output.write(self.merger.release(now, all))
    }

    /// Milliseconds since we began.
    fn now(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_millis()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_where_lines_are_taken_is_a_port_or_an_address_with_one() {
        assert_eq!(address("10000"), Ok("0.0.0.0:10000".parse().unwrap()));
        assert_eq!(address("[::]:10000"), Ok("[::]:10000".parse().unwrap()));
        for bad in ["0", "65536", "here", "127.0.0.1", "127.0.0.1:0", ""] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }
}
