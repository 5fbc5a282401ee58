//! As much of DER (X.690) as it takes to tell how long a certificate is valid (RFC 5280 section 4.1), and which
//! certificate an OCSP response is for, and until when (RFC 6960 section 4.2.1).
//!
//! Signatures are not looked at: the peer does that. What is read here only warns.

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, constructed.
const CONTEXT_0: u8 = 0xa0;
/// `[0]`, primitive: `good`, as the status of a certificate.
const GOOD: u8 = 0x80;

/// What is read of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Certificate<'a> {
    /// Its number with that authority, big-endian.
    pub serial: &'a [u8],
    /// From when it is valid, seconds since 1970.
    pub from: i64,
    /// Until when.
    pub until: i64,
}

/// What is read of an OCSP response about a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    /// Is the certificate good, neither revoked nor unknown?
    pub good: bool,
    /// From when the answer is valid, seconds since 1970.
    pub from: i64,
    /// Until when; `None`: newer ones are always there.
    pub until: Option<i64>,
}

/// Reads a certificate; `None` where it is none.
pub(super) fn certificate(der: &[u8]) -> Option<Certificate<'_>> {
    let mut signed = Fields(Fields(der).value(SEQUENCE)?);
    let mut fields = Fields(signed.value(SEQUENCE)?);
    fields.optional(CONTEXT_0);
    let serial = fields.value(INTEGER)?;
    fields.value(SEQUENCE)?;
    fields.value(SEQUENCE)?;
    let mut validity = Fields(fields.value(SEQUENCE)?);
    Some(Certificate { serial, from: validity.time()?, until: validity.time()? })
}

/// What an OCSP response says about the certificate of that serial number: `Err` where it is no such response, or one
/// that only tells of a failure; `Ok(None)` where it is about others.
pub(super) fn status(der: &[u8], serial: &[u8]) -> Result<Option<Status>, &'static str> {
    let mut answer = Fields(Fields(der).value(SEQUENCE).ok_or("not an OCSP response in DER")?);
    match answer.value(ENUMERATED) {
        Some([0]) => {}
        Some(_) => return Err("the OCSP responder's answer is that it cannot answer"),
        None => return Err("not an OCSP response in DER"),
    }
    let responses = responses(&mut answer).ok_or("not a basic OCSP response in DER")?;
    let mut responses = Fields(responses);
    while let Some(response) = responses.value(SEQUENCE) {
        let mut response = Fields(response);
        let (its, status) = single(&mut response).ok_or("not a basic OCSP response in DER")?;
        if its == serial {
            return Ok(Some(status));
        }
    }
    Ok(None)
}

/// The answers within a response, RFC 6960 section 4.2.1: `OCSPResponse.responseBytes.response` is a
/// `BasicOCSPResponse`, whose `tbsResponseData.responses` these are.
fn responses<'a>(answer: &mut Fields<'a>) -> Option<&'a [u8]> {
    let mut bytes = Fields(Fields(answer.value(CONTEXT_0)?).value(SEQUENCE)?);
    bytes.any()?;
    let mut basic = Fields(Fields(bytes.value(OCTETS)?).value(SEQUENCE)?);
    let mut signed = Fields(basic.value(SEQUENCE)?);
    signed.optional(CONTEXT_0);
    signed.any()?;
    signed.value(GENERALIZED_TIME)?;
    signed.value(SEQUENCE)
}

fn single<'a>(response: &mut Fields<'a>) -> Option<(&'a [u8], Status)> {
    let mut id = Fields(response.value(SEQUENCE)?);
    id.value(SEQUENCE)?;
    id.value(OCTETS)?;
    id.value(OCTETS)?;
    let serial = id.value(INTEGER)?;
    let (status, _) = response.any()?;
    let from = response.time()?;
    let until = match response.optional(CONTEXT_0) {
        Some(until) => Some(Fields(until).time()?),
        None => None,
    };
    Some((serial, Status { good: status == GOOD, from, until }))
}

/// Fields that follow each other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field: its tag and its contents.
    fn any(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // No field of these files takes more than four bytes to count.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, contents))
    }

    /// The contents of the next field, which has that tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (its, contents) = self.any()?;
        (its == tag).then_some(contents)
    }

    /// The next field if it has that tag; else it stays.
    fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.0.first() == Some(&tag) { self.value(tag) } else { None }
    }

    /// The next field as a time, seconds since 1970: RFC 5280 section 4.1.2.5.
    fn time(&mut self) -> Option<i64> {
        let (tag, text) = self.any()?;
        let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (year, rest) = match tag {
            UTC_TIME => {
                let (year, rest) = text.split_at_checked(2)?;
                let year: i64 = year.parse().ok()?;
                (if year < 50 { 2000 + year } else { 1900 + year }, rest)
            }
            GENERALIZED_TIME => {
                let (year, rest) = text.split_at_checked(4)?;
                (year.parse().ok()?, rest)
            }
            _ => return None,
        };
        if rest.len() != 10 {
            return None;
        }
        let part = |at: usize| rest[at..at + 2].parse::<i64>().ok();
        let days = days_since_1970(year, part(0)?, part(2)?)?;
        Some(days * 86_400 + part(4)? * 3600 + part(6)? * 60 + part(8)?)
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar, whose months begin with March here so that the leap day is
/// the year's last.
fn days_since_1970(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let month = (month + 9) % 12;
    let days_before = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 719,468 days lie between 0000-03-01 and 1970-01-01.
    Some(days_before + (153 * month + 2) / 5 + day - 1 - 719_468)
}

#[cfg(test)]
pub(super) mod tests;
