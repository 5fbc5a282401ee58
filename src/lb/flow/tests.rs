use super::*;
use std::net::IpAddr;

const MS: Duration = Duration::from_millis(1);
const A: Owner = Owner { backend: 0, epoch: 0 };
const B: Owner = Owner { backend: 1, epoch: 0 };

struct Bench {
    table: FlowTable,
    now: Instant,
}

impl Bench {
    fn new(entries: usize) -> Bench {
        let now = Instant::now();
        let memory = Memory::fresh(Shape::of(entries), (1, 2)).unwrap();
        let counters = Arc::new(FlowCounters::default());
        Bench { table: FlowTable::new(memory, &Timeouts::default(), counters, now, |_| true), now }
    }

    fn pass(&mut self, duration: Duration) {
        self.now += duration;
        self.table.advance(self.now);
    }

    /// A packet of flow number `n`: remembered with `owner` if it is not known. Who has it now.
    fn packet(&mut self, n: u32, owner: Owner, signal: Signal) -> Owner {
        let tag = self.table.tag(&flow(n));
        match self.table.find(tag) {
            Some(found) if !(found.stage.is_over() && signal == Signal::Open) => {
                self.table.refresh(tag, found, signal);
                found.owner
            }
            Some(found) => {
                self.table.replace(tag, found, owner, signal);
                owner
            }
            None => {
                self.table.insert(tag, owner, signal);
                owner
            }
        }
    }

    fn stage(&mut self, n: u32) -> Option<Stage> {
        let tag = self.table.tag(&flow(n));
        self.table.find(tag).map(|found| found.stage)
    }

    fn establish(&mut self, n: u32, owner: Owner) {
        self.packet(n, owner, Signal::Open);
        self.packet(n, owner, Signal::Segment);
    }

    /// The counters are what a count of the entries gives.
    fn check(&mut self) {
        let mut live = [0; 2];
        let mut total = 0;
        for (_, owner, stage) in self.table.flows().collect::<Vec<_>>() {
            total += 1;
            live[usize::from(owner.backend)] += u64::from(stage.is_live());
        }
        let counters = self.table.counters();
        assert_eq!((counters.total(), counters.live(0), counters.live(1)), (total, live[0], live[1]));
    }
}

fn flow(n: u32) -> Flow {
    let client = IpAddr::V4((0x0a00_0000 + n / 50_000).into());
    let vip = "192.0.2.1".parse().unwrap();
    Flow { client, client_port: (n % 50_000) as u16, vip, vip_port: 80, protocol: 6 }
}

#[test]
fn a_connection_goes_through_its_stages() {
    let mut b = Bench::new(1024);
    b.packet(1, A, Signal::Open);
    assert_eq!(b.stage(1), Some(Stage::Opening));
    assert_eq!(b.packet(1, B, Signal::Open), A, "a SYN that is sent again stays");
    b.packet(1, B, Signal::Segment);
    assert_eq!(b.stage(1), Some(Stage::Young));
    b.pass(3000 * MS);
    assert_eq!(b.packet(1, B, Signal::Segment), A);
    assert_eq!(b.stage(1), Some(Stage::Established));
    b.packet(1, B, Signal::Finish);
    b.packet(1, B, Signal::Segment);
    assert_eq!(b.stage(1), Some(Stage::Closing));
    assert_eq!(b.table.counters().live(0), 0);
    assert_eq!(b.packet(1, B, Signal::Open), B, "a SYN after the end opens another");
    b.check();
}

#[test]
fn a_reset_that_nobody_believes_ends_nothing() {
    let mut b = Bench::new(1024);
    b.establish(1, A);
    b.packet(1, B, Signal::Reset);
    assert_eq!((b.stage(1), b.table.counters().live(0)), (Some(Stage::Reset), 0));
    assert_eq!(b.packet(1, B, Signal::Segment), A);
    assert_eq!((b.stage(1), b.table.counters().live(0)), (Some(Stage::Established), 1));
    b.check();
}

#[test]
fn each_stage_has_its_timeout() {
    let t = Timeouts::default();
    for (signals, timeout) in [
        (&[Signal::Open][..], t.opening),
        (&[Signal::Open, Signal::Segment], t.established),
        (&[Signal::Open, Signal::Segment, Signal::Finish], t.closing),
        (&[Signal::Datagram], t.udp),
        (&[Signal::Datagram, Signal::Datagram], t.udp),
    ] {
        let mut b = Bench::new(1024);
        signals.iter().for_each(|signal| _ = b.packet(7, A, *signal));
        b.pass(timeout - 100 * MS);
        assert!(b.stage(7).is_some(), "{signals:?}");
        b.pass(200 * MS);
        assert_eq!(b.stage(7), None, "{signals:?}");
        b.check();
    }
}

