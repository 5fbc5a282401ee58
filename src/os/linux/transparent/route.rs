//! What the kernel would do with a packet: rtnetlink(7).

use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockProtocol;

use crate::os::system::netlink::{Netlink, attribute, find, number};

const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_IIF: u16 = 3;
const RTA_OIF: u16 = 4;
const RTA_MARK: u16 = 16;
const FRA_FWMARK: u16 = 10;
/// `struct rtmsg` and `struct fib_rule_hdr` are of one length.
const HEADER: usize = 12;
/// Where both have the kind: of a route, or what a rule does.
const KIND: usize = 7;
const RTN_UNICAST: u8 = 1;
const RTN_LOCAL: u8 = 2;
const FR_ACT_TO_TBL: u8 = 1;

/// What becomes of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is for this host.
    Here,
    /// It leaves by the interface of this number.
    Sent(u32),
    /// There is no way for it.
    Lost(String),
    /// It is not let in: its sender should not be where it comes from (rp_filter), or has an address that cannot be.
    Refused(String),
}

/// The routes of this network namespace.
pub(super) struct Routes(Netlink);

impl Routes {
    pub(super) fn open() -> io::Result<Routes> {
        Netlink::open(SockProtocol::NetlinkRoute).map(Routes)
    }

    /// The marks for which rules name a table, each once.
    pub(super) fn marks(&mut self, ipv4: bool) -> io::Result<Vec<u32>> {
        let mut request = [0; HEADER];
        request[0] = family(ipv4);
        let mut marks: Vec<u32> = Vec::new();
        for rule in self.0.list(RTM_GETRULE, &request)? {
            let Some((header, attributes)) = rule.split_first_chunk::<HEADER>() else { continue };
            let mark = find(attributes, FRA_FWMARK).and_then(number);
            if let Some(mark) = mark.filter(|mark| header[KIND] == FR_ACT_TO_TBL && !marks.contains(mark)) {
                marks.push(mark);
            }
        }
        Ok(marks)
    }

    /// What becomes of a packet of ours to `address`.
    pub(super) fn to(&mut self, address: IpAddr) -> io::Result<Fate> {
        let mut request = request(address, 0);
        attribute(&mut request, RTA_DST, &octets(address));
        self.fate(&request)
    }

    /// What becomes of a packet from `server` to `client` that comes in by the interface of that number and gets `mark`.
    pub(super) fn from(&mut self, server: IpAddr, interface: u32, client: IpAddr, mark: u32) -> io::Result<Fate> {
        let mut request = request(client, octets(server).len() as u8 * 8);
        attribute(&mut request, RTA_DST, &octets(client));
        attribute(&mut request, RTA_SRC, &octets(server));
        attribute(&mut request, RTA_IIF, &interface.to_ne_bytes());
        attribute(&mut request, RTA_MARK, &mark.to_ne_bytes());
        self.fate(&request)
    }

    fn fate(&mut self, request: &[u8]) -> io::Result<Fate> {
        let answer = match self.0.ask(RTM_GETROUTE, request) {
            Ok(answer) => answer,
            // The kernel's word on the packet, and not on the question.
            Err(e) => match e.raw_os_error() {
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES) => return Ok(Fate::Lost(e.to_string())),
                Some(libc::EINVAL | libc::EXDEV) => return Ok(Fate::Refused(e.to_string())),
                _ => return Err(e),
            },
        };
        let Some((header, attributes)) = answer.split_first_chunk::<HEADER>() else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        Ok(match header[KIND] {
            RTN_LOCAL => Fate::Here,
            RTN_UNICAST => match find(attributes, RTA_OIF).and_then(number) {
                Some(interface) => Fate::Sent(interface),
                None => Fate::Lost("the route has no interface".to_owned()),
            },
            other => Fate::Lost(format!("the route is of type {other} (unreachable, prohibit, blackhole)")),
        })
    }
}

/// A `struct rtmsg` that asks about one address.
fn request(address: IpAddr, source_bits: u8) -> Vec<u8> {
    let mut header = vec![0; HEADER];
    header[0] = family(address.is_ipv4());
    header[1] = octets(address).len() as u8 * 8;
    header[2] = source_bits;
    header
}

fn family(ipv4: bool) -> u8 {
    if ipv4 { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}
