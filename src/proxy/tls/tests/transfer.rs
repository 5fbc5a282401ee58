//! Bytes over an established connection, how it ends, and what is no TLS at all.

use std::io::{ErrorKind, Write};

use super::super::Received;
use super::*;
use crate::config::proxy::TlsVersion;

/// An established connection of each version.
fn ready() -> (Authority, [Pair; 2]) {
    let authority = Authority::new();
    let pairs = [TlsVersion::V12, TlsVersion::V13].map(|version| {
        let loaded = load(&TlsConfig { oldest: version, newest: version, ..settings(&authority) });
        established(&loaded, &connector(&verifying(&authority)), "a.example.org")
    });
    (authority, pairs)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

/// Sends all of it from the server, over what room there is; the most that the server kept meanwhile.
fn download(pair: &mut Pair, plain: &[u8]) -> usize {
    let (mut sent, mut most) = (0, 0);
    loop {
        sent += pair.server.send(&plain[sent..]).unwrap();
        most = most.max(pair.server.side.buffered());
        assert!(sent == plain.len() || pair.server.side.wants_write());
        if !pair.carry() {
            break;
        }
        pair.client.receive().unwrap();
    }
    assert_eq!(sent, plain.len());
    most
}

#[test]
fn an_established_connection_carries_bytes_both_ways_and_holds_no_buffer() {
    for mut pair in ready().1 {
        pair.talk();
        assert_eq!((pair.client.side.buffered(), pair.server.side.buffered()), (0, 0));
        assert!(!pair.server.side.wants_write());
    }
}

#[test]
fn what_is_sent_arrives_however_the_wire_and_the_buffers_are_cut() {
    for pairs in [(1 << 20, 0, 1 << 16), (1000, 0, 1 << 16), (40_000, 1447, 1 << 16), (100_000, 0, 100), (70_000, 1, 3)]
    {
        let (room, step, buffer) = pairs;
        for mut pair in ready().1 {
            (pair.server.wire.room, pair.client.wire.step, pair.client.buffer) = (room, step, buffer);
            let plain = bytes(if step == 1 { 100_000 } else { 1_000_000 });
            let most = download(&mut pair, &plain);
            assert!(pair.client.got == plain, "{pairs:?}");
            assert!(most <= 2 * 65_536, "{most} bytes are kept: {pairs:?}");
            assert_eq!((pair.client.side.buffered(), pair.server.side.buffered()), (0, 0), "{pairs:?}");
        }
    }
}

#[test]
fn records_are_full() {
    for mut pair in ready().1 {
        assert_eq!(pair.server.send(&bytes(1 << 16)).unwrap(), 1 << 16);
        let wire = &pair.server.wire.outgoing;
        let (mut at, mut records) = (0, 0);
        while at < wire.len() {
            at += 5 + usize::from(u16::from_be_bytes([wire[at + 3], wire[at + 4]]));
            records += 1;
        }
        assert_eq!(records, 4);
    }
}

#[test]
fn a_socket_that_takes_nothing_is_given_nothing_more() {
    for mut pair in ready().1 {
        pair.server.wire.room = 0;
        let plain = bytes(1 << 20);
        let taken = pair.server.send(&plain).unwrap();
        assert!(taken > 0 && taken <= 1 << 16, "{taken}");
        assert!(pair.server.side.wants_write());
        assert_eq!(pair.server.send(&plain[taken..]).unwrap(), 0);
        assert!(!pair.server.side.flush(&mut pair.server.wire).unwrap());
        pair.server.wire.room = 1 << 20;
        assert!(pair.server.side.flush(&mut pair.server.wire).unwrap());
        pair.carry();
        pair.client.receive().unwrap();
        assert!(pair.client.got == plain[..taken]);
    }
}

#[test]
fn a_direction_that_is_closed_leaves_the_other_open() {
    for mut pair in ready().1 {
        pair.client.send(b"last").unwrap();
        assert!(pair.client.side.shutdown(&mut pair.client.wire).unwrap());
        assert_eq!(pair.client.send(b"more").unwrap_err().kind(), ErrorKind::BrokenPipe);
        pair.carry();
        pair.server.wire.ended = true;
        pair.server.receive().unwrap();
        assert_eq!((pair.server.got.as_slice(), pair.server.end), (b"last".as_slice(), Some(Received::Closed)));
        let plain = bytes(300_000);
        download(&mut pair, &plain);
        assert!(pair.client.got == plain);
        assert!(pair.server.side.shutdown(&mut pair.server.wire).unwrap());
        pair.carry();
        pair.client.receive().unwrap();
        assert_eq!(pair.client.end, Some(Received::Closed));
        assert!(pair.client.side.shutdown(&mut pair.client.wire).unwrap());
        assert!(!pair.carry(), "a second close_notify");
    }
}

#[test]
fn an_end_that_came_with_the_last_bytes_is_still_to_be_received() {
    for mut pair in ready().1 {
        pair.client.send(b"bye").unwrap();
        assert!(pair.client.side.shutdown(&mut pair.client.wire).unwrap());
        pair.carry();
        let server = &mut pair.server;
        let mut into = [0; 100];
        let received = server.side.receive(&mut server.wire, &mut server.scratch, &mut into).unwrap();
        assert_eq!(received, Received::Plain(3));
        // Nobody is told once more.
        assert!(!server.side.drained());
        assert_eq!(server.side.receive(&mut server.wire, &mut server.scratch, &mut into).unwrap(), Received::Closed);
    }
}

#[test]
fn a_close_waits_behind_what_the_socket_has_not_taken() {
    for mut pair in ready().1 {
        pair.server.wire.room = 100;
        let plain = bytes(50_000);
        assert_eq!(pair.server.send(&plain).unwrap(), plain.len());
        assert!(!pair.server.side.shutdown(&mut pair.server.wire).unwrap());
        while pair.carry() {
            pair.client.receive().unwrap();
            let _ = pair.server.side.flush(&mut pair.server.wire).unwrap();
        }
        assert!(pair.client.got == plain && pair.client.end == Some(Received::Closed));
    }
}

#[test]
fn an_end_without_a_close_is_told_apart_even_within_a_record() {
    for cut in [0, 1, 20] {
        for mut pair in ready().1 {
            pair.client.send(b"whole").unwrap();
            pair.carry();
            pair.client.send(b"not whole").unwrap();
            let kept = pair.client.wire.outgoing.len().min(cut);
            pair.client.wire.outgoing.truncate(kept);
            pair.carry();
            pair.server.wire.ended = true;
            pair.server.receive().unwrap();
            assert_eq!((pair.server.got.as_slice(), pair.server.end), (b"whole".as_slice(), Some(Received::Truncated)));
            assert_eq!(pair.server.side.buffered(), 0);
        }
    }
}

#[test]
fn nothing_is_taken_before_the_handshake_is_over() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    let mut pair = pair(&loaded, &connector, "a.example.org");
    assert!(pair.client.side.is_handshaking() && pair.client.side.wants_write());
    assert_eq!(pair.client.send(b"early").unwrap(), 0);
    assert_eq!(pair.server.send(b"early").unwrap(), 0);
    pair.handshake().unwrap();
    pair.talk();
}

