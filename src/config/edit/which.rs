//! How commands name backends, virtual addresses and listeners.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::super::nearest::nearest;
use super::super::{Balance, VipConfig, process, words};
use crate::failure::Failure;

/// A backend, as commands name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// By its place in the list, from 0, as in Pen.
    Number(usize),
    /// By its name.
    Name(String),
}

impl Which {
    /// A number or a name.
    pub fn new(word: &str) -> Which {
        match word.parse() {
            Ok(number) => Which::Number(number),
            Err(_) => Which::Name(word.to_owned()),
        }
    }

    /// Its place in the list of `balance`'s backends.
    ///
    /// # Errors
    /// Usage: there is none; names those that there are.
    pub fn find(&self, balance: &Balance) -> Result<usize, Failure> {
        let backends = &balance.backends;
        match self {
            Which::Number(number) if *number < backends.len() => Ok(*number),
            Which::Number(number) => Err(Failure::usage(match backends.len() {
                0 => format!("there is no server {number}: no backends yet"),
                n => format!("there is no server {number}: they have the numbers 0 to {}, see servers", n - 1),
            })),
            Which::Name(name) => {
                let address = name.parse::<IpAddr>().ok();
                let named = backends.iter().position(|backend| backend.name == *name);
                let on = |host: &Option<String>| host.as_ref() == Some(name);
                let hosted = || backends.iter().position(|backend| on(&backend.host));
                let at = || backends.iter().position(|backend| address.is_some() && backend.address == address);
                let found = named.or_else(hosted).or_else(at);
                if let Some(index) = found.filter(|_| named.is_none()) {
                    // A host that has several is none of them.
                    let others = backends.iter().enumerate().filter(|(at, other)| {
                        *at > index && (on(&other.host) || (address.is_some() && other.address == address))
                    });
                    let names: Vec<&str> = others.map(|(_, other)| other.name.as_str()).collect();
                    if !names.is_empty() {
                        let (first, rest) = (&backends[index].name, names.join(", "));
                        return Err(Failure::usage(format!("{name} has several servers: name one, {first}, {rest}")));
                    }
                }
                found.ok_or_else(|| {
                    let near = nearest(name, backends.iter().map(|backend| backend.name.as_str()));
                    let near = near.map_or(String::new(), |near| format!("; {near:?} is one"));
                    Failure::usage(format!("there is no backend {name:?}{near}; servers lists them"))
                })
            }
        }
    }
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Which::Number(number) => write!(f, "server {number}"),
            Which::Name(name) => f.write_str(name),
        }
    }
}

/// A virtual address, or a listener of the proxy, as commands name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhichVip {
    /// By its address; without a port, all services of it.
    At(words::Endpoint),
    /// The proxy's listeners at a port of every address.
    Port(u16),
    /// The proxy's listener at a Unix socket.
    Path(PathBuf),
}

impl WhichVip {
    /// Reads `ADDRESS`, `ADDRESS:PORT`, and the words by which listeners are made: `PORT`, `:PORT`, `*:PORT`, `/PATH`.
    /// Names are not looked up.
    ///
    /// # Errors
    /// It is none of them.
    pub fn parse(word: &str) -> Result<WhichVip, String> {
        if word.contains('/') {
            return process::parse_socket_word(word).map(WhichVip::Path);
        }
        let digits = word.strip_prefix('*').filter(|rest| rest.starts_with(':')).unwrap_or(word);
        match digits.strip_prefix(':').unwrap_or(digits).parse::<u16>() {
            Ok(port) if port != 0 => Ok(WhichVip::Port(port)),
            _ => words::endpoint(word)
                .map(WhichVip::At)
                .ok_or_else(|| format!("{word:?} is no virtual address, and no listener's port or path")),
        }
    }

    pub(super) fn is(&self, vip: &VipConfig) -> bool {
        match self {
            WhichVip::At(own) => vip.address == own.address && own.port.is_none_or(|port| vip.port == port),
            WhichVip::Port(_) | WhichVip::Path(_) => false,
        }
    }
}

impl fmt::Display for WhichVip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhichVip::At(own) => own.fmt(f),
            WhichVip::Port(port) => write!(f, "port {port}"),
            WhichVip::Path(path) => path.display().fmt(f),
        }
    }
}
