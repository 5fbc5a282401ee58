//! Which header fields mean something to a proxy, and the syntax of their values.

/// A header field that the proxy itself reads, takes out or writes; all others pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Connection,
    ContentLength,
    Expect,
    Forwarded,
    Host,
    /// For one hop only, whatever `Connection` says: RFC 9110 section 7.6.1, and what Mozilla and curl added to it.
    OneHop,
    Referer,
    Trailer,
    TransferEncoding,
    Upgrade,
    UserAgent,
    XForwardedFor,
    XForwardedProto,
    Other,
    /// One of those above that matter, written with `_` for `-`: many servers cannot tell them apart (CGI, WSGI).
    Disguised,
}

/// Which field `name` is, in a request. Names are compared as RFC 9110 section 5.1 says, without regard to case.
#[inline]
pub(super) fn request_field(name: &[u8]) -> Field {
    match name.len() {
        2 => exactly(name, b"te", Field::OneHop),
        4 => exactly(name, b"host", Field::Host),
        // What a CGI script would see as HTTP_PROXY: CVE-2016-5385.
        5 => exactly(name, b"proxy", Field::OneHop),
        6 => exactly(name, b"expect", Field::Expect),
        7 => match name[0] | 0x20 {
            b'u' => exactly(name, b"upgrade", Field::Upgrade),
            b'r' => exactly(name, b"referer", Field::Referer),
            b't' => exactly(name, b"trailer", Field::Trailer),
            _ => Field::Other,
        },
        9 => exactly(name, b"forwarded", Field::Forwarded),
        10 => match name[0] | 0x20 {
            b'c' => exactly(name, b"connection", Field::Connection),
            b'k' => dashed(name, b"keep-alive", Field::OneHop),
            b'u' => exactly(name, b"user-agent", Field::UserAgent),
            _ => Field::Other,
        },
        14 => match name[0] | 0x20 {
            b'c' => dashed(name, b"content-length", Field::ContentLength),
            // Of no use but for an upgrade to HTTP/2 on the server's connection, which is never let through.
            b'h' => dashed(name, b"http2-settings", Field::OneHop),
            _ => Field::Other,
        },
        15 => dashed(name, b"x-forwarded-for", Field::XForwardedFor),
        16 => dashed(name, b"proxy-connection", Field::OneHop),
        17 => match name[0] | 0x20 {
            b't' => dashed(name, b"transfer-encoding", Field::TransferEncoding),
            b'x' => dashed(name, b"x-forwarded-proto", Field::XForwardedProto),
            _ => Field::Other,
        },
        19 => dashed(name, b"proxy-authorization", Field::OneHop),
        _ => Field::Other,
    }
}

/// Which field `name` is, in a response.
#[inline]
pub(super) fn response_field(name: &[u8]) -> Field {
    match name.len() {
        7 => match name[0] | 0x20 {
            b'u' => exactly(name, b"upgrade", Field::Upgrade),
            b't' => exactly(name, b"trailer", Field::Trailer),
            _ => Field::Other,
        },
        10 => match name[0] | 0x20 {
            b'c' => exactly(name, b"connection", Field::Connection),
            b'k' => dashed(name, b"keep-alive", Field::OneHop),
            _ => Field::Other,
        },
        14 => dashed(name, b"content-length", Field::ContentLength),
        16 => dashed(name, b"proxy-connection", Field::OneHop),
        17 => dashed(name, b"transfer-encoding", Field::TransferEncoding),
        18 => dashed(name, b"proxy-authenticate", Field::OneHop),
        25 => dashed(name, b"proxy-authentication-info", Field::OneHop),
        _ => Field::Other,
    }
}

/// May a field of this name stand behind a chunked body? Not those that say how a message is framed, where it goes, or
/// whom it comes from (RFC 9110 section 6.5.1): some servers would take them for header fields.
pub(super) fn trailer_allowed(name: &[u8]) -> bool {
    matches!(request_field(name), Field::Other | Field::Referer | Field::UserAgent)
        && matches!(response_field(name), Field::Other)
        && !(name.len() > 12 && name[..12].eq_ignore_ascii_case(b"x-forwarded-"))
        && !name.eq_ignore_ascii_case(b"authorization")
        && !name.contains(&b'_')
}

/// A name without `-`.
#[inline]
fn exactly(name: &[u8], lower: &[u8], field: Field) -> Field {
    if name[0] | 0x20 == lower[0] && name.eq_ignore_ascii_case(lower) { field } else { dashed(name, lower, field) }
}

/// A name with `-`, which may come as `_`.
#[inline]
fn dashed(name: &[u8], lower: &[u8], field: Field) -> Field {
    if name[0] | 0x20 != lower[0] {
        return Field::Other;
    }
    if name.eq_ignore_ascii_case(lower) {
        return field;
    }
    let same = |(a, b): (&u8, &u8)| a.to_ascii_lowercase() == *b || (*a == b'_' && *b == b'-');
    if name.iter().zip(lower).all(same) {
        // A disguised Keep-Alive or User-Agent deceives nobody, but what is taken out goes in every disguise.
        if field == Field::UserAgent { Field::Other } else { Field::Disguised }
    } else {
        Field::Other
    }
}

/// The elements of a comma-separated list (RFC 9110 section 5.6.1), without the white space around them; empty ones
/// are left out.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// A `Content-Length` (RFC 9110 section 8.6): digits and nothing else, and less than 2^63, since servers may keep it in
/// a signed number.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    let mut length: u64 = 0;
    for byte in value {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // 19 digits are below 10^19, and that is below 2^64.
        length = length * 10 + u64::from(digit);
    }
    (length < 1 << 63).then_some(length)
}

/// Is it a byte of a token (RFC 9110 section 5.6.2)?
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Is it a byte of a field's value (RFC 9110 section 5.5), white space included?
pub(super) fn is_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
