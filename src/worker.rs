//! A worker: one thread that carries frames between one port and one engine.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::engine::{Engine, Event};
use crate::lb::Tables;
use crate::lb::flow::{Memory, Record};
use crate::port::{Port, Tally};

/// Frames between two looks at the clock and at the commands.
const BATCH: usize = 64;
/// Between two looks at what the port has counted.
const TALLY_INTERVAL: Duration = Duration::from_secs(1);

/// What a worker is told. After sending one, wake its port.
pub enum Command {
    /// Decide by these tables from now on.
    Install(Arc<Tables>),
    /// Send this frame.
    Send(Vec<u8>),
    /// Let this look at the engine, or change it, between two batches.
    Inspect(Box<dyn FnOnce(&mut Engine) + Send>),
    /// End.
    Stop,
}

/// What a worker tells.
#[derive(Debug)]
pub enum Report {
    /// Something learnt from the wire.
    Learnt(Event),
    /// The port is of no use any more; the worker has ended.
    Failed(io::Error),
}

/// What a worker hears and tells.
pub struct Channels {
    /// What it is told.
    pub commands: Receiver<Command>,
    /// What it tells.
    pub reports: Sender<Report>,
    /// Flows that another balancer is to know of.
    pub records: Sender<Vec<Record>>,
}

/// Carries frames until it is told to stop, its commands' other end is gone, or its port fails.
///
/// Sleeping and being woken costs more than a frame's whole way. So where frames follow each other within `busy_poll`,
/// the worker goes on looking for the next one for so long before it sleeps; where they are rarer, it sleeps at once.
///
/// Reports never hold it up: those that find no room are lost. What is remembered of flows is returned at the end, for the
/// worker that comes after this one.
pub fn run(mut port: impl Port, mut engine: Engine, busy_poll: Duration, channels: &Channels) -> Memory {
    let mut recorded = Tally::default();
    if let Err(e) = carry(&mut port, &mut engine, busy_poll, &mut recorded, channels) {
        let _ = channels.reports.try_send(Report::Failed(e));
    }
    // What was just decided about still leaves.
    let _ = port.wait(Some(Instant::now()));
    record(&mut port, &engine, &mut recorded);
    engine.into_memory()
}

fn carry(
    port: &mut impl Port,
    engine: &mut Engine,
    busy_poll: Duration,
    recorded: &mut Tally,
    channels: &Channels,
) -> io::Result<()> {
    let mut next_tally = Instant::now();
    let mut last_frame = next_tally;
    let mut busy_until = next_tally;
    loop {
        loop {
            match channels.commands.try_recv() {
                Ok(Command::Install(tables)) => engine.install(tables),
                Ok(Command::Send(frame)) => port.send(&frame)?,
                Ok(Command::Inspect(look)) => look(engine),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(()),
                Err(TryRecvError::Empty) => break,
            }
        }
        let now = Instant::now();
        engine.advance(now);
        if now >= next_tally {
            record(port, engine, recorded);
            next_tally = now + TALLY_INTERVAL;
        }
        let frames = port.drive(BATCH, &mut |arm, frame| engine.handle_frame_from(arm, frame))?;
        while let Some(frame) = engine.poll_transmit() {
            port.send(&frame)?;
        }
        while let Some(event) = engine.poll_event() {
            let _ = channels.reports.try_send(Report::Learnt(event));
        }
        let records = engine.flows().take_records();
        if !records.is_empty() {
            let _ = channels.records.try_send(records);
        }
        if frames > 0 {
            if now.duration_since(last_frame) <= busy_poll {
                busy_until = now + busy_poll;
            }
            last_frame = now;
        }
        if frames < BATCH && now >= busy_until {
            let until = engine.poll_timeout().map_or(next_tally, |deadline| deadline.min(next_tally));
            port.wait(Some(until))?;
        }
    }
}

/// Adds what the port has counted since it was `recorded` last to the counters.
fn record(port: &mut impl Port, engine: &Engine, recorded: &mut Tally) {
    let tally = port.tally();
    let counters = engine.counters();
    counters.send_failed.add(tally.send_failed.saturating_sub(recorded.send_failed));
    counters.overrun.add(tally.overrun.saturating_sub(recorded.overrun));
    counters.bad_slots.add(tally.bad_slots.saturating_sub(recorded.bad_slots));
    counters.ring_errors.add(tally.ring_errors.saturating_sub(recorded.ring_errors));
    counters.finished.add(tally.finished.saturating_sub(recorded.finished));
    counters.gave_up.add(tally.gave_up.saturating_sub(recorded.gave_up));
    counters.stuck.set(u64::from(tally.stuck));
    *recorded = tally;
}
