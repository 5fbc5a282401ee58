//! Why a backend does not serve, in the operator's words.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Direct;

/// Why a probe failed: what happened, and (as text) what may be the matter. `at` is the VIP with the port that was
/// asked; port 0 stands for a check that has none (echo).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The backend itself does not answer ARP or neighbour discovery.
    Link {
        /// The backend's own address.
        address: IpAddr,
    },
    /// It could not be asked.
    NotAsked {
        /// What is missing, and the remedy.
        why: String,
    },
    /// Nothing came back.
    NoAnswer {
        /// Who was asked.
        at: SocketAddr,
        /// The timeout.
        within: Duration,
    },
    /// Nothing came back but an ICMP redirect: it passes packets for the VIP on instead of taking them.
    Forwarded {
        /// The VIP.
        vip: IpAddr,
        /// Who sent the redirect.
        by: IpAddr,
    },
    /// A TCP reset answered the SYN.
    Refused {
        /// Who was asked.
        at: SocketAddr,
    },
    /// An ICMP error quotes the probe.
    Unreachable {
        /// Who was asked.
        at: SocketAddr,
        /// Who sent the error.
        from: IpAddr,
        /// What it says.
        obstacle: Obstacle,
    },
    /// An HTTP answer with a status that is not wanted.
    HttpStatus {
        /// Who was asked.
        at: SocketAddr,
        /// What it answered.
        status: u16,
        /// What would have done.
        wanted: RangeInclusive<u16>,
    },
    /// An HTTP answer whose body (or the first 64 KiB of it) does not contain what it should.
    HttpBody {
        /// Who was asked.
        at: SocketAddr,
        /// What was looked for.
        wanted: String,
    },
    /// Connected, and then not one byte of an answer.
    HttpHang {
        /// Who was asked.
        at: SocketAddr,
        /// The timeout.
        within: Duration,
    },
    /// The answer began, but there was not enough of it to decide.
    HttpSlow {
        /// Who was asked.
        at: SocketAddr,
        /// The timeout.
        within: Duration,
    },
    /// The connection ended before the answer did.
    HttpClosed {
        /// Who was asked.
        at: SocketAddr,
        /// By a reset, or in an orderly way?
        reset: bool,
    },
    /// The answer is not HTTP.
    HttpMalformed {
        /// Who was asked.
        at: SocketAddr,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A datagram came back that does not contain what it should.
    UdpMismatch {
        /// Who was asked.
        at: SocketAddr,
    },
    /// A name server's answer says that it failed.
    DnsError {
        /// Who was asked.
        at: SocketAddr,
        /// The response code (RFC 1035 section 4.1.1; IANA's registry).
        rcode: u8,
    },
    /// What came back is not an answer to the DNS query.
    DnsMalformed {
        /// Who was asked.
        at: SocketAddr,
    },
    /// A check of the server itself over an ordinary socket, not through the data path.
    Direct(Direct),
}

/// What an ICMP error says, v4 (RFC 792, RFC 1812 section 5.2.7.1) and v6 (RFC 4443 section 3) alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// No route to the network.
    Network,
    /// Nobody has the address.
    Host,
    /// The upper layer's protocol is not known there.
    Protocol,
    /// Nothing listens on the port.
    Port,
    /// Somebody does not want it to pass.
    Prohibited,
    /// The hop limit has run out.
    HopLimit,
    /// Anything else.
    Other {
        /// The message's type.
        kind: u8,
        /// Its code.
        code: u8,
    },
}

