//! Ports over a real wire: a pair of veth interfaces in a network of its own. The golden table (`tests/golden/`) goes in
//! at one end, raw; what comes back, what is left to the host and what nobody gets is compared with it byte by byte.
//!
//! Where no namespaces can be made, or a port cannot be opened, it says SKIPPED and why.

#![cfg(target_os = "linux")]

#[path = "golden/mod.rs"]
mod golden;
#[path = "wire/raw.rs"]
mod raw;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "wire/table.rs"]
mod table;

use pen_dsr::port::packet::PacketPort;

#[test]
fn the_packet_port_passes_the_golden_table() {
    table::passes("the_packet_port_passes_the_golden_table", PacketPort::open);
}
