//! A frame that takes a shortcut fares as one that goes the long way.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pen_dsr::engine::Engine;
use pen_dsr::lb::{Backend, Tables};
use pen_dsr::wire::ether::Mac;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::golden::config::{self, ALL, BE1, VIP_MAC};
use crate::golden::frames::{Packet, ROUTER, padded};

/// What happens to both engines.
#[derive(Clone, Debug)]
enum Step {
    /// A frame of a flow, as it is or bent.
    Frame(Index, Option<Bend>),
    /// Time passes.
    Wait(Duration),
    /// Other tables.
    Install(usize),
}

#[derive(Clone, Debug)]
enum Bend {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Extend(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let at = any::<Index>;
    let bend = prop_oneof![
        4 => (at(), 0u8..8).prop_map(|(at, bit)| Bend::Flip(at, 1 << bit)),
        2 => (at(), any::<u8>()).prop_map(|(at, byte)| Bend::Set(at, byte)),
        1 => at().prop_map(Bend::Truncate),
        1 => (0usize..40).prop_map(Bend::Extend),
    ];
    let wait = prop_oneof![(0u64..5000).prop_map(Duration::from_millis), (0u64..9000).prop_map(Duration::from_secs),];
    prop_oneof![
        12 => at().prop_map(|flow| Step::Frame(flow, None)),
        12 => (at(), bend).prop_map(|(flow, bend)| Step::Frame(flow, Some(bend))),
        1 => wait.prop_map(Step::Wait),
        1 => (0usize..4).prop_map(Step::Install),
    ]
}

/// One engine that takes shortcuts, and one that does not.
struct Twins {
    with: Engine,
    without: Engine,
    now: Instant,
    taken: usize,
}

impl Twins {
    fn new() -> Twins {
        let now = Instant::now();
        Twins { with: config::engine(false, now), without: config::engine(false, now), now, taken: 0 }
    }

    fn both(&mut self) -> [&mut Engine; 2] {
        [&mut self.with, &mut self.without]
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        self.both().into_iter().for_each(|engine| engine.advance(now));
    }

    fn show(&mut self, frame: &[u8]) {
        // Asking is as good as going: the frame that follows is of the same flow at the same time.
        self.taken += usize::from(self.with.flows().take_shortcut(&mut frame.to_vec()).is_some());
        self.without.flows().forget_shortcuts();
        let outcome = self.both().map(|engine| {
            let mut buffer = frame.to_vec();
            let verdict = engine.handle_frame(&mut buffer);
            let counters = Arc::clone(engine.counters());
            let traffic = [&counters.received, &counters.transmitted, &counters.host].into_iter();
            let traffic = traffic.chain(&counters.backends).chain(&counters.vips);
            let traffic: Vec<_> = traffic.map(|traffic| (traffic.frames.get(), traffic.bytes.get())).collect();
            let mut flows: Vec<_> =
                engine.flows().flows().map(|(tag, owner, stage)| format!("{tag:?} {owner:?} {stage:?}")).collect();
            flows.sort();
            (verdict, buffer, traffic, flows)
        });
        assert_eq!(outcome[0], outcome[1]);
    }

    /// Shows all frames until each flow has been given its shortcut.
    fn repeat(&mut self) {
        (0..50).for_each(|_| frames().iter().for_each(|frame| self.show(frame)));
    }

    fn bring(&mut self, step: &Step) {
        match step {
            Step::Wait(time) => self.wait(*time),
            Step::Install(number) => {
                let tables = Arc::new(tables(*number));
                self.both().into_iter().for_each(|engine| engine.install(Arc::clone(&tables)));
            }
            Step::Frame(flow, bend) => {
                let mut frame = flow.get(&frames()).clone();
                match bend {
                    None => {}
                    Some(Bend::Flip(at, bit)) => *at.get_mut(&mut frame) ^= bit,
                    Some(Bend::Set(at, byte)) => *at.get_mut(&mut frame) = *byte,
                    Some(Bend::Truncate(at)) => frame.truncate(at.index(frame.len())),
                    Some(Bend::Extend(by)) => frame.extend(std::iter::repeat_n(0x55, *by)),
                }
                self.show(&frame);
            }
        }
    }
}

fn frames() -> Vec<Vec<u8>> {
    let clients = ["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2"];
    let packet = |client: &str| Packet::new(VIP_MAC, client, ALL[usize::from(client.contains(':'))]).sent_by(ROUTER);
    let both = |client: &str| [packet(client).tcp(40000, 80, b""), padded(packet(client).udp(40000, 53, b"question"))];
    clients.iter().flat_map(|client| both(client)).collect()
}

/// The golden tables; or the first backend has moved, has gone, or is another one by the same number.
fn tables(number: usize) -> Tables {
    let golden = config::tables(false);
    let mut backends = golden.backends().to_vec();
    backends[0] = match number {
        0 => backends[0],
        1 => Backend { mac: Some(Mac([2, 0, 0, 0, 0, 0x77])), ..backends[0] },
        2 => Backend { mac: None, in_service: false, keeps_flows: false, ..backends[0] },
        _ => Backend { epoch: 1, ..Backend::up(Mac(BE1)) },
    };
    Tables::new(golden.vips().to_vec(), backends, golden.settings().clone())
}

/// Both know the flows, and would not give them up for others.
fn established() -> Twins {
    let mut twins = Twins::new();
    for pause in [0, 0, 3] {
        twins.wait(Duration::from_secs(pause));
        frames().iter().for_each(|frame| twins.show(frame));
    }
    twins.repeat();
    twins
}

#[test]
fn packets_of_flows_that_have_lasted_take_a_shortcut_until_something_changes() {
    let mut twins = established();
    let all = frames().len();
    let taken = |twins: &mut Twins, step: &dyn Fn(&mut Twins)| {
        let before = twins.taken;
        step(twins);
        twins.taken - before
    };
    let show = |twins: &mut Twins| frames().iter().for_each(|frame| twins.show(frame));
    assert_eq!(taken(&mut twins, &show), all);
    twins.bring(&Step::Install(1));
    assert_eq!(taken(&mut twins, &show), 0, "other tables");
    twins.repeat();
    assert_eq!(taken(&mut twins, &show), all);
    twins.wait(Duration::from_secs(301));
    assert_eq!(taken(&mut twins, &show), all / 2, "UDP flows have expired");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_shortcut_changes_nothing_but_the_way(steps in prop::collection::vec(step(), 1..200)) {
        let mut twins = established();
        steps.iter().for_each(|step| twins.bring(step));
    }
}
