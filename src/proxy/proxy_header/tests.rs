//! Tables of headers, good and bad; the crate `ppp` as the other reader of what we write.

use super::*;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V4: [u8; 12] = [192, 0, 2, 7, 203, 0, 113, 9, 0x9c, 0x40, 0x01, 0xbb];

fn header(consumed: usize, source: &str, destination: &str) -> Result<Step, BadHeader> {
    let address = |text: &str| Some(text.parse().unwrap());
    Ok(Step::Header { consumed, source: address(source), destination: address(destination) })
}

fn unknown(consumed: usize) -> Result<Step, BadHeader> {
    Ok(Step::Header { consumed, source: None, destination: None })
}

/// A header of version 2 with `body` behind its length.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, body].concat()
}

/// Puts the right checksum into the TLV whose value is the header's last four bytes.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let at = bytes.len() - 4;
    bytes[at..].fill(0);
    // Bit by bit from the other end than the code under test: reflected at the end instead of at each step.
    let mut crc = !0u32;
    for byte in &bytes {
        crc ^= u32::from(byte.reverse_bits()) << 24;
        for _ in 0..8 {
            crc = if crc & 0x8000_0000 != 0 { (crc << 1) ^ 0x1edc_6f41 } else { crc << 1 };
        }
    }
    bytes[at..].copy_from_slice(&(!crc.reverse_bits()).to_be_bytes());
    bytes
}

/// However many bytes are there, the outcome is `More` or the one that all of them have; and once it is there, it stays.
fn assert_outcome(input: &[u8], expected: Result<Step, BadHeader>) {
    let shown = String::from_utf8_lossy(input);
    assert_eq!(read(input), expected, "{shown:?}");
    let mut decided = false;
    for length in 0..input.len() {
        let outcome = read(&input[..length]);
        assert!(outcome == expected || (outcome == Ok(Step::More) && !decided), "{length} of {shown:?}: {outcome:?}");
        decided |= outcome == expected && expected != Ok(Step::More);
    }
    if let Ok(Step::Header { consumed, .. }) = expected {
        assert_eq!(read(&input[..consumed - 1]), Ok(Step::More), "{shown:?}");
        assert_eq!(read(&input[..consumed]), expected, "{shown:?}");
    }
}

#[test]
fn lines_of_version_1_are_read() {
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 16));
    let six = "PROXY TCP6 2001:db8::1 2001:db8:0:0:0:0:0:2 1 65535\r\n";
    for (input, expected) in [
        ("PROXY TCP4 192.0.2.7 203.0.113.9 40000 443\r\n", header(44, "192.0.2.7:40000", "203.0.113.9:443")),
        ("PROXY TCP4 192.0.2.7 203.0.113.9 0 0\r\nGET / HTTP/1.1\r\n", header(38, "192.0.2.7:0", "203.0.113.9:0")),
        (six, header(six.len(), "[2001:db8::1]:1", "[2001:db8::2]:65535")),
        // As the rest of the program has it.
        ("PROXY TCP6 ::ffff:192.0.2.7 ::1 5 6\r\n", header(37, "192.0.2.7:5", "[::1]:6")),
        ("PROXY UNKNOWN\r\n", unknown(15)),
        ("PROXY UNKNOWN\r\n\r\n", unknown(15)),
        ("PROXY UNKNOWN ffff::1  what ever 99999\r\n", unknown(40)),
        (longest.as_str(), unknown(107)),
    ] {
        assert_outcome(input.as_bytes(), expected);
    }
}