#[test]
fn without_a_buffer_the_handshake_goes_on_and_what_is_behind_it_waits() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    let mut pair = pair(&loaded, &connector, "a.example.org");
    let plain = bytes(1 << 20);
    let mut sent = 0;
    loop {
        pair.client.side.flush(&mut pair.client.wire).unwrap();
        sent += pair.client.send(&plain[sent..]).unwrap();
        pair.carry();
        let server = &mut pair.server;
        let received = server.side.receive(&mut server.wire, &mut server.scratch, &mut []).unwrap();
        if received == Received::Plain(0) {
            break;
        }
        assert_eq!(received, Received::Blocked);
        pair.carry();
        pair.client.receive().unwrap();
    }
    assert!(!pair.server.side.is_handshaking() && sent > 100_000);
    assert!(pair.server.side.buffered() < 64 * 1024, "{}", pair.server.side.buffered());
    assert!(!pair.server.side.drained());
    while sent < plain.len() || pair.client.side.wants_write() {
        sent += pair.client.send(&plain[sent..]).unwrap();
        pair.carry();
        pair.server.receive().unwrap();
    }
    assert!(pair.server.got == plain);
}

#[test]
fn a_handshake_succeeds_byte_by_byte() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    let mut pair = pair(&loaded, &connector, "a.example.org");
    (pair.client.wire.step, pair.server.wire.step) = (1, 1);
    pair.handshake().unwrap();
    pair.talk();
}

