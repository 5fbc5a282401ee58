//! What a request asks for: the forms of its target (RFC 9112 section 3.2), and the host.

use super::refusal::Refusal;
use super::request::Method;

/// A request target, as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'a> {
    /// `/path?query`.
    Origin,
    /// `*`, of OPTIONS.
    Asterisk,
    /// `http://host/path`: its authority, and what a server is asked for instead; empty: there is no path.
    Absolute { host: &'a [u8], path: &'a [u8] },
}

/// The form of `target`.
pub(super) fn target(method: Method, target: &[u8]) -> Result<Target<'_>, Refusal> {
    // A fragment is never sent, and who cuts it off sees another path than who does not.
    if target.iter().fold(false, |bad, byte| bad | (*byte >= 0x7f) | (*byte == b'#')) {
        return Err(Refusal::bad_request("the request target has a byte that must be percent-encoded"));
    }
    match target {
        [b'/', ..] => Ok(Target::Origin),
        b"*" if method == Method::Options => Ok(Target::Asterisk),
        _ => absolute(target).ok_or(Refusal::bad_request("the request target is neither a path nor an http URI")),
    }
}

fn absolute(target: &[u8]) -> Option<Target<'_>> {
    let scheme = target.iter().position(|byte| *byte == b':')?;
    let (name, rest) = target.split_at(scheme);
    if !name.eq_ignore_ascii_case(b"http") && !name.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    if host.is_empty() || !is_host(host) {
        return None;
    }
    // `http://host?query` is a URI, too, but there is no way to ask a server for it.
    (!path.starts_with(b"?")).then_some(Target::Absolute { host, path })
}

/// Can it be a `Host` (RFC 9110 section 7.2): a name or address, and perhaps a port? It may be empty. No user, no list,
/// nothing that ends a host for one reader and not for another.
pub(super) fn is_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', ..] => {
            let Some(end) = host.iter().position(|byte| *byte == b']') else { return false };
            let inner = &host[1..end];
            if inner.is_empty() || !inner.iter().all(|byte| byte.is_ascii_alphanumeric() || b":.%-_~".contains(byte)) {
                return false;
            }
            (&host[..0], &host[end + 1..])
        }
        _ => host.split_at(host.iter().position(|byte| *byte == b':').unwrap_or(host.len())),
    };
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(byte);
    let port_is_number = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    port_is_number && name.iter().all(in_name)
}
