//! Checks of backends, as files and answers write them.

use std::fmt;
use std::ops::RangeInclusive;

use super::limits;
use crate::probe::{Check, HTTP_STATUS};

/// As on the command line, and what has no place there in brackets.
pub(crate) struct Shown<'a>(pub(crate) &'a Check);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        match self.0 {
            Check::Http { host, status, body, .. } => {
                write!(f, " (status {}", status_text(status))?;
                if let Some(host) = host {
                    write!(f, ", host {host}")?;
                }
                if let Some(body) = body {
                    write!(f, ", body {body:?}")?;
                }
                f.write_str(")")
            }
            Check::Udp { payload, expect, .. } => {
                write!(f, " (payload \"{}\", expect \"{}\")", payload.escape_ascii(), expect.escape_ascii())
            }
            Check::Link | Check::Icmp | Check::Tcp { .. } | Check::Dns { .. } => Ok(()),
        }
    }
}

/// `200` or `200-399`.
pub(crate) fn status_text(status: &RangeInclusive<u16>) -> String {
    if status.start() == status.end() {
        status.start().to_string()
    } else {
        format!("{}-{}", status.start(), status.end())
    }
}

/// `200` or `200-399`.
pub(crate) fn parse_status(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let code = |text: &str| text.trim().parse::<u16>().ok().filter(|&n| limits::STATUS.contains(&u32::from(n)));
    match (code(first), code(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is no status from 100 to 599: write 200, or \"200-399\"")),
    }
}

/// The key of `[health]` that is to blame for a check that is impossible whatever the VIP is.
pub(crate) fn culprit(check: &Check) -> &'static str {
    let http = |path: &str, host: &Option<String>, status: &RangeInclusive<u16>| {
        let (path, host, status) = (path.to_owned(), host.clone(), status.clone());
        Check::Http { port: None, path, host, status, body: None }.problem(1).is_some()
    };
    match check {
        Check::Http { path, .. } if http(path, &None, &HTTP_STATUS) => "path",
        Check::Http { path, host, .. } if http(path, host, &HTTP_STATUS) => "host",
        Check::Http { path, host, status, .. } if http(path, host, status) => "status",
        Check::Http { .. } => "body",
        Check::Udp { payload, expect, .. } if payload.len() > expect.len() => "payload",
        Check::Udp { .. } => "expect",
        Check::Dns { .. } => "name",
        Check::Link | Check::Icmp | Check::Tcp { .. } => "check",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_check_is_shown() {
        assert_eq!(Shown(&"tcp:8080".parse().unwrap()).to_string(), "tcp:8080");
        assert_eq!(Shown(&"http:80/x".parse().unwrap()).to_string(), "http:80/x (status 200-399)");
        let udp = Check::Udp { port: Some(7), payload: b"a\n".to_vec(), expect: vec![255] };
        assert_eq!(Shown(&udp).to_string(), "udp:7 (payload \"a\\n\", expect \"\\xff\")");
    }

    #[test]
    fn a_status_is_one_or_a_range() {
        for bad in ["99", "600", "400-200", "200-", "x", ""] {
            assert!(parse_status(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_status("200-299"), Ok(200..=299));
        assert_eq!(parse_status("204"), Ok(204..=204));
        assert_eq!(["204", "200-299"].map(|text| status_text(&parse_status(text).unwrap())), ["204", "200-299"]);
    }

    #[test]
    fn the_key_that_is_to_blame_is_found() {
        let http = |path: &str, host: Option<&str>, status, body: Option<&str>| Check::Http {
            port: None,
            path: path.to_owned(),
            host: host.map(str::to_owned),
            status,
            body: body.map(str::to_owned),
        };
        for (check, key) in [
            (http("x", None, HTTP_STATUS, None), "path"),
            (http("/", Some("a b"), HTTP_STATUS, None), "host"),
            (http("/", None, 0..=0, None), "status"),
            (http("/", None, HTTP_STATUS, Some("")), "body"),
            (Check::Udp { port: None, payload: vec![0; 9000], expect: vec![] }, "payload"),
            (Check::Udp { port: None, payload: vec![], expect: vec![0; 9000] }, "expect"),
            (Check::Dns { port: None, name: "a..b".to_owned() }, "name"),
        ] {
            assert!(check.problem(1).is_some());
            assert_eq!(culprit(&check), key);
        }
    }
}
