//! Any bytes, and golden frames bent in any way, shown to the engine.

use std::time::Duration;

use pen_dsr::verdict::Verdict;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::golden::config::{OWN, VIP_MAC};
use crate::golden::{self, Expect};
use crate::invariants::Watched;

/// One change to a frame. Positions are drawn from its front, where the headers are.
#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Set(Index, u8),
    SetWord(Index, u16),
    Truncate(Index),
    Extend(Vec<u8>),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Graft(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    let bytes = |most| prop::collection::vec(any::<u8>(), 1..most);
    prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Change::Flip(at, 1 << bit)),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        2 => (at(), prop_oneof![0u16..64, any::<u16>()]).prop_map(|(at, word)| Change::SetWord(at, word)),
        2 => at().prop_map(Change::Truncate),
        1 => bytes(32).prop_map(Change::Extend),
        1 => (at(), bytes(16)).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (at(), 1usize..16).prop_map(|(at, n)| Change::Remove(at, n)),
        1 => (at(), at()).prop_map(|(at, other)| Change::Graft(at, other)),
    ]
}

impl Change {
    fn apply(&self, frame: &mut Vec<u8>, rows: &[golden::Row]) {
        let head = frame.len().min(120);
        if head < 2 {
            return;
        }
        match self {
            Change::Flip(at, bit) => frame[at.index(head)] ^= bit,
            Change::Set(at, byte) => frame[at.index(head)] = *byte,
            Change::SetWord(at, word) => {
                let at = at.index(head - 1);
                frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
            }
            Change::Truncate(at) => frame.truncate(at.index(head)),
            Change::Extend(bytes) => frame.extend(bytes),
            Change::Insert(at, bytes) => {
                let at = at.index(head);
                frame.splice(at..at, bytes.iter().copied());
            }
            Change::Remove(at, n) => {
                let at = at.index(head);
                frame.drain(at..frame.len().min(at + n));
            }
            Change::Graft(at, other) => {
                let at = at.index(head);
                let other = &other.get(rows).frame;
                frame.truncate(at);
                frame.extend(other.iter().skip(at));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_break_the_engine(
        mut frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..4),
        to_us in any::<bool>(),
        ethertype in prop::sample::select(vec![0x0800u16, 0x0806, 0x86dd, 0x8100, 0x88a8]),
    ) {
        let mut engine = Watched::new(false);
        for frame in &mut frames {
            if to_us && frame.len() >= 14 {
                frame[..6].copy_from_slice(&OWN);
                frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
            }
            engine.show(frame);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bent_frame_breaks_the_engine(
        picks in prop::collection::vec((any::<Index>(), prop::collection::vec(change(), 0..4), any::<bool>()), 1..8),
        with_port in any::<bool>(),
        pause in 0u64..3000,
    ) {
        let rows = golden::rows();
        let mut engine = Watched::new(with_port);
        for (pick, changes, to_us) in picks {
            let mut frame = pick.get(&rows).frame.clone();
            changes.iter().for_each(|change| change.apply(&mut frame, &rows));
            if to_us && frame.len() >= 6 {
                frame[..6].copy_from_slice(&VIP_MAC);
            }
            engine.show(&frame);
            engine.wait(Duration::from_millis(pause));
        }
    }
}

#[test]
fn every_golden_frame_cut_at_any_length_is_survived_and_not_forwarded() {
    let mut shown = 0;
    for row in golden::rows() {
        let mut engine = Watched::new(false);
        let is_forwarded = matches!(row.expect, Expect::Forward(_));
        // Behind the headers of a giant frame there is nothing more to be learnt byte by byte.
        let lengths = (0..row.frame.len()).filter(|length| *length < 300 || length % 256 == 0);
        for length in lengths {
            let (verdict, _) = engine.show(&row.frame[..length]);
            let lost_padding_only = row.name.contains("padded");
            assert!(!is_forwarded || lost_padding_only || verdict != Verdict::Transmit, "{} cut to {length}", row.name);
            shown += 1;
        }
    }
    assert!(shown > 10_000, "{shown} frames");
}

#[test]
fn the_same_frame_meets_the_same_fate_in_every_engine() {
    for row in golden::rows().iter().filter(|row| matches!(row.expect, Expect::Forward(_))) {
        let (mut one, mut other) = (Watched::new(true), Watched::new(true));
        assert_eq!(one.show(&row.frame), other.show(&row.frame), "{}", row.name);
    }
}
