//! Flows through changes of the tables: the program and the engine behind it do what the engine alone does.

use std::sync::Arc;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use pen_dsr::counters::Counters;
use pen_dsr::engine::{Engine, Station};
use pen_dsr::lb::acl::{Acl, Action, Rule};
use pen_dsr::lb::flow::{Memory, Shape};
use pen_dsr::lb::maglev::{Member, Table};
use pen_dsr::lb::{Backend, ClientHash, Generation, Protocols, Service, Settings, Tables, Vip};
use pen_dsr::wire::ether::Mac;

use crate::golden::config::SEED;
use crate::golden::frames::{Packet, ROUTER};
use crate::harness::Bench;
use crate::random::Random;

const OWN: Mac = Mac([2, 0, 0, 0, 0, 0xaa]);
const VIPS: [&str; 2] = ["10.0.0.100", "fd00::100"];
const BACKENDS: usize = 4;
const STEPS: usize = 60_000;

/// How the backends stand, at random: in service or not, found or not, with their flows or without, and now and then one in
/// the place of another.
struct Stand {
    backends: Vec<Backend>,
    generations: [Generation; 2],
}

impl Stand {
    fn new() -> Stand {
        let backends: Vec<Backend> = (0..BACKENDS).map(|n| Backend::up(Mac([2, 0, 0, 0, 1, n as u8]))).collect();
        let all = generation(&backends);
        Stand { backends, generations: [all.clone(), all] }
    }

    fn change(&mut self, random: &mut Random) -> Tables {
        let number = random.below(BACKENDS);
        let backend = &mut self.backends[number];
        match random.below(6) {
            0 | 1 => {
                backend.in_service ^= true;
                backend.keeps_flows = backend.in_service || random.permille(500);
            }
            2 => backend.mac = backend.mac.xor(Some(Mac([2, 0, 0, 0, 1, number as u8]))),
            3 => backend.keeps_flows ^= true,
            4 => backend.epoch = backend.epoch.wrapping_add(1),
            _ => {}
        }
        let current = generation(&self.backends);
        if random.permille(700) {
            self.generations.rotate_right(1);
        }
        self.generations[0] = current;
        let [current, previous] = self.generations.clone();
        let previous = random.permille(600).then_some(previous);
        let rule = |action, text: &str| Rule { action, network: text.parse().expect("a network") };
        let some = Acl::new(vec![rule(Action::Deny, "10.0.0.16/28"), rule(Action::Permit, "0.0.0.0/0")]);
        let list = random.permille(200).then(|| Arc::new(some));
        let refuses = random.permille(500);
        let service = |port, protocols| Service {
            previous: previous.clone(),
            acl: list.clone(),
            refuses,
            ..Service::new(port, protocols, current.clone())
        };
        let services = || match number % 3 {
            0 => vec![service(0, Protocols::All)],
            1 => vec![service(0, Protocols::Tcp), service(53, Protocols::Udp)],
            _ => vec![service(80, Protocols::Tcp), service(0, Protocols::All)],
        };
        let vip = |(number, text): (usize, &str)| Vip {
            address: text.parse().expect("an address"),
            number,
            services: services(),
        };
        let vips = VIPS.into_iter().enumerate().map(vip).collect();
        let sources = if random.permille(300) { vec!["10.0.0.33".parse().expect("an address")] } else { Vec::new() };
        let settings = Settings { probe_sources: sources, silent: random.permille(100), ..Settings::default() };
        Tables::new(vips, self.backends.clone(), settings)
    }
}

fn generation(backends: &[Backend]) -> Generation {
    let member = |(n, backend): (usize, &Backend)| {
        let share = if backend.in_service { 100 } else { 0 };
        Member { share, ..Member::up(&format!("be{n}"), 1) }
    };
    let members: Vec<Member> = backends.iter().enumerate().map(member).collect();
    Generation { hash: ClientHash::new(SEED, false), slots: Arc::new(Table::build(&members, SEED, 251)) }
}

/// A packet of one of some hundred flows, of any kind.
fn frame(random: &mut Random) -> Vec<u8> {
    let (flow, port) = (random.below(48), random.pick(&[53, 80]));
    let (client, vip) =
        if random.permille(700) { (format!("10.0.0.{flow}"), VIPS[0]) } else { (format!("fd00::{flow:x}"), VIPS[1]) };
    let packet = Packet::new(OWN.0, &client, vip).sent_by(ROUTER);
    let source = 1000 + flow as u16;
    if random.permille(300) {
        return packet.udp(source, port, b"datagram");
    }
    let mut frame = packet.tcp(source, port, b"");
    // Where the flags are: behind the ports, sequence, acknowledgement and offset.
    let at = frame.len() - 20 + 13;
    frame[at] = random.pick(&[0x02, 0x02, 0x10, 0x10, 0x10, 0x18, 0x11, 0x14, 0x12, 0x00, 0x04]);
    frame
}

/// Those that this thread may run on.
fn processors() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("processors");
    (0..CpuSet::count()).filter(|&n| set.is_set(n).unwrap_or(false)).collect()
}

/// Goes on with the `n`-th of `processors`.
fn turn(n: usize, processors: &[usize]) {
    let mut set = CpuSet::new();
    set.set(processors[n]).expect("a processor");
    sched_setaffinity(Pid::from_raw(0), &set).expect("a processor that there is");
}

#[test]
fn flows_fare_alike_through_every_change_of_the_tables() {
    let mut random = Random::new(7, 7);
    let mut stand = Stand::new();
    let station = Station::new(OWN);
    let first = stand.change(&mut random);
    let Some(mut bench) = Bench::new("changes", first.clone(), station) else { return };
    let memory = Memory::fresh(Shape::of(1 << 16), SEED.keys()).expect("memory");
    let counters = Arc::new(Counters::new(BACKENDS, VIPS.len()));
    let mut alone = Engine::new(station, Arc::new(first), SEED, memory, counters, Instant::now());
    let (mut changes, mut in_kernel) = (0, 0);
    let processors = processors();
    for step in 0..STEPS {
        if random.permille(5) {
            bench.beat();
            changes += 1;
            let tables = Arc::new(stand.change(&mut random));
            bench.install(Arc::clone(&tables));
            alone.install(tables);
            // What waited for a backend leaves by both.
            assert_eq!(Bench::fetch(&mut bench.engine), Bench::fetch(&mut alone), "step {step}, change {changes}");
        }
        if random.permille(20) {
            // What one processor remembers must not mislead another.
            turn(random.below(processors.len()), &processors);
        }
        let frame = frame(&mut random);
        let (is, by_program) = bench.show(&frame);
        assert_eq!(is, Bench::ask(&mut alone, &frame), "step {step}, change {changes}: {frame:02x?}");
        in_kernel += usize::from(by_program);
    }
    println!("{STEPS} packets through {changes} changes: {in_kernel} by the program");
    assert!(changes > 200 && in_kernel > STEPS / 3);
}
