use super::*;

/// A field.
fn field(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![tag];
    match length {
        0..=127 => der.push(length as u8),
        128..=255 => der.extend([0x81, length as u8]),
        _ => der.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    der.extend_from_slice(contents);
    der
}

fn sequence(fields: &[Vec<u8>]) -> Vec<u8> {
    field(SEQUENCE, &fields.concat())
}

/// A basic response about these numbers, as RFC 6960 section 4.2.1 has it; its signature is empty.
pub(in crate::proxy::tls) fn response(answer: u8, about: &[(&[u8], u8, &str, Option<&str>)]) -> Vec<u8> {
    let single = |(serial, status, from, until): &(&[u8], u8, &str, Option<&str>)| {
        let id = sequence(&[sequence(&[]), field(OCTETS, &[1; 20]), field(OCTETS, &[2; 20]), field(INTEGER, serial)]);
        let mut fields = vec![id, field(*status, &[]), field(GENERALIZED_TIME, from.as_bytes())];
        fields.extend(until.map(|until| field(CONTEXT_0, &field(GENERALIZED_TIME, until.as_bytes()))));
        sequence(&fields)
    };
    let singles: Vec<_> = about.iter().map(single).collect();
    let produced = field(GENERALIZED_TIME, b"20260101000000Z");
    let signed = sequence(&[field(0xa2, &field(OCTETS, &[3; 20])), produced, sequence(&singles)]);
    let basic = sequence(&[signed, sequence(&[]), field(3, &[0])]);
    let bytes = sequence(&[field(6, &[43, 6, 1, 5, 5, 7, 48, 1, 1]), field(OCTETS, &basic)]);
    sequence(&[field(ENUMERATED, &[answer]), field(CONTEXT_0, &bytes)])
}

#[test]
fn times_are_counted_from_1970_in_both_notations() {
    for (tag, text, seconds) in [
        (UTC_TIME, "700101000000Z", 0),
        (UTC_TIME, "491231235959Z", 2_524_607_999),
        (UTC_TIME, "500101000000Z", -631_152_000),
        (GENERALIZED_TIME, "20000229120000Z", 951_825_600),
        (GENERALIZED_TIME, "21000301000000Z", 4_107_542_400),
    ] {
        let der = field(tag, text.as_bytes());
        assert_eq!(Fields(&der).time(), Some(seconds), "{text}");
    }
    for text in ["20000229120000", "2000022912000Z", "20001329120000Z", "20000200120000Z", "2000-1-1120000Z", "Z", ""] {
        let der = field(GENERALIZED_TIME, text.as_bytes());
        assert_eq!(Fields(&der).time(), None, "{text}");
    }
}

#[test]
fn an_ocsp_response_is_searched_for_the_certificate() {
    let later = Some("20260102000000Z");
    let der = response(0, &[(&[7, 7], 0x80, "20260101000000Z", None), (&[7, 8], 0xa1, "20260101000000Z", later)]);
    let from = 1_767_225_600;
    assert_eq!(status(&der, &[7, 7]), Ok(Some(Status { good: true, from, until: None })));
    assert_eq!(status(&der, &[7, 8]), Ok(Some(Status { good: false, from, until: Some(from + 86_400) })));
    assert_eq!(status(&der, &[7, 9]), Ok(None));
    assert!(status(&response(3, &[]), &[7, 7]).unwrap_err().contains("cannot answer"));
}

#[test]
fn what_is_cut_short_or_spoilt_anywhere_is_refused_without_a_panic() {
    let whole = response(0, &[(&[7, 7], 0x80, "20260101000000Z", None)]);
    for length in 0..whole.len() {
        assert!(status(&whole[..length], &[7, 7]).is_err(), "{length}");
        assert_eq!(certificate(&whole[..length]), None);
    }
    for at in 0..whole.len() {
        for value in [0, 0x30, 0x7f, 0x80, 0x84, 0xff] {
            let mut spoilt = whole.clone();
            spoilt[at] = value;
            let _ = status(&spoilt, &[7, 7]);
            let _ = certificate(&spoilt);
        }
    }
    assert!(status(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1], &[1]).is_err());
}
