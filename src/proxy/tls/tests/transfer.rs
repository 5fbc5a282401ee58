//! Bytes over an established connection.

use super::super::Received;
use super::*;

fn ready() -> (Authority, Pair) {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    let pair = established(&loaded, &connector, "a.example.org");
    (authority, pair)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 % 251) as u8).collect()
}

#[test]
fn an_established_connection_carries_bytes_both_ways_and_holds_no_buffer() {
    let (_authority, mut pair) = ready();
    pair.talk();
    assert_eq!((pair.client.side.buffered(), pair.server.side.buffered()), (0, 0));
    assert!(!pair.server.side.wants_write());
}