#[test]
fn what_has_expired_is_found_without_being_asked_for() {
    let mut b = Bench::new(16384);
    (0..1000).for_each(|n| b.establish(n, A));
    (1000..1500).for_each(|n| _ = b.packet(n, B, Signal::Open));
    assert_eq!((b.table.counters().live(0), b.table.counters().live(1)), (1000, 500));
    b.pass(Timeouts::default().opening);
    for _ in 0..400 {
        b.pass(50 * MS);
    }
    b.check();
    assert_eq!((b.table.counters().live(0), b.table.counters().live(1)), (1000, 0));
    assert!(b.table.deadline().is_some());
}

#[test]
fn a_flood_of_first_packets_pushes_out_no_connection() {
    let mut b = Bench::new(16384);
    (0..2000).for_each(|n| b.establish(n, A));
    for (signal, first) in [(Signal::Open, 100_000), (Signal::Segment, 200_000), (Signal::Datagram, 300_000)] {
        (first..first + 100_000).for_each(|n| _ = b.packet(n, B, signal));
    }
    let known = (0..2000).filter(|&n| b.stage(n) == Some(Stage::Young)).count();
    assert_eq!(known, 2000);
    assert!(b.table.counters().displaced.get() > 200_000);
    b.check();
}

#[test]
fn a_flood_of_pairs_pushes_out_no_connection_that_has_lasted() {
    let mut b = Bench::new(16384);
    (0..2000).for_each(|n| b.establish(n, A));
    b.pass(2500 * MS);
    (0..2000).for_each(|n| _ = b.packet(n, A, Signal::Segment));
    (100_000..200_000).for_each(|n| b.establish(n, B));
    let known = (0..2000).filter(|&n| b.stage(n) == Some(Stage::Established)).count();
    assert_eq!(known, 2000);
    assert!(b.table.counters().evicted.get() > 80_000);
    b.check();
}

#[test]
fn what_makes_room_because_it_has_expired_was_not_pushed_out() {
    let mut b = Bench::new(1024);
    (0..200).for_each(|n| b.establish(n, A));
    (0..200).for_each(|n| _ = b.packet(n, A, Signal::Finish));
    b.now += Timeouts::default().closing + 100 * MS;
    // The time comes, but nobody looks through the table before the next packets.
    b.table.tick += ((Timeouts::default().closing + 100 * MS).as_millis() as u64 / TICK_MS) as u32;
    (1000..1200).for_each(|n| b.establish(n, B));
    assert_eq!(b.table.counters().evicted.get(), 0);
    b.check();
}

#[test]
fn a_full_table_remembers_no_more_and_breaks_nothing() {
    let mut b = Bench::new(1024);
    (0..3000).for_each(|n| b.establish(n, A));
    b.pass(2500 * MS);
    (0..3000).for_each(|n| _ = b.packet(n, A, Signal::Segment));
    (0..3000).for_each(|n| _ = b.packet(n, A, Signal::Segment));
    b.pass(2500 * MS);
    (0..3000).for_each(|n| _ = b.packet(n, A, Signal::Segment));
    b.check();
    assert!(b.table.counters().total() <= 1024 + 256);
    assert!(b.table.counters().full.get() > 0);
}

#[test]
fn memory_that_is_inherited_keeps_the_flows_whose_backends_are_known() {
    let shape = Shape::of(1024);
    let key = (3, 4);
    let mut map = memmap2::MmapMut::map_anon(shape.bytes()).unwrap();
    let now = Instant::now();
    let counters = || Arc::new(FlowCounters::default());
    let mut first = FlowTable::new(Memory::fresh(shape, key).unwrap(), &Timeouts::default(), counters(), now, |_| true);
    for n in 0..100 {
        let tag = first.tag(&flow(n));
        first.insert(tag, if n % 4 == 0 { B } else { A }, Signal::Open);
        let found = first.find(tag).unwrap();
        first.refresh(tag, found, Signal::Segment);
    }
    use zerocopy::IntoBytes;
    map.copy_from_slice(first.memory.sets().as_bytes());
    let age = Duration::from_secs(5);
    let memory = Memory::inherited(map, shape, key, age).unwrap();
    let mut second = FlowTable::new(memory, &Timeouts::default(), counters(), now, |owner| owner == A);
    let known = (0..100).filter(|&n| {
        let tag = second.tag(&flow(n));
        second.find(tag).is_some()
    });
    assert_eq!(known.count(), 75);
    assert_eq!((second.counters().live(0), second.counters().live(1)), (75, 0));
}
