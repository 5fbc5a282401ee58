//! ICMP echo over sockets (RFC 792, RFC 4443 section 4), one for each source address, shared by all servers.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure::{Failure, Sysexit};
use crate::wire::checksum::Sum;

/// What a payload begins with; the number follows.
const MARK: &[u8; 8] = b"pen-dsr ";
const HEADER: usize = 8;

const REMEDY: &str =
    "start as root or with CAP_NET_RAW, or check by tcp (Linux: or let the group have it, net.ipv4.ping_group_range)";

/// May we ask servers of this family?
///
/// # Errors
/// `NoPerm`: we may not. What else may go wrong is left to the time when it is asked.
pub fn permitted(is_ipv4: bool) -> Result<(), Failure> {
    match open(is_ipv4, None) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Failure::new(Sysexit::NoPerm, format!("check icmp: no socket for ICMP: {error}; {REMEDY}")))
        }
        _ => Ok(()),
    }
}

/// The sockets, and how they come to be had.
#[derive(Default)]
pub struct Echoes {
    sockets: Vec<Echo>,
}

struct Echo {
    is_ipv4: bool,
    source: Option<IpAddr>,
    socket: Result<Socket, String>,
}

impl Echoes {
    /// Opens what is needed to ask `to` from `source`, unless it is open. That it cannot be had is told when it is needed.
    /// `token` numbers the sockets.
    pub fn open(&mut self, to: IpAddr, source: Option<IpAddr>, registry: &Registry, token: impl Fn(usize) -> Token) {
        if self.place(to, source).is_none() {
            let socket = open(to.is_ipv4(), source).and_then(|socket| {
                registry.register(&mut SourceFd(&socket.as_raw_fd()), token(self.sockets.len()), Interest::READABLE)?;
                Ok(socket)
            });
            let socket = socket.map_err(|error| {
                let from = source.map_or(String::new(), |source| format!(" from {source}"));
                format!("no socket for ICMP{from}: {error}; {REMEDY}")
            });
            self.sockets.push(Echo { is_ipv4: to.is_ipv4(), source, socket });
        }
    }

    fn place(&self, to: IpAddr, source: Option<IpAddr>) -> Option<usize> {
        self.sockets.iter().position(|echo| echo.is_ipv4 == to.is_ipv4() && echo.source == source)
    }

    /// Sends an echo request with `number` in it.
    ///
    /// # Errors
    /// The outer one: there is no socket, and why. The inner one: it could not be sent.
    pub fn send(&self, to: IpAddr, source: Option<IpAddr>, number: u64) -> Result<io::Result<()>, String> {
        let echo = self.place(to, source).map(|place| &self.sockets[place]);
        let socket = match echo.map(|echo| &echo.socket) {
            Some(Ok(socket)) => socket,
            Some(Err(why)) => return Err(why.clone()),
            None => return Err("no socket for ICMP has been opened".to_owned()),
        };
        let sent = socket.send_to(&request(to.is_ipv4(), number), &SocketAddr::new(to, 0).into());
        Ok(sent.map(drop))
    }

    /// The numbers of the answers that have come to socket number `place`.
    pub fn receive(&self, place: usize) -> Vec<u64> {
        let Some(Echo { is_ipv4, socket: Ok(socket), .. }) = self.sockets.get(place) else {
            return Vec::new();
        };
        let mut numbers = Vec::new();
        let mut packet = [0; 2048];
        loop {
            let mut reader = socket;
            match reader.read(&mut packet) {
                Ok(count) => numbers.extend(number_of(*is_ipv4, &packet[..count])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return numbers,
                // An ICMP error for one of them: time will tell.
                Err(_) => {}
            }
        }
    }
}

/// An ICMP socket if we may have one, else a raw one.
fn open(is_ipv4: bool, source: Option<IpAddr>) -> io::Result<Socket> {
    let (domain, protocol) = if is_ipv4 { (Domain::IPV4, Protocol::ICMPV4) } else { (Domain::IPV6, Protocol::ICMPV6) };
    let socket =
        Socket::new(domain, Type::DGRAM, Some(protocol)).or_else(|_| Socket::new(domain, Type::RAW, Some(protocol)))?;
    socket.set_nonblocking(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    Ok(socket)
}

/// An echo request. Its identifier is the system's if it wants to have one of its own; answers are known by the payload.
fn request(is_ipv4: bool, number: u64) -> Vec<u8> {
    let kind = if is_ipv4 { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0];
    message.extend((number as u16).to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message.extend(MARK);
    message.extend(number.to_be_bytes());
    // ICMPv6's is the system's to compute (RFC 3542 section 3.1).
    if is_ipv4 {
        let sum = Sum::default().bytes(&message).checksum();
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// The number in an echo reply of ours. IPv4's raw sockets have the IP header in front.
fn number_of(is_ipv4: bool, packet: &[u8]) -> Option<u64> {
    let message = match packet.first()? {
        first if is_ipv4 && first >> 4 == 4 => packet.get(usize::from(first & 0x0f) * 4..)?,
        _ => packet,
    };
    let kind = if is_ipv4 { 0 } else { 129 };
    let payload = message.get(HEADER..).filter(|_| message[0] == kind)?;
    let number = payload.strip_prefix(MARK)?;
    Some(u64::from_be_bytes(number.get(..8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(is_ipv4: bool, number: u64) -> Vec<u8> {
        let mut message = request(is_ipv4, number);
        message[0] = if is_ipv4 { 0 } else { 129 };
        message
    }

    #[test]
    fn answers_are_known_by_their_number_with_or_without_an_ip_header() {
        assert_eq!(number_of(true, &reply(true, 0x1234_5678_9abc)), Some(0x1234_5678_9abc));
        assert_eq!(number_of(false, &reply(false, u64::MAX)), Some(u64::MAX));
        let mut header = vec![0; 24];
        header[0] = 0x46;
        assert_eq!(number_of(true, &[header, reply(true, 7)].concat()), Some(7));
    }

    #[test]
    fn requests_foreign_payloads_and_stumps_are_no_answers() {
        assert_eq!(number_of(true, &request(true, 7)), None);
        assert_eq!(number_of(false, &request(false, 7)), None);
        let whole = reply(true, 7);
        assert!((0..whole.len()).all(|length| number_of(true, &whole[..length]).is_none()));
        let mut foreign = whole;
        foreign[8] ^= 1;
        assert_eq!(number_of(true, &foreign), None);
        assert_eq!(number_of(true, &[0x4f, 0, 0]), None);
    }

    #[test]
    fn an_ipv4_request_has_its_checksum() {
        assert_eq!(Sum::default().bytes(&request(true, 99)).fold(), 0xffff);
    }
}
