//! Ports over a real wire: a pair of veth interfaces in a network of its own. The golden table (`tests/golden/`) goes in
//! at one end, raw; what comes back, what is left to the host and what nobody gets is compared with it byte by byte.
//!
//! Where no namespaces can be made, or a port cannot be opened, it says SKIPPED and why.

#![cfg(target_os = "linux")]

#[path = "golden/mod.rs"]
mod golden;
#[path = "wire/numbered.rs"]
mod numbered;
#[path = "wire/raw.rs"]
mod raw;
#[path = "common/sandbox.rs"]
mod sandbox;
#[path = "wire/table.rs"]
mod table;

use std::io;
use std::sync::Arc;

use golden::config;
use pen_dsr::engine::Engine;
use pen_dsr::lb::flow::Shape;
use pen_dsr::os::{Interface, Program, Wanted};
use pen_dsr::port::WakeReceiver;
use pen_dsr::port::packet::PacketPort;
use pen_dsr::port::ring::{self, RingPort};
use pen_dsr::xdp::Attached;
use pen_dsr::xdp::image::{Image, Lists};

/// An MTU that a program in a driver takes: a frame is in one page, with some room.
const PAGE: usize = 3000;
/// Places for flows in the program's table.
const FLOWS: usize = 1024;

#[test]
fn the_packet_port_passes_the_golden_table() {
    table::passes("the_packet_port_passes_the_golden_table", PacketPort::open);
}

/// One port on a mapped ring, which has the interface for itself.
fn ring_port(near: &Interface, wanted: &Wanted, wake: WakeReceiver) -> io::Result<RingPort> {
    let (mut ports, _filters) = ring::open(near, wanted, vec![wake])?;
    Ok(ports.remove(0))
}

#[test]
fn the_ring_port_passes_the_golden_table() {
    table::passes("the_ring_port_passes_the_golden_table", ring_port);
}

/// The program of the driver xdp before a port; it decides by the golden configuration, as `engine` does.
fn program(near: &Interface, engine: &mut Engine, mode: Attached) -> io::Result<Program> {
    let mut program = Program::load(near, Shape::of(FLOWS), None)?;
    engine.flows().keep_elsewhere(Box::new(program.flows()?));
    let tables = Arc::new(config::tables(false));
    let mut lists = Lists::default();
    program.install(Image::new(&tables, &config::station(), config::SEED.keys(), true, |acl| lists.number(acl).0))?;
    program.attach(near.index, &[mode])?;
    Ok(program)
}

/// One that has nothing to decide by, and so passes all on: the far end takes what a program in the near one's driver sends
/// only if it has one itself, too (veth).
fn idle_program() -> io::Result<Program> {
    let far = Interface::find(table::FAR).map_err(|failure| io::Error::other(failure.message))?;
    let mut program = Program::load(&far, Shape::of(FLOWS), None)?;
    program.attach(far.index, &[Attached::Native])?;
    Ok(program)
}

/// Of the rows that come back, these are the program's.
fn in_the_kernel(rows: Option<usize>) {
    assert!(rows.is_none_or(|rows| rows > 30), "{rows:?} without the engine");
}

/// The program behind the driver, and how it is told that its process is there.
fn behind_the_driver(near: &Interface, engine: &mut Engine) -> io::Result<impl FnMut() + use<>> {
    let mut program = program(near, engine, Attached::Generic)?;
    Ok(move || program.beat())
}

/// The same in the driver.
fn in_the_driver(near: &Interface, engine: &mut Engine) -> io::Result<impl FnMut() + use<>> {
    let (mut idle, mut program) = (idle_program()?, program(near, engine, Attached::Native)?);
    Ok(move || {
        program.beat();
        idle.beat();
    })
}

#[test]
fn the_program_before_the_packet_port_passes_the_golden_table() {
    let name = "the_program_before_the_packet_port_passes_the_golden_table";
    in_the_kernel(table::passes_behind(name, table::ANY, behind_the_driver, PacketPort::open));
}

#[test]
fn the_program_before_the_ring_port_passes_the_golden_table() {
    let name = "the_program_before_the_ring_port_passes_the_golden_table";
    in_the_kernel(table::passes_behind(name, table::ANY, behind_the_driver, ring_port));
}

#[test]
fn the_program_in_the_driver_before_the_ring_port_passes_the_golden_table() {
    let name = "the_program_in_the_driver_before_the_ring_port_passes_the_golden_table";
    in_the_kernel(table::passes_behind(name, PAGE, in_the_driver, ring_port));
}
