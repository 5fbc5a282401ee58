//! What is asked of a backend, and how it is written on the command line.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::dns;
use crate::failure::Failure;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// Nothing beyond ARP or neighbour discovery.
    #[default]
    Link,
    /// An echo request to the VIP.
    Icmp,
    /// A SYN; a SYN+ACK will do.
    Tcp {
        /// The VIP's own unless given.
        port: Option<u16>,
    },
    /// A GET request over TCP.
    Http {
        /// The VIP's own unless given, or 80.
        port: Option<u16>,
        /// Begins with a slash.
        path: String,
        /// The Host header; the VIP unless given.
        host: Option<String>,
        /// Which status codes will do.
        status: RangeInclusive<u16>,
        /// What the body has to contain.
        body: Option<String>,
    },
    /// A datagram.
    Udp {
        /// The VIP's own unless given.
        port: Option<u16>,
        /// What it carries.
        payload: Vec<u8>,
        /// What the answer has to contain; empty: any answer will do.
        expect: Vec<u8>,
    },
    /// A DNS query over UDP; any answer without a server's error will do.
    Dns {
        /// The VIP's own unless given, or 53.
        port: Option<u16>,
        /// Whose address is asked for.
        name: String,
    },
}

/// What an HTTP server may answer unless it is said otherwise.
pub const HTTP_STATUS: RangeInclusive<u16> = 200..=399;

/// What fits into a packet on any segment together with its headers, bytes.
const LONGEST_PAYLOAD: usize = 1200;
const LONGEST_PATH: usize = 1024;

impl Check {
    /// Does it take packets of its own, beyond ARP and neighbour discovery?
    pub fn probes(&self) -> bool {
        *self != Check::Link
    }

    /// The port that is asked at a VIP with the port `vip_port` (0: it serves every port). `None`: the check has none,
    /// or does not know it, which [`Check::problem`] tells apart.
    pub fn port(&self, vip_port: u16) -> Option<u16> {
        let (port, usual) = match self {
            Check::Link | Check::Icmp => return None,
            Check::Tcp { port } | Check::Udp { port, .. } => (port, None),
            Check::Http { port, .. } => (port, Some(80)),
            Check::Dns { port, .. } => (port, Some(53)),
        };
        port.or((vip_port != 0).then_some(vip_port)).or(usual)
    }

    /// Why this cannot be asked at a VIP with the port `vip_port` (0: it serves every port), and the remedy.
    pub fn problem(&self, vip_port: u16) -> Option<String> {
        match self {
            Check::Link | Check::Icmp => return None,
            Check::Tcp { .. } => {}
            Check::Http { path, host, status, body, .. } => {
                let is_visible = |text: &str| text.bytes().all(|b| b.is_ascii_graphic());
                if !path.starts_with('/') || path.len() > LONGEST_PATH || !is_visible(path) {
                    return Some(format!(
                        "{path:?} is not a path: it begins with a slash, has up to {LONGEST_PATH} visible ASCII characters and no blanks (write them as %20)"
                    ));
                }
                if let Some(host) = host.as_deref()
                    && (host.is_empty() || host.len() > 255 || !is_visible(host))
                {
                    return Some(format!("{host:?} is not a host name"));
                }
                if status.is_empty() || *status.start() < 100 || *status.end() > 999 {
                    return Some(format!(
                        "{} to {} is not a range of HTTP status codes: write one like 200 to 399",
                        status.start(),
                        status.end()
                    ));
                }
                if let Some(body) = body.as_deref()
                    && (body.is_empty() || body.len() > LONGEST_PAYLOAD)
                {
                    return Some(format!("what the body has to contain is 1 to {LONGEST_PAYLOAD} bytes"));
                }
            }
            Check::Udp { payload, expect, .. } => {
                if payload.len() > LONGEST_PAYLOAD || expect.len() > LONGEST_PAYLOAD {
                    return Some(format!("a UDP check sends and expects up to {LONGEST_PAYLOAD} bytes"));
                }
            }
            Check::Dns { name, .. } => {
                if dns::encode_name(name).is_none() {
                    return Some(format!(
                        "{name:?} is not a domain name: labels of 1 to 63 letters, digits, - and _, with dots between, up to 253 characters"
                    ));
                }
            }
        }
        match self.port(vip_port) {
            Some(0) => Some("port 0 cannot be asked".to_owned()),
            Some(_) => None,
            None => Some(format!(
                "the VIP has no port of its own, so give the check one ({}:PORT, or VIP:PORT)",
                self.kind()
            )),
        }
    }

    /// Its first word.
    fn kind(&self) -> &'static str {
        match self {
            Check::Link => "link",
            Check::Icmp => "icmp",
            Check::Tcp { .. } => "tcp",
            Check::Http { .. } => "http",
            Check::Udp { .. } => "udp",
            Check::Dns { .. } => "dns",
        }
    }
}

/// As on the command line; what has no place there is left out.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self {
            Check::Link | Check::Icmp => Ok(()),
            Check::Tcp { port } | Check::Udp { port, .. } => write_port(f, *port),
            Check::Http { port, path, .. } => {
                write_port(f, *port)?;
                f.write_str(path)
            }
            Check::Dns { port, name } => {
                write_port(f, *port)?;
                write!(f, "/{name}")
            }
        }
    }
}

fn write_port(f: &mut fmt::Formatter<'_>, port: Option<u16>) -> fmt::Result {
    port.map_or(Ok(()), |port| write!(f, ":{port}"))
}

/// `link`, `icmp`, `tcp[:PORT]`, `http[:PORT][/PATH]`, `dns[:PORT]/NAME`.
impl FromStr for Check {
    type Err = Failure;

