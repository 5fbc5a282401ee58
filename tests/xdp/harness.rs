//! The program and an engine behind it.

use std::sync::Arc;
use std::time::Instant;

use pen_dsr::counters::Counters;
use pen_dsr::engine::{Engine, Station};
use pen_dsr::lb::Tables;
use pen_dsr::lb::flow::{Memory, Shape};
use pen_dsr::os::{Interface, Program};
use pen_dsr::verdict::{DropReason, Verdict};
use pen_dsr::wire::ether::Mac;
use pen_dsr::xdp::Action;
use pen_dsr::xdp::image::{Image, Lists};

use crate::golden::Outcome;
use crate::golden::config::SEED;

/// What BPF_PROG_TEST_RUN takes: a page, less what the kernel keeps of it for itself.
const LONGEST: usize = 3072;
/// And what is no Ethernet frame.
const SHORTEST: usize = 14;

/// An interface that there is not: nothing is attached.
fn nowhere() -> Interface {
    Interface::virtual_port("none", Mac([2, 0, 0, 0, 0, 1]))
}

/// The two.
pub struct Bench {
    pub program: Program,
    pub engine: Engine,
    station: Station,
    lists: Lists,
    /// Does the process say before each frame that it is there? Where one frame takes its time, another would find nobody.
    pub beats: bool,
}

impl Bench {
    /// Both decide by `tables`. `None`, and a line that says why, where the kernel does not let us.
    pub fn new(name: &str, tables: Tables, station: Station) -> Option<Bench> {
        let shape = Shape::of(1 << 16);
        let mut program = match Program::load(&nowhere(), shape, None) {
            Ok(program) => program,
            Err(e) => {
                println!("SKIPPED xdp::{name}: {e}");
                return None;
            }
        };
        let memory = Memory::fresh(shape, SEED.keys()).expect("memory for a flow table");
        let counters = Arc::new(Counters::new(tables.backends().len(), tables.vips().len()));
        let tables = Arc::new(tables);
        let mut engine = Engine::new(station, Arc::clone(&tables), SEED, memory, counters, Instant::now());
        engine.flows().keep_elsewhere(Box::new(program.flows().expect("descriptors")));
        program.beat();
        let mut bench = Bench { program, engine, station, lists: Lists::default(), beats: true };
        bench.install(tables);
        Some(bench)
    }

    /// Both decide by `tables` from now on.
    pub fn install(&mut self, tables: Arc<Tables>) {
        let Bench { program, lists, .. } = self;
        let image = Image::new(&tables, &self.station, SEED.keys(), true, |acl| {
            let (number, is_new) = lists.number(acl);
            if is_new {
                program.permit(acl, number).expect("room for an access list");
            }
            number
        });
        self.program.install(image).expect("room for the tables");
        self.engine.install(tables);
    }

    /// The process is there.
    pub fn beat(&mut self) {
        self.program.beat();
    }

    /// What becomes of `frame`, and whether the program alone decided.
    pub fn show(&mut self, frame: &[u8]) -> (Outcome, bool) {
        if (SHORTEST..=LONGEST).contains(&frame.len()) {
            let before = self.program.totals();
            if self.beats {
                self.beat();
            }
            let (action, out) = self.program.test_run(frame).expect("a test run");
            let after = self.program.totals();
            assert_eq!(after.frames(), before.frames() + 1, "each frame is counted once");
            let dropped =
                if after.denied.frames > before.denied.frames { DropReason::Denied } else { DropReason::NoBackend };
            match action {
                Action::Transmit => return (Outcome { sent: vec![out], ..Outcome::default() }, true),
                Action::Drop => return (Outcome { dropped: Some(dropped), ..Outcome::default() }, true),
                Action::Pass => assert_eq!(out, frame, "passed on as it came"),
                Action::Other(number) => panic!("no action of the program's: {number}"),
            }
        }
        (Bench::ask(&mut self.engine, frame), false)
    }

    /// What `engine` makes of `frame`.
    pub fn ask(engine: &mut Engine, frame: &[u8]) -> Outcome {
        let mut frame = frame.to_vec();
        let mut outcome = Outcome::default();
        match engine.handle_frame(&mut frame) {
            Verdict::Transmit => outcome.sent.push(frame),
            Verdict::Host => outcome.to_host.push(frame),
            Verdict::Drop(reason) => outcome.dropped = Some(reason),
        }
        outcome.sent.extend(Bench::fetch(engine));
        outcome
    }

    /// What `engine` has to send besides.
    pub fn fetch(engine: &mut Engine) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| engine.poll_transmit()).collect()
    }
}
