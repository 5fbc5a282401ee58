//! `cargo bench --bench runtimes`: what a bare TCP relay costs by mio and by tokio, beside each other.
//!
//!     cargo bench --bench runtimes [-- [--rounds N] [--seconds S] [--cpus RELAY,LOAD[,TALKER]]]
//!
//! A relay is a thread that stays on one processor. On another one a thread is its clients and the server behind it; what
//! is downloaded is written by one more, on the third processor if there is one. All of it by loopback. Taken is the CPU
//! time, user and system, of the relay's thread (getrusage(2), RUSAGE_THREAD), divided by what was carried meanwhile; and
//! bytes of heap. What the kernel keeps for sockets is not in them. In a round each relay is started anew for each line
//! of the table, one relay behind the other, and another one is the first in the next round. Printed are medians of the
//! rounds; quotients are those of measurements of one round, with the least and the greatest behind their median.

#[path = "runtimes/by_mio.rs"]
mod by_mio;
#[path = "runtimes/by_tokio.rs"]
mod by_tokio;
#[path = "runtimes/load.rs"]
mod load;
mod machine;
#[path = "runtimes/options.rs"]
mod options;
#[path = "runtimes/relay.rs"]
mod relay;

use std::alloc::System;

use load::Load;
use machine::print_machine;
use options::Options;
use relay::Kind;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What is measured: name, with the unit of the figures; and how.
type Line = (&'static str, fn(&mut Load, &Options) -> f64);

const LINES: [Line; 5] = [
    ("us, a request, 64 connections that stay", |load, options| load.requests(64, options.time)),
    ("us, a request, one connection alone", |load, options| load.requests(1, options.time)),
    ("us, a new connection, 16 at a time", |load, options| load.connections(16, options.time)),
    ("us, a MB downloaded", |load, options| load.download(options.time)),
    ("bytes of heap, an idle connection", |load, options| load.idle(options.idle)),
];

/// The first is what the others are divided by.
const RELAYS: [(&str, Kind); 3] = [
    ("mio", Kind::Mio),
    ("tokio", Kind::Tokio { buffer: by_tokio::BUFFER }),
    ("tokio, 64 kB", Kind::Tokio { buffer: 64 << 10 }),
];

fn main() {
    let options = Options::from_words(std::env::args().skip(1)).unwrap_or_else(|wrong| {
        eprintln!("runtimes: {wrong}");
        std::process::exit(64);
    });
    print_machine(&options.command);
    println!(
        "relay on processor {}, load on {}, what is downloaded written on {}; {} rounds of {} ms",
        options.cpus[0],
        options.cpus[1],
        options.cpus[2],
        options.rounds,
        options.time.as_millis()
    );
    let mut seen = [const { [const { Vec::new() }; RELAYS.len()] }; LINES.len()];
    for round in 0..options.rounds {
        for ((_, measure), seen) in LINES.iter().zip(&mut seen) {
            for turn in 0..RELAYS.len() {
                let which = (round + turn) % RELAYS.len();
                let mut load = Load::on(RELAYS[which].1, options.cpus);
                seen[which].push(measure(&mut load, &options));
            }
        }
    }
    let [mio, tokio, tokio_64] = RELAYS.map(|(name, _)| name);
    println!("{:<42}{mio:>9}{tokio:>9}{tokio_64:>14}{:>20}{:>20}", "", "tokio/mio", "64 kB/mio");
    for ((name, _), [mio, tokio, tokio_64]) in LINES.iter().zip(&seen) {
        let figures = format!("{:>9.1}{:>9.1}{:>14.1}", median(mio), median(tokio), median(tokio_64));
        println!("{name:<42}{figures}{:>20}{:>20}", quotient(tokio, mio), quotient(tokio_64, mio));
    }
}

fn median(seen: &[f64]) -> f64 {
    let mut sorted = seen.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// Of the measurements of each round: median, least and greatest.
fn quotient(these: &[f64], those: &[f64]) -> String {
    let quotients: Vec<f64> = these.iter().zip(those).map(|(this, that)| this / that).collect();
    let least = quotients.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = quotients.iter().copied().fold(0.0, f64::max);
    let digits = if greatest < 10.0 { 2 } else { 0 };
    format!("{:.digits$} ({least:.digits$}-{greatest:.digits$})", median(&quotients))
}