    fn from_str(word: &str) -> Result<Check, Failure> {
        let bad = |what: String| {
            Failure::usage(format!(
                "check {word:?}: {what}; write link, icmp, tcp[:PORT], http[:PORT][/PATH] or dns[:PORT]/NAME"
            ))
        };
        let (head, path) = match word.find('/') {
            Some(slash) => (&word[..slash], Some(&word[slash..])),
            None => (word, None),
        };
        let (kind, port) = match head.split_once(':') {
            None => (head, None),
            Some((kind, digits)) => {
                let port = digits.parse::<u16>().ok().filter(|&port| port != 0);
                (kind, Some(port.ok_or_else(|| bad(format!("the port {digits:?} is not a number from 1 to 65535")))?))
            }
        };
        let check = match (kind, port, path) {
            ("link", None, None) => Check::Link,
            ("icmp", None, None) => Check::Icmp,
            ("tcp", port, None) => Check::Tcp { port },
            ("http", port, path) => {
                let path = path.unwrap_or("/").to_owned();
                Check::Http { port, path, host: None, status: HTTP_STATUS, body: None }
            }
            ("dns", port, Some(name)) => Check::Dns { port, name: name.trim_start_matches('/').to_owned() },
            ("dns", _, None) => return Err(bad("a name to ask for is missing".to_owned())),
            ("udp", ..) => return Err(bad("what to send by UDP has its place in a configuration file".to_owned())),
            ("link" | "icmp", Some(_), _) => return Err(bad(format!("{kind} has no port"))),
            ("link" | "icmp" | "tcp", _, Some(_)) => return Err(bad(format!("{kind} has no path"))),
            _ => return Err(bad(format!("there is no check {kind:?}"))),
        };
        // The VIP's port comes later; any will do here.
        check.problem(1).map_or(Ok(check), |problem| Err(bad(problem)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_are_read_and_written_back() {
        for (word, written, port, port_of_80) in [
            ("link", "link", None, None),
            ("icmp", "icmp", None, None),
            ("tcp", "tcp", None, Some(80)),
            ("tcp:22", "tcp:22", Some(22), Some(22)),
            ("http", "http/", Some(80), Some(80)),
            ("http:8080", "http:8080/", Some(8080), Some(8080)),
            ("http/health?x=1", "http/health?x=1", Some(80), Some(80)),
            ("http:80/a/b:c", "http:80/a/b:c", Some(80), Some(80)),
            ("dns/example.org", "dns/example.org", Some(53), Some(80)),
            ("dns:5353/_x.example.org.", "dns:5353/_x.example.org.", Some(5353), Some(5353)),
        ] {
            let check: Check = word.parse().unwrap();
            assert_eq!(check.to_string(), written);
            assert_eq!(written.parse(), Ok(check.clone()));
            assert_eq!((check.port(0), check.port(80)), (port, port_of_80), "{word}");
            assert_eq!(check.probes(), word != "link");
            assert_eq!(check.problem(80), None);
        }
        assert!(Check::Tcp { port: None }.problem(0).unwrap().contains("tcp:PORT"));
    }

    #[test]
    fn bad_words_are_refused_with_what_would_do() {
        for (word, why) in [
            ("", "no check"),
            ("ping", "no check \"ping\""),
            ("tcp:", "\"\""),
            ("tcp:0", "\"0\""),
            ("tcp:65536", "65535"),
            ("tcp:-1", "65535"),
            ("tcp/x", "no path"),
            ("icmp:1", "no port"),
            ("link/", "no path"),
            ("http:80x/", "80x"),
            ("http/a b", "%20"),
            ("http/a\r\nX: y", "not a path"),
            ("http/\u{e4}", "not a path"),
            ("dns", "name to ask for"),
            ("dns:53/", "domain name"),
            ("dns/a..b", "domain name"),
            ("dns/a b", "domain name"),
            ("udp:53", "configuration file"),
        ] {
            let failure = word.parse::<Check>().expect_err(word);
            assert!(failure.message.contains(why) && failure.message.contains("http[:PORT]"), "{failure}");
        }
    }

    #[test]
    fn checks_that_cannot_be_asked_are_found() {
        let http = |path: &str, host: Option<&str>, status, body: Option<&str>| Check::Http {
            port: None,
            path: path.to_owned(),
            host: host.map(str::to_owned),
            status,
            body: body.map(str::to_owned),
        };
        assert_eq!(http("/", Some("www.example.org"), HTTP_STATUS, Some("OK")).problem(0), None);
        for (check, why) in [
            (http("x", None, HTTP_STATUS, None), "slash"),
            (http(&format!("/{}", "x".repeat(2000)), None, HTTP_STATUS, None), "1024"),
            (http("/", Some("a\r\nX: y"), HTTP_STATUS, None), "host name"),
            (http("/", Some(""), HTTP_STATUS, None), "host name"),
            (http("/", None, RangeInclusive::new(399, 200), None), "status"),
            (http("/", None, 0..=99, None), "status"),
            (http("/", None, HTTP_STATUS, Some("")), "body"),
            (Check::Http { port: Some(0), path: "/".into(), host: None, status: HTTP_STATUS, body: None }, "port 0"),
            (Check::Udp { port: Some(9), payload: vec![0; 1201], expect: vec![] }, "1200"),
            (Check::Udp { port: None, payload: vec![], expect: vec![] }, "udp:PORT"),
            (Check::Dns { port: None, name: "x".repeat(64) }, "domain name"),
        ] {
            let problem = check.problem(0).expect(why);
            assert!(problem.contains(why), "{problem}");
        }
    }
}
