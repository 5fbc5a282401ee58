//! How the program runs: what cannot change while it does.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use super::{Driven, Driver, XdpMode};
use crate::failure::Failure;
use crate::port::PortName;
use crate::wire::ether::Mac;

/// How the program runs, resolved: what a reload cannot change, but for `debug`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The port whose segment is balanced; nothing runs without one.
    pub interface: Option<PortName>,
    /// The port where the backends are, if that is another one.
    pub out: Option<PortName>,
    /// How ports are driven.
    pub driver: Driver,
    /// Our MAC on a port that is no interface.
    pub mac: Option<Mac>,
    /// With netmap, leave the host's stack without the interface?
    pub dedicated: bool,
    /// With netmap, leave the interface's flags and offloads as they are?
    pub no_ifconfig: bool,
    /// How the program of the driver xdp is attached.
    pub xdp_mode: XdpMode,
    /// Where that program and its tables stay when this one ends: a folder of a BPF file system.
    pub xdp_pin: Option<PathBuf>,
    /// The processors of the workers, the first one's first.
    pub cpus: Cpus,
    /// The MAC that the VIPs are announced with, instead of the interface's.
    pub vip_mac: Option<Mac>,
    /// How long to look for the next frame before sleeping, in microseconds; 0: sleep always.
    pub busy_poll: u32,
    /// The host's IP stack sees the VIPs' frames, too.
    pub no_ingress_drop: bool,
    /// What is logged: 0 information, 1 debug, 2 trace.
    pub debug: u8,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Where to, instead of standard error or syslog.
    pub log_file: Option<PathBuf>,
    /// Run in the background?
    pub daemon: bool,
    /// Where the process number goes.
    pub pidfile: Option<PathBuf>,
    /// Who to become once everything is set up.
    pub user: Option<String>,
    /// Where commands are taken.
    pub control: Vec<ControlAddress>,
    /// May a command end the program (`-X`)?
    pub allow_exit: bool,
    /// Start silent, as the second of two balancers?
    pub standby: bool,
    /// Places in each worker's flow table, a power of two.
    pub flow_entries: usize,
    /// Where flows are kept over a restart.
    pub flow_file: Option<PathBuf>,
    /// The other balancer, which is told of flows.
    pub peer: Option<SocketAddr>,
}

impl Default for Process {
    fn default() -> Process {
        Process {
            interface: None,
            out: None,
            driver: Driver::Auto,
            mac: None,
            dedicated: false,
            no_ifconfig: false,
            xdp_mode: XdpMode::Auto,
            xdp_pin: None,
            cpus: Cpus::default(),
            vip_mac: None,
            busy_poll: 100,
            no_ingress_drop: false,
            debug: 0,
            log_format: LogFormat::Human,
            log_file: None,
            daemon: false,
            pidfile: None,
            user: None,
            control: Vec::new(),
            allow_exit: false,
            standby: false,
            flow_entries: 1_048_576,
            flow_file: None,
            peer: None,
        }
    }
}

impl Process {
    /// The ports that are named: the clients', and the backends' if that is another one.
    pub fn each_port(&self) -> impl Iterator<Item = &PortName> {
        self.interface.iter().chain(&self.out)
    }

    /// By what `port` may be driven, the best first.
    pub fn candidates(&self, port: &PortName) -> &'static [Driven] {
        self.driver.candidates(port)
    }

    /// The ports in words, for messages.
    pub fn ports(&self) -> String {
        match (&self.interface, &self.out) {
            (None, _) => "no interface".to_owned(),
            (Some(front), None) => front.to_string(),
            (Some(front), Some(back)) => format!("{front} (clients) and {back} (backends)"),
        }
    }

    /// The port to run on.
    ///
    /// # Errors
    /// Usage: none is said.
    pub fn port(&self) -> Result<&PortName, Failure> {
        self.interface.as_ref().ok_or_else(|| {
            Failure::usage(
                "no interface: say with -i IF (or interface = \"IF\" in the file) on which segment the backends are; for the proxy, which needs none, give the listener a port (80, 10.0.0.1:80)",
            )
        })
    }
}

/// Processors, in order: `2,3` or `4-7`. None: wherever the system likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(pub Vec<usize>);

/// The highest number of a processor.
const HIGHEST_CPU: usize = 1023;

impl FromStr for Cpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Cpus, String> {
        let wrong =
            || format!("{text:?} is no list of processors: write numbers from 0 to {HIGHEST_CPU}, as 2,3 or 4-7");
        let number = |digits: &str| digits.parse().ok().filter(|&n| n <= HIGHEST_CPU).ok_or_else(wrong);
        let mut cpus: Vec<usize> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(wrong());
            }
            for cpu in first..=last {
                if cpus.contains(&cpu) {
                    return Err(format!("{text:?} has processor {cpu} twice: each worker needs one of its own"));
                }
                cpus.push(cpu);
            }
        }
        Ok(Cpus(cpus))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&numbers.join(","))
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For machines, one object a line.
    Json,
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LogFormat::Human => "human",
            LogFormat::Json => "json",
        })
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<LogFormat, String> {
        match text {
            "human" => Ok(LogFormat::Human),
            "json" => Ok(LogFormat::Json),
            _ => Err(format!("{text:?} is not a format of the log: write human or json")),
        }
    }
}