#[test]
fn a_record_that_was_changed_ends_the_connection_and_is_not_given_out() {
    for mut pair in ready().1 {
        pair.client.send(b"first").unwrap();
        pair.carry();
        pair.client.send(b"second").unwrap();
        *pair.client.wire.outgoing.last_mut().unwrap() ^= 1;
        pair.carry();
        let error = pair.server.receive().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert_eq!(pair.server.got, b"first");
        assert_eq!(pair.server.receive().unwrap_err().kind(), ErrorKind::InvalidData);
        assert!(pair.server.send(b"no").is_err());
        pair.carry();
        assert!(pair.client.receive().unwrap_err().to_string().contains("BadRecordMac"));
    }
}

#[test]
fn what_is_no_hello_is_refused_and_takes_no_memory() {
    let authority = Authority::new();
    let loaded = load(&settings(&authority));
    let length_of_17_kb = [22, 3, 1, 0x44, 0];
    let fragments_of_a_long_message = |header: [u8; 4]| {
        let mut wire = vec![22, 3, 1, 0x40, 0];
        wire.extend_from_slice(&header);
        wire.resize(5 + 0x4000, 0);
        for _ in 0..6 {
            wire.extend_from_slice(&[22, 3, 1, 0x40, 0]);
            wire.extend_from_slice(&[0; 0x4000]);
        }
        wire
    };
    for wire in [
        b"GET / HTTP/1.1\r\nHost: a.example.org\r\n\r\n".to_vec(),
        vec![0; 100],
        bytes(100_000),
        vec![0xff; 100_000],
        [length_of_17_kb.as_slice(), &[0; 0x4400]].concat(),
        fragments_of_a_long_message([1, 0, 0xff, 0xff]),
        fragments_of_a_long_message([1, 0xff, 0xff, 0xff]),
        // An alert, a change of ciphers, bytes of the application.
        vec![21, 3, 3, 0, 2, 2, 40],
        vec![23, 3, 3, 0, 2, 2, 40],
    ] {
        let mut end = pipe::End::new(TlsSide::accept(Arc::clone(&loaded.config)).unwrap());
        end.wire.incoming.extend(&wire);
        let error = end.receive().expect_err(&format!("{:?}", &wire[..7]));
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        assert!(end.side.buffered() < 1024, "{} of {:?}", end.side.buffered(), &wire[..7]);
    }
}

#[test]
fn a_hello_that_is_cut_short_is_waited_for_and_its_end_told() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    let mut hello = Vec::new();
    connector.connect("a.example.org").unwrap().flush(&mut hello).unwrap();
    for length in 0..hello.len() {
        let mut end = pipe::End::new(TlsSide::accept(Arc::clone(&loaded.config)).unwrap());
        end.wire.incoming.write_all(&hello[..length]).unwrap();
        end.receive().unwrap();
        assert!(end.side.is_handshaking() && end.end.is_none() && end.wire.outgoing.is_empty());
        assert!(end.side.buffered() <= length);
        end.wire.ended = true;
        end.receive().unwrap();
        assert_eq!(end.end, Some(Received::Truncated));
    }
}

#[test]
fn a_flight_with_any_byte_changed_does_no_more_than_fail() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    for from_client in [true, false] {
        let mut at = 0;
        loop {
            let mut pair = pair(&loaded, &connector, "a.example.org");
            pair.client.side.flush(&mut pair.client.wire).unwrap();
            if !from_client {
                pair.carry();
                pair.server.receive().unwrap();
            }
            let flight = if from_client { &mut pair.client.wire.outgoing } else { &mut pair.server.wire.outgoing };
            let Some(byte) = flight.get_mut(at) else {
                break;
            };
            *byte ^= 0x81;
            // A record's version is looked at by nobody. Anything else would leave different transcripts of the handshake.
            let outcome = pair.settle();
            let waits = pair.client.side.is_handshaking() || pair.server.side.is_handshaking();
            assert!(outcome.is_err() || waits || at == 2, "byte {at}");
            at += if from_client { 3 } else { 31 };
        }
        assert!(at > 200);
    }
}