#[test]
fn lines_that_are_not_as_the_specification_has_them_are_refused() {
    let too_long = format!("PROXY UNKNOWN {}\r\n", "f".repeat(107 - 15));
    let endless = format!("PROXY UNKNOWN {}", "f".repeat(4000));
    for (input, expected) in [
        ("GET / HTTP/1.1\r\n", BadHeader::Absent),
        ("POST / HTTP/1.1\r\n", BadHeader::Absent),
        (" PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Absent),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Absent),
        ("PROXY\r\n", BadHeader::Absent),
        ("PROXY\tTCP4 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Absent),
        ("PROXY \r\n", BadHeader::Protocol),
        ("PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Protocol),
        ("PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Protocol),
        ("PROXY tcp4 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Protocol),
        ("PROXY UNKNOWNS\r\n", BadHeader::Protocol),
        ("PROXY TCP4\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3.4  1.2.3.4 1 1\r\n", BadHeader::Words),
        ("PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n", BadHeader::Address),
        ("PROXY TCP4 01.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.256 1 1\r\n", BadHeader::Address),
        ("PROXY TCP4 ::1 ::1 1 1\r\n", BadHeader::Address),
        ("PROXY TCP4 localhost 1.2.3.4 1 1\r\n", BadHeader::Address),
        ("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n", BadHeader::Address),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", BadHeader::Address),
        ("PROXY TCP6 [::1] ::1 1 1\r\n", BadHeader::Address),
        ("PROXY TCP6 ::1::2 ::1 1 1\r\n", BadHeader::Address),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 080 1\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 +80 1\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 4294967297\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 0x1 1\r\n", BadHeader::Port),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n", BadHeader::Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r \n", BadHeader::Line),
        ("PROXY TCP4 1.2.3.4\t1.2.3.4 1 1\r\n", BadHeader::Line),
        ("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\0\r\n", BadHeader::Line),
        ("PROXY UNKNOWN caf\u{e9}\r\n", BadHeader::Line),
        (too_long.as_str(), BadHeader::TooLong),
        (endless.as_str(), BadHeader::TooLong),
    ] {
        assert_outcome(input.as_bytes(), Err(expected));
    }
}

#[test]
fn headers_of_version_2_are_read() {
    let four = ("192.0.2.7:40000", "203.0.113.9:443");
    let six = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0; 15], &[1, 0, 5, 0, 6]].concat();
    let mapped = [&[0; 10][..], &[0xff, 0xff, 192, 0, 2, 7], &[0; 15], &[1, 0, 5, 0, 6]].concat();
    let noop = [&V4[..], &[4, 0, 3, 1, 2, 3, 1, 0, 0]].concat();
    let sum = sealed(binary(0x21, 0x11, &[&V4[..], &[4, 0, 1, 9, 3, 0, 4, 0, 0, 0, 0]].concat()));
    let largest = binary(0x21, 0x11, &[&V4[..], &[4, 0x0f, 0xe1], &[0; 0x0fe1]].concat());
    assert_eq!(largest.len(), LONGEST);
    for (input, expected) in [
        (binary(0x21, 0x11, &V4), header(28, four.0, four.1)),
        (binary(0x21, 0x12, &V4), header(28, four.0, four.1)),
        (binary(0x21, 0x11, &noop), header(37, four.0, four.1)),
        (sum.clone(), header(sum.len(), four.0, four.1)),
        (largest, header(LONGEST, four.0, four.1)),
        (binary(0x21, 0x21, &six), header(52, "[2001:db8::1]:5", "[::1]:6")),
        (binary(0x21, 0x22, &mapped), header(52, "192.0.2.7:5", "[::1]:6")),
        (binary(0x21, 0x31, &[b'x'; 216]), unknown(232)),
        (binary(0x21, 0x00, &[]), unknown(16)),
        // What is unspecified is skipped, whatever it is.
        (binary(0x21, 0x00, &[1, 2, 3]), unknown(19)),
        (binary(0x20, 0x00, &[]), unknown(16)),
        (binary(0x20, 0x11, &V4), unknown(28)),
        (binary(0x20, 0xee, &[1, 2, 3]), unknown(19)),
        ([binary(0x21, 0x11, &V4), b"GET /".to_vec()].concat(), header(28, four.0, four.1)),
    ] {
        assert_outcome(&input, expected);
    }
}

#[test]
fn headers_of_version_2_with_a_fault_are_refused() {
    let with_tlvs = |tlvs: &[u8]| binary(0x21, 0x11, &[&V4[..], tlvs].concat());
    let mut wrong_sum = sealed(with_tlvs(&[3, 0, 4, 0, 0, 0, 0]));
    wrong_sum[17] ^= 1;
    let mut other_signature = binary(0x21, 0x11, &V4);
    other_signature[11] = b'\r';
    for (input, expected) in [
        (b"\r\n\r\nGET".to_vec(), BadHeader::Absent),
        (b"\x16\x03\x01".to_vec(), BadHeader::Absent),
        (other_signature, BadHeader::Absent),
        (binary(0x11, 0x11, &V4), BadHeader::Version),
        (binary(0x31, 0x11, &V4), BadHeader::Version),
        (binary(0x22, 0x11, &V4), BadHeader::Command),
        (binary(0x21, 0x10, &V4), BadHeader::Family),
        (binary(0x21, 0x01, &V4), BadHeader::Family),
        (binary(0x21, 0x13, &V4), BadHeader::Family),
        (binary(0x21, 0x41, &V4), BadHeader::Family),
        (binary(0x21, 0x11, &V4[..11]), BadHeader::Length),
        (binary(0x21, 0x21, &V4), BadHeader::Length),
        (binary(0x21, 0x31, &[0; 215]), BadHeader::Length),
        (binary(0x21, 0x11, &[0; 4081]), BadHeader::TooLong),
        (binary(0x20, 0x00, &[0; 65535]), BadHeader::TooLong),
        (with_tlvs(&[4]), BadHeader::Tlv),
        (with_tlvs(&[4, 0]), BadHeader::Tlv),
        (with_tlvs(&[4, 0, 1]), BadHeader::Tlv),
        (with_tlvs(&[4, 0xff, 0xff, 0]), BadHeader::Tlv),
        (with_tlvs(&[3, 0, 3, 0, 0, 0]), BadHeader::Tlv),
        (sealed(with_tlvs(&[3, 0, 4, 0, 0, 0, 0, 3, 0, 4, 0, 0, 0, 0])), BadHeader::Tlv),
        (with_tlvs(&[3, 0, 4, 0, 0, 0, 0]), BadHeader::Checksum),
        (wrong_sum, BadHeader::Checksum),
    ] {
        assert_outcome(&input, Err(expected));
    }
}

#[test]
fn what_is_written_is_read_again_by_us_and_by_another() {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    for (source, destination, same_family) in [
        ("192.0.2.7:40000", "203.0.113.9:443", true),
        ("255.255.255.255:65535", "255.255.255.255:65535", true),
        ("[2001:db8::1]:1", "[2001:db8::2]:65535", true),
        ("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe]:65535", true),
        ("[::ffff:192.0.2.7]:1", "203.0.113.9:2", true),
        ("192.0.2.7:1", "[2001:db8::2]:2", false),
        ("[2001:db8::2]:2", "192.0.2.7:1", false),
    ] {
        let (source, destination) = (address(source), address(destination));
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let expected = |consumed| Step::Header {
            consumed,
            source: Some(canonical(source)),
            destination: Some(canonical(destination)),
        };
        let mut line = b"before".to_vec();
        write(ProxyHeader::V1, Some(source), Some(destination), &mut line);
        let line = &line[6..];
        assert_eq!(read(line), Ok(expected(line.len())));
        assert!(line.len() <= 107);
        let theirs = ppp::v1::Header::try_from(line).unwrap().addresses;
        assert_eq!(matches!(theirs, ppp::v1::Addresses::Tcp4(_)), same_family && canonical(source).is_ipv4());

        let mut bytes = Vec::new();
        write(ProxyHeader::V2, Some(source), Some(destination), &mut bytes);
        assert_eq!(read(&bytes), Ok(expected(bytes.len())));
        let theirs = ppp::v2::Header::try_from(&bytes[..]).unwrap();
        assert_eq!((theirs.length(), theirs.command), (bytes.len() - 16, ppp::v2::Command::Proxy));
        match theirs.addresses {
            ppp::v2::Addresses::IPv4(pair) => assert_eq!(pair.source_address, canonical(source).ip()),
            ppp::v2::Addresses::IPv6(pair) => {
                assert_eq!(IpAddr::V6(pair.source_address).to_canonical(), canonical(source).ip())
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn what_is_not_known_is_said_to_be_unknown() {
    let source = "192.0.2.7:40000".parse().ok();
    let written = |version, source, destination| {
        let mut out = Vec::new();
        write(version, source, destination, &mut out);
        out
    };
    assert_eq!(written(ProxyHeader::V1, None, source), b"PROXY UNKNOWN\r\n");
    assert_eq!(written(ProxyHeader::V1, source, None), b"PROXY TCP4 192.0.2.7 0.0.0.0 40000 0\r\n");
    assert_eq!(written(ProxyHeader::V2, None, None), binary(0x20, 0x00, &[]));
    let mut local = Vec::new();
    write_local(ProxyHeader::V2, &mut local);
    assert_eq!(local, binary(0x20, 0x00, &[]));
    assert_eq!(read(&local), unknown(16));
}