/// Where commands are taken.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControlAddress {
    /// A Unix socket, for its owner alone.
    Unix(PathBuf),
    /// TCP, for whom [`Balance::control_acl`](super::Balance::control_acl) permits.
    Tcp(SocketAddr),
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::Unix(path) => write!(f, "{}", path.display()),
            ControlAddress::Tcp(address) => write!(f, "{address}"),
        }
    }
}

/// Reads the other balancer's address: `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]:PORT`.
///
/// # Errors
/// It is none, or none that one balancer can have.
pub fn parse_peer(text: &str) -> Result<SocketAddr, String> {
    let bare = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, crate::sync::DEFAULT_PORT));
    let address = bare.or_else(|_| text.parse::<SocketAddr>());
    let is_host = |a: &SocketAddr| a.port() != 0 && !a.ip().is_unspecified() && !a.ip().is_multicast();
    address.ok().filter(is_host).ok_or_else(|| {
        format!("{text:?} is no peer: write the other balancer's ADDRESS or ADDRESS:PORT (10.0.0.3, [fd00::3]:7364)")
    })
}

/// The longest path of a Unix socket on the systems that this runs on, in bytes (FreeBSD's `sun_path`, less its end).
const LONGEST_PATH: usize = 103;

/// The path of a Unix socket.
pub(crate) fn parse_socket_path(text: &str) -> Result<PathBuf, String> {
    if text.len() > LONGEST_PATH {
        return Err(format!("{text:?} is too long for a Unix socket: {LONGEST_PATH} bytes at most"));
    }
    if text.ends_with('/') {
        return Err(format!("{text:?} is a folder: name a file in it"));
    }
    Ok(PathBuf::from(text))
}

/// As [`parse_socket_path`], of a path that is a word among others.
pub(crate) fn parse_socket_word(text: &str) -> Result<PathBuf, String> {
    match text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        true => Err(format!("{text:?} has a blank in it: name the socket without")),
        false => parse_socket_path(text),
    }
}

impl FromStr for ControlAddress {
    type Err = String;

    /// `/path/to/socket`, `ADDRESS:PORT`, `[ADDRESS]:PORT`; `PORT` and `localhost:PORT` are 127.0.0.1's, as Pen's users
    /// write them.
    fn from_str(text: &str) -> Result<ControlAddress, String> {
        if text.contains('/') {
            return parse_socket_path(text).map(ControlAddress::Unix);
        }
        let here = text.strip_prefix("localhost:").unwrap_or(text).parse::<u16>();
        let here = here.map(|port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port));
        match here.or_else(|_| text.parse::<SocketAddr>()) {
            Ok(address) if address.port() != 0 => Ok(ControlAddress::Tcp(address)),
            Ok(_) => Err(format!("{text:?} has no port that could be called: write ADDRESS:PORT, from 1 to 65535")),
            Err(_) => Err(format!(
                "{text:?} is no place for commands: write the path of a Unix socket with a slash in it (/run/pen-dsr.sock), ADDRESS:PORT (127.0.0.1:8888), or a port of this machine's own address (8888)"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_listed_in_the_order_of_the_workers() {
        assert_eq!("3".parse(), Ok(Cpus(vec![3])));
        assert_eq!("5,1-3".parse(), Ok(Cpus(vec![5, 1, 2, 3])));
        assert_eq!("5,1-3".parse::<Cpus>().unwrap().to_string(), "5,1,2,3");
        for bad in ["", "x", "1,", "3-1", "1024", "-1", "1,1", "0-2,2"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_control_address_is_a_path_or_an_address_with_a_port() {
        for text in ["/run/pen-dsr.sock", "./x", "127.0.0.1:8888", "[fd00::2]:8888"] {
            assert_eq!(text.parse::<ControlAddress>().unwrap().to_string(), text);
        }
        for here in ["8888", "localhost:8888"] {
            assert_eq!(here.parse::<ControlAddress>().unwrap().to_string(), "127.0.0.1:8888");
        }
        let long = format!("/{}", "x".repeat(LONGEST_PATH));
        for (bad, word) in [
            ("lb.example:8888", "ADDRESS:PORT"),
            ("localhost", "127.0.0.1:8888"),
            ("127.0.0.1:0", "1 to 65535"),
            ("0", "1 to 65535"),
            ("65536", "ADDRESS:PORT"),
            ("", "path"),
            ("/run/", "folder"),
            (&long, "too long"),
        ] {
            let error = bad.parse::<ControlAddress>().unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
