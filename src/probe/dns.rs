//! The little of DNS (RFC 1035) that a probe needs: a query, and whether an answer is one.

use crate::wire::array;

/// Flags: recursion desired.
const RECURSION_DESIRED: u16 = 0x0100;
/// RCODE: it is as the answer says.
pub const NO_ERROR: u8 = 0;
/// RCODE: there is no such name.
pub const NO_SUCH_NAME: u8 = 3;

/// QTYPE A, QCLASS IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];

/// `name` as it stands in a message (RFC 1035 section 3.1); `None` if it is no domain name.
pub fn encode_name(name: &str) -> Option<Vec<u8>> {
    let is_label = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name == "." {
        return Some(vec![0]);
    }
    let mut encoded = Vec::with_capacity(name.len() + 2);
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        if !label.bytes().all(is_label) {
            return None;
        }
        encoded.push(length);
        encoded.extend(label.as_bytes());
    }
    encoded.push(0);
    (encoded.len() <= 255).then_some(encoded)
}

/// A query for the IPv4 address of `name`; recursion desired, as most servers answer nothing else.
pub fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut message = Vec::with_capacity(300);
    for field in [id, RECURSION_DESIRED, 1, 0, 0, 0] {
        message.extend(field.to_be_bytes());
    }
    message.extend(encode_name(name)?);
    message.extend(A_IN);
    Some(message)
}

/// The response code of `message` if it answers the query `id`; `None` if it does not.
pub fn response(id: u16, message: &[u8]) -> Option<u8> {
    let head: [u8; 12] = array(message, 0).ok()?;
    let is_response = head[2] & 0x80 != 0;
    (u16::from_be_bytes([head[0], head[1]]) == id && is_response).then_some(head[3] & 0x0f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_what_rfc_1035_says() {
        let message = query(0x1234, "www.example.org").unwrap();
        assert_eq!(
            message,
            *b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03org\x00\x00\x01\x00\x01"
        );
        assert_eq!(query(1, "example.org."), query(1, "example.org"));
    }

    #[test]
    fn names_are_bounded() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "y".repeat(61));
        assert_eq!(encode_name(&longest).unwrap().len(), 255);
        assert_eq!(encode_name(&format!("{longest}y")), None);
        assert_eq!(encode_name("."), Some(vec![0]));
        for bad in ["", "..", ".a", "a..b", "a b", "\u{e4}.org", &"x".repeat(64)] {
            assert_eq!(encode_name(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_responses_with_the_right_id_count() {
        let mut message = query(7, "a").unwrap();
        assert_eq!(response(7, &message), None, "a query");
        message[2] |= 0x80;
        message[3] = 0x83;
        assert_eq!(response(7, &message), Some(3));
        assert_eq!(response(8, &message), None);
        assert_eq!(response(7, &message[..11]), None);
    }
}
