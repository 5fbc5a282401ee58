//! Malformed and random frames: the program and the engine behind it do exactly what the engine alone does, and every frame
//! is counted once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::golden::{self, config};
use crate::harness::Bench;
use crate::random::Random;

const FRAMES: usize = 200_000;
/// After so long without a word, the program takes the process for gone.
const A_SILENCE: Duration = Duration::from_millis(2200);

/// A golden frame with up to four changes near its front, or any bytes that begin as a frame to us.
fn frame(random: &mut Random, rows: &[golden::Row]) -> Vec<u8> {
    if random.permille(200) {
        let mut bytes: Vec<u8> = (0..random.within(14, 300)).map(|_| random.next() as u8).collect();
        bytes[..6].copy_from_slice(&config::VIP_MAC);
        let types: [[u8; 2]; 5] = [[8, 0], [0x86, 0xdd], [0x81, 0], [0x88, 0xa8], [8, 6]];
        bytes[12..14].copy_from_slice(&random.pick(&types));
        return bytes;
    }
    let mut frame = rows[random.below(rows.len())].frame.clone();
    for _ in 0..random.below(5) {
        let head = frame.len().min(100);
        if head < 15 {
            break;
        }
        let at = random.below(head);
        match random.below(6) {
            0 | 1 => frame[at] ^= 1 << random.below(8),
            2 | 3 => frame[at] = random.next() as u8,
            4 => frame.truncate(at.max(14)),
            _ => frame.extend((0..random.below(40)).map(|n| n as u8)),
        }
    }
    frame
}

#[test]
fn a_flood_of_malformed_and_random_frames_is_counted_and_nothing_is_missent() {
    flood("a flood", FRAMES, true);
}

/// The process has ended and left the program at work.
#[test]
fn nor_is_it_when_the_program_is_left_alone() {
    flood("a flood, left alone", FRAMES / 4, false);
}

fn flood(name: &str, frames: usize, beats: bool) {
    let Some(mut bench) = Bench::new(name, config::tables(false), config::station()) else { return };
    // As many flows as the program has room for: neither has to forget.
    let mut alone = config::engine_for(false, 1 << 16, Instant::now());
    let rows: Vec<golden::Row> =
        golden::rows().into_iter().filter(|row| (14..=1500).contains(&row.frame.len())).collect();
    let mut random = Random::new(1, u64::from(beats));
    let (mut in_kernel, mut sent) = (0_u64, 0_u64);
    bench.beats = beats;
    if !beats {
        std::thread::sleep(A_SILENCE);
    }
    for number in 0..frames {
        let frame = frame(&mut random, &rows);
        // A batch's worth at a time, as workers do, so that what waits for other fragments is given up alike.
        if number % 64 == 0 {
            let now = Instant::now();
            bench.engine.advance(now);
            alone.advance(now);
        }
        let (is, by_program) = bench.show(&frame);
        let must = Bench::ask(&mut alone, &frame);
        let who = if by_program { "the program" } else { "the engine" };
        assert_eq!(is.sent, must.sent, "frame {number}, {who}: {frame:02x?}");
        // An answer is a frame of its own, or in the place of the question.
        assert!(is == must || !beats && by_program, "frame {number}, {who}: {is:?}, {must:?}: {frame:02x?}");
        in_kernel += u64::from(by_program);
        sent += is.sent.len() as u64;
    }
    let (totals, counters) = (bench.program.totals(), Arc::clone(bench.engine.counters()));
    let decided = totals.frames() - totals.passed.frames;
    assert_eq!(decided, in_kernel);
    assert_eq!(totals.passed.frames, counters.received.frames.get(), "what it passes on, the engine has seen");
    assert_eq!(totals.frames(), frames as u64, "each frame once");
    println!(
        "{frames} frames: {in_kernel} by the program, of which {} were questions for MACs, {} by the engine; {sent} sent",
        totals.answered.frames, totals.passed.frames
    );
    assert!(in_kernel > frames as u64 / 20, "the program had something to decide");
    assert_eq!(totals.answered.frames > 0, !beats);
}