impl Reason {
    /// A short name for machines: it stays when texts change.
    pub fn name(&self) -> &'static str {
        match self {
            Reason::Link { .. } => "link",
            Reason::NotAsked { .. } => "not-asked",
            Reason::NoAnswer { .. } => "no-answer",
            Reason::Forwarded { .. } => "forwarded",
            Reason::Refused { .. } => "refused",
            Reason::Unreachable { .. } => "unreachable",
            Reason::HttpStatus { .. } => "http-status",
            Reason::HttpBody { .. } => "http-body",
            Reason::HttpHang { .. } => "http-hang",
            Reason::HttpSlow { .. } => "http-slow",
            Reason::HttpClosed { .. } => "http-closed",
            Reason::HttpMalformed { .. } => "http-malformed",
            Reason::UdpMismatch { .. } => "udp-mismatch",
            Reason::DnsError { .. } => "dns-error",
            Reason::DnsMalformed { .. } => "dns-malformed",
            Reason::Direct(direct) => direct.name(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Link { address } => {
                let protocol = if address.is_ipv4() { "ARP" } else { "neighbour discovery" };
                write!(f, "no answer to {protocol} for {address}: is the host up and on this segment?")
            }
            Reason::NotAsked { why } => write!(f, "not asked: {why}"),
            Reason::NoAnswer { at, within } => {
                write!(f, "no answer: is the VIP on its loopback? ({}, {} ms)", Place(at), within.as_millis())
            }
            Reason::Forwarded { vip, by } => write!(
                f,
                "ICMP redirect from {by}: it passes packets for {vip} on instead of taking them; put the VIP on its loopback"
            ),
            Reason::Refused { at } => write!(f, "RST: nothing listens on {at}"),
            Reason::Unreachable { at, from, obstacle } => {
                let at = Place(at);
                match obstacle {
                    Obstacle::Port => write!(f, "ICMP port unreachable from {from}: nothing listens on {at}"),
                    Obstacle::Protocol => {
                        write!(f, "ICMP protocol unreachable from {from}: it does not speak what {at} was asked in")
                    }
                    Obstacle::Prohibited => {
                        write!(f, "ICMP prohibited from {from}: a packet filter refuses probes to {at}")
                    }
                    Obstacle::Network => write!(
                        f,
                        "ICMP network unreachable from {from}: {at} is not taken there; put the VIP on its loopback"
                    ),
                    Obstacle::Host => write!(
                        f,
                        "ICMP host unreachable from {from}: {at} is not taken there; put the VIP on its loopback"
                    ),
                    Obstacle::HopLimit => write!(
                        f,
                        "ICMP time exceeded from {from}: packets for {at} are passed on in circles; put the VIP on its loopback"
                    ),
                    Obstacle::Other { kind, code } => {
                        write!(f, "ICMP error from {from} (type {kind}, code {code}) about a probe to {at}")
                    }
                }
            }
            Reason::HttpStatus { at, status, wanted } => {
                let (first, last) = (wanted.start(), wanted.end());
                if first == last {
                    write!(f, "HTTP status {status} from {at}, {first} is wanted")
                } else {
                    write!(f, "HTTP status {status} from {at}, {first} to {last} is wanted")
                }
            }
            Reason::HttpBody { at, wanted } => write!(f, "the HTTP answer of {at} does not contain {wanted:?}"),
            Reason::HttpHang { at, within } => {
                write!(
                    f,
                    "connected, but no HTTP answer within {} ms: does the server of {at} hang?",
                    within.as_millis()
                )
            }
            Reason::HttpSlow { at, within } => {
                write!(f, "the HTTP answer of {at} began, but did not come to an end within {} ms", within.as_millis())
            }
            Reason::HttpClosed { at, reset } => {
                let how = if *reset { "reset" } else { "closed" };
                write!(f, "connected, but {at} {how} the connection before its HTTP answer was complete")
            }
            Reason::HttpMalformed { at, what } => {
                write!(f, "{at} does not answer in HTTP ({what}): is it another service, or TLS?")
            }
            Reason::UdpMismatch { at } => write!(f, "a datagram from {at} does not contain what is expected"),
            Reason::DnsError { at, rcode } => match rcode_name(*rcode) {
                Some(name) => write!(f, "DNS {name} from {at}"),
                None => write!(f, "DNS error {rcode} from {at}"),
            },
            Reason::DnsMalformed { at } => {
                write!(f, "what {at} sends is no answer to a DNS query: is it another service?")
            }
            Reason::Direct(direct) => direct.fmt(f),
        }
    }
}

/// IANA's names of DNS response codes that fit into a header.
pub(super) fn rcode_name(rcode: u8) -> Option<&'static str> {
    Some(match rcode {
        1 => "FORMERR",
        2 => "SERVFAIL",
        3 => "NXDOMAIN",
        4 => "NOTIMP",
        5 => "REFUSED",
        6 => "YXDOMAIN",
        7 => "YXRRSET",
        8 => "NXRRSET",
        9 => "NOTAUTH",
        10 => "NOTZONE",
        _ => return None,
    })
}

/// A VIP with its port, or alone if it has none.
struct Place<'a>(&'a SocketAddr);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.port() == 0 { self.0.ip().fmt(f) } else { self.0.fmt(f) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_the_vip_its_port_and_a_remedy() {
        let at: SocketAddr = "10.0.0.100:80".parse().unwrap();
        let within = Duration::from_secs(1);
        assert_eq!(Reason::Refused { at }.to_string(), "RST: nothing listens on 10.0.0.100:80");
        assert_eq!(
            Reason::NoAnswer { at, within }.to_string(),
            "no answer: is the VIP on its loopback? (10.0.0.100:80, 1000 ms)"
        );
        let echo = "[fd00::100]:0".parse().unwrap();
        assert_eq!(
            Reason::NoAnswer { at: echo, within }.to_string(),
            "no answer: is the VIP on its loopback? (fd00::100, 1000 ms)"
        );
        assert_eq!(
            Reason::HttpHang { at, within }.to_string(),
            "connected, but no HTTP answer within 1000 ms: does the server of 10.0.0.100:80 hang?"
        );
        let from = "10.0.0.11".parse().unwrap();
        assert_eq!(
            Reason::Unreachable { at, from, obstacle: Obstacle::Port }.to_string(),
            "ICMP port unreachable from 10.0.0.11: nothing listens on 10.0.0.100:80"
        );
        assert_eq!(Reason::DnsError { at, rcode: 2 }.to_string(), "DNS SERVFAIL from 10.0.0.100:80");
        assert_eq!(Reason::DnsError { at, rcode: 11 }.to_string(), "DNS error 11 from 10.0.0.100:80");
        let link = Reason::Link { address: "fd00::11".parse().unwrap() };
        assert!(link.to_string().starts_with("no answer to neighbour discovery for fd00::11"), "{link}");
    }
}
