//! Bytes of a line: numbers, addresses, and what clients send, so that it cannot end a field or a line.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Appends `number`, decimal.
pub(super) fn number(number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends `number` with zeros in front, as many digits as `width` says, at most 9.
pub(super) fn padded(number: u32, width: u32, out: &mut Vec<u8>) {
    for place in (0..width).rev() {
        out.push(b'0' + (number / 10u32.pow(place) % 10) as u8);
    }
}

/// Appends milliseconds with three digits behind the point.
pub(super) fn milliseconds(duration: Duration, out: &mut Vec<u8>) {
    number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX), out);
    out.push(b'.');
    padded(duration.subsec_micros() % 1000, 3, out);
}

/// Appends an address without its port.
pub(super) fn ip(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                number(octet.into(), out);
            }
        }
        IpAddr::V6(address) => {
            // Writing to memory does not fail.
            let _ = write!(out, "{address}");
        }
    }
}

/// Appends an address with its port, an IPv6 one in brackets.
pub(super) fn socket(address: SocketAddr, out: &mut Vec<u8>) {
    match address {
        SocketAddr::V4(_) => ip(address.ip(), out),
        SocketAddr::V6(_) => {
            out.push(b'[');
            ip(address.ip(), out);
            out.push(b']');
        }
    }
    out.push(b':');
    number(address.port().into(), out);
}

/// Appends `text`, at most `limit` bytes of it, as it may stand between double quotes: `\"`, `\\`, and `\xHH` for bytes that
/// are not printable ASCII.
pub(super) fn quoted(text: &[u8], limit: usize, out: &mut Vec<u8>) {
    escaped(&text[..text.len().min(limit)], |byte| !matches!(byte, b' '..=b'~'), b"\\x", out);
}

/// Appends `text` as one word: as [`quoted`], blanks escaped, too.
pub(super) fn word(text: &[u8], limit: usize, out: &mut Vec<u8>) {
    escaped(&text[..text.len().min(limit)], |byte| !byte.is_ascii_graphic(), b"\\x", out);
}

/// Appends `text`: a backslash before `"` and `\`, and for each `unfit` byte `lead` and two hexadecimal digits.
fn escaped(mut text: &[u8], unfit: impl Fn(u8) -> bool, lead: &[u8], out: &mut Vec<u8>) {
    // Nearly always there is nothing to escape: copy up to the first byte that has to be.
    while let Some(at) = text.iter().position(|&byte| matches!(byte, b'"' | b'\\') || unfit(byte)) {
        out.extend_from_slice(&text[..at]);
        match text[at] {
            byte @ (b'"' | b'\\') => out.extend([b'\\', byte]),
            byte => {
                out.extend_from_slice(lead);
                hex(byte, out);
            }
        }
        text = &text[at + 1..];
    }
    out.extend_from_slice(text);
}

/// Appends `text`, at most `limit` bytes of it, as a string of JSON, with its quotes (RFC 8259, section 7). What is no UTF-8
/// becomes U+FFFD.
pub(super) fn json(text: &[u8], limit: usize, out: &mut Vec<u8>) {
    out.push(b'"');
    for chunk in text[..text.len().min(limit)].utf8_chunks() {
        escaped(chunk.valid().as_bytes(), |byte| matches!(byte, 0..=0x1f | 0x7f), b"\\u00", out);
        if !chunk.invalid().is_empty() {
            out.extend(b"\\ufffd");
        }
    }
    out.push(b'"');
}

fn hex(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_and_addresses_are_as_the_standard_library_has_them() {
        for value in [0, 9, 10, 65_535, u64::MAX] {
            assert_eq!(written(|out| number(value, out)), value.to_string());
        }
        assert_eq!(written(|out| padded(7, 3, out)), "007");
        assert_eq!(written(|out| milliseconds(Duration::from_micros(12_045_006), out)), "12045.006");
        for address in ["0.0.0.0:0", "192.0.2.255:65535", "[2001:db8::1]:80", "[::]:1"] {
            assert_eq!(written(|out| socket(address.parse().unwrap(), out)), address);
        }
    }

    #[test]
    fn no_byte_of_a_text_ends_its_field_or_its_line() {
        for byte in 0..=255u8 {
            let text = [b'a', byte, b'b'];
            let shown = written(|out| quoted(&text, 99, out));
            assert!(shown.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{shown:?}");
            assert_eq!(shown.contains('"'), shown == "a\\\"b", "{shown:?}");
            let shown = written(|out| word(&text, 99, out));
            assert!(shown.bytes().all(|byte| byte.is_ascii_graphic()), "{shown:?}");
            let shown = written(|out| json(&text, 99, out));
            let read: String = serde_json::from_str(&shown).unwrap();
            assert_eq!(read, String::from_utf8_lossy(&text));
            assert!(!shown.bytes().any(|byte| byte < 0x20 || byte == 0x7f), "{shown:?}");
        }
        assert_eq!(written(|out| quoted(b"a\r\nb\"\\\x7f\xff", 99, out)), r#"a\x0d\x0ab\"\\\x7f\xff"#);
    }

    #[test]
    fn a_long_text_is_cut_off() {
        assert_eq!(written(|out| quoted(&[b'a'; 100], 3, out)), "aaa");
        // In the midst of a character.
        assert_eq!(written(|out| json("a\u{e9}".as_bytes(), 2, out)), r#""a\ufffd""#);
    }
}
