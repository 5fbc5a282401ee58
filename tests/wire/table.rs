//! The golden table through a port and an engine, a row at a time.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use pen_dsr::config::VipConfig;
use pen_dsr::engine::Engine;
use pen_dsr::lb::Protocols;
use pen_dsr::os::{IngressDrop, Interface, Wanted};
use pen_dsr::port::{Port, WakeReceiver, waker};
use pen_dsr::verdict::{DropReason, Verdict};

use crate::golden::config::{self, ALL, DEAD, OWN, SOME, UNRESOLVED};
use crate::golden::frames::{self, MacBytes, Tags};
use crate::golden::{Expect, Row, rows, text};
use crate::raw::{self, Incoming, Raw};
use crate::sandbox;

/// The end with the balancer, and the other one.
pub const NEAR: &str = "near";
pub const FAR: &str = "far";
/// The MTU of a wire that carries any frame whole.
pub const ANY: usize = 65535;
/// Nothing here takes this long, unless it does not work.
const PATIENCE: Duration = Duration::from_secs(45);
/// Who asks for a VIP behind each row's frame: the answer comes when all is done that the frame has caused.
const MARKER: MacBytes = [0x02, 0, 0, 0, 0xaa, 0xaa];
/// The shortest frame that a packet socket sends: an Ethernet header.
const SHORTEST: usize = 14;

/// Rows for the host of which it gets nothing all the same. The rules at ingress (docs/ARCHITECTURE.md) look neither at the
/// MAC nor behind the type of an echo request; the host, which has no VIP, would throw these away.
const KEPT_FROM_HOST: [&str; 7] = [
    "for a VIP, to somebody else's MAC",
    "for a VIP, v6, to somebody else's MAC",
    "for a VIP, to all MACs",
    "for a VIP, v6, to a group MAC",
    "v4 echo request with a code",
    "v4 echo request with options",
    "v6 echo request with an extension header",
];
/// The kernel itself throws it away when it takes the tag out, before anybody sees it.
const LOST_BY_KERNEL: &str = "802.1Q, cut in the tag";

/// Runs the test `name`: the engine behind the port that `open` opens passes the golden table.
pub fn passes<P: Port>(name: &str, open: impl FnOnce(&Interface, &Wanted, WakeReceiver) -> io::Result<P>) {
    passes_behind(name, ANY, |_, _| Ok(|| ()), open);
}

/// The same over a wire with that `mtu`, bytes, with what `attach` puts before the port; what that returns is called before
/// each row, and dropped at the end. How many rows came back without the engine; `None` where that was not tried here.
pub fn passes_behind<P: Port, B: FnMut()>(
    name: &str,
    mtu: usize,
    attach: impl FnOnce(&Interface, &mut Engine) -> io::Result<B>,
    open: impl FnOnce(&Interface, &Wanted, WakeReceiver) -> io::Result<P>,
) -> Option<usize> {
    if !sandbox::is_inside() {
        sandbox::enter(name).unwrap_or_else(|why| println!("SKIPPED wire::{name}: {why}"));
        return None;
    }
    lay_wire(mtu);
    let interface = Interface::find(NEAR).expect("the near end");
    let (_waker, wake) = waker().expect("a waker");
    let mut engine = config::engine(false, Instant::now());
    let opened = attach(&interface, &mut engine).and_then(|before| Ok((before, open(&interface, &wanted(), wake)?)));
    let (mut before, port) = match opened {
        Ok(opened) => opened,
        Err(e) => {
            println!("SKIPPED wire::{name}: {e}");
            return None;
        }
    };
    let mut wire = Wire::new(port, engine);
    let mut wrong = String::new();
    let mut tally = Tally::default();
    for row in rows() {
        if !(SHORTEST..=SHORTEST + mtu).contains(&row.frame.len()) {
            tally.not_sent += 1;
            continue;
        }
        before();
        let seen = wire.show(&row.frame);
        tally.count(&seen);
        if let Err(why) = judge(&row, &seen) {
            wrong += &format!("\n{}: {why}\n  in   {}\n  must {}", row.name, text::hex(&row.frame), must(&row));
            wrong += &format!("\n  is   {seen:?}");
        }
    }
    println!("{tally}");
    assert!(wrong.is_empty(), "{wrong}");
    assert!(tally.sent > 100 && tally.shown > 100 && tally.left_to_host > 50, "{tally}");
    Some(tally.without_engine)
}

/// Two ends that speak no IP themselves.
pub fn lay_wire(mtu: usize) {
    lay_wire_with(mtu, "");
}

/// The same, the near end with these `queues` in ip-link(8)'s words.
pub fn lay_wire_with(mtu: usize, queues: &str) {
    let script = format!(
        "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6
         ip link add {NEAR} address {} mtu {mtu} {queues} type veth peer name {FAR} mtu {mtu}
         ip link set {NEAR} up
         ip link set {FAR} up",
        pen_dsr::wire::ether::Mac(OWN)
    );
    let laid = Command::new("sh").args(["-ec", &script]).status().expect("a shell");
    assert!(laid.success(), "a wire");
    let began = Instant::now();
    while !Interface::find(NEAR).is_ok_and(|near| near.running) {
        assert!(began.elapsed() < PATIENCE, "no link");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn addresses(texts: &[&str; 2]) -> [std::net::IpAddr; 2] {
    texts.map(|text| text.parse().expect("an address"))
}

/// What a port has to let through for the golden configuration.
fn wanted() -> Wanted {
    let vips = [ALL, SOME, DEAD, UNRESOLVED].iter().flat_map(addresses).collect();
    Wanted { vips, probe_sources: addresses(&["10.0.0.2", "fd00::2"]).to_vec(), tarpit: Vec::new() }
}

/// The golden configuration's services.
fn services() -> Vec<VipConfig> {
    let mut services = Vec::new();
    for address in [ALL, DEAD, UNRESOLVED].iter().flat_map(addresses) {
        services.push(VipConfig::new(address, 0));
    }
    for address in addresses(&SOME) {
        services.push(VipConfig { protocols: Protocols::Tcp, ..VipConfig::new(address, 80) });
        services.push(VipConfig { protocols: Protocols::Udp, ..VipConfig::new(address, 53) });
    }
    services
}

/// What has become of a frame.
#[derive(Default)]
struct Seen {
    /// What came back over the wire, in its order.
    sent: Vec<Vec<u8>>,
    /// What the engine was shown, and what it said; nothing if the frame was sorted out before.
    shown: Vec<(Vec<u8>, Verdict)>,
    /// What went on to the host's protocols.
    host: Vec<Incoming>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.sent.iter().try_for_each(|frame| write!(f, "wire {}; ", text::hex(frame)))?;
        self.shown.iter().try_for_each(|(frame, said)| write!(f, "engine {} {said:?}; ", text::hex(frame)))?;
        self.host.iter().try_for_each(|copy| {
            write!(f, "host {} ({}); ", text::hex(&copy.frame), if copy.is_for_us { "its own" } else { "not its own" })
        })
    }
}

/// Both ends, with the balancer at the near one.
struct Wire<P> {
    port: P,
    engine: Engine,
    far: Raw,
    /// As the host's protocols would, one for each EtherType.
    host: Vec<Raw>,
    marker: Vec<u8>,
    _ingress: Option<IngressDrop>,
}

impl<P: Port> Wire<P> {
    fn new(port: P, engine: Engine) -> Wire<P> {
        // Before the host's protocols, as the balancer has it.
        let ingress = IngressDrop::install(NEAR, &services(), &wanted());
        if let Err(e) = &ingress {
            println!("the host gets what the balancer passes on, too: {e}");
        }
        let ethertypes: std::collections::BTreeSet<u16> =
            rows().iter().filter_map(|row| ethertype(&host_copy(&row.frame))).collect();
        let nobody = [0; 6];
        Wire {
            port,
            engine,
            far: Raw::open(FAR, raw::ALL),
            host: ethertypes.into_iter().map(|ethertype| Raw::open(NEAR, ethertype)).collect(),
            marker: frames::arp(frames::BROADCAST, 1, (MARKER, "10.0.0.77"), (nobody, ALL[0]), Tags::None),
            _ingress: ingress.ok(),
        }
    }

    /// Sends `frame`, and waits until all has happened that it causes.
    fn show(&mut self, frame: &[u8]) -> Seen {
        self.far.send(frame).unwrap_or_else(|e| panic!("a frame of {} bytes: {e}", frame.len()));
        self.far.send(&self.marker).expect("a marker");
        let mut seen = Seen::default();
        let until = Instant::now() + PATIENCE;
        let mut done = false;
        while !done {
            assert!(Instant::now() < until, "the marker does not return behind {seen:?}");
            self.port.wait(Some(Instant::now() + Duration::from_millis(20))).expect("waiting");
            self.drive(&mut seen);
            while let Some(incoming) = self.far.receive() {
                let is_marker = incoming.frame.starts_with(&MARKER);
                done |= is_marker;
                if !is_marker {
                    seen.sent.push(incoming.frame);
                }
            }
        }
        for socket in &mut self.host {
            while let Some(copy) = socket.receive() {
                if copy.frame.get(6..12) != Some(&MARKER) {
                    seen.host.push(copy);
                }
            }
        }
        seen
    }

    /// One by one: what the engine originates comes behind what it is about.
    fn drive(&mut self, seen: &mut Seen) {
        loop {
            let Wire { port, engine, .. } = self;
            let mut decide = |arm, frame: &mut [u8]| {
                let before = frame.to_vec();
                let verdict = engine.handle_frame_from(arm, frame);
                if before.get(6..12) != Some(&MARKER) {
                    seen.shown.push((before, verdict));
                }
                verdict
            };
            let driven = port.drive(1, &mut decide).expect("frames");
            while let Some(own) = engine.poll_transmit() {
                port.send(&own).expect("a frame sent");
            }
            if driven == 0 {
                // What the port still holds leaves with this.
                return port.wait(Some(Instant::now())).expect("waiting");
            }
        }
    }
}

/// The frame as the host's protocols get it: the kernel takes the first tag out.
fn host_copy(frame: &[u8]) -> Vec<u8> {
    let mut copy = frame.to_vec();
    if matches!(frame.get(12..14), Some([0x81, 0] | [0x88, 0xa8])) && frame.len() >= 18 {
        copy.drain(12..16);
    }
    copy
}

/// By which the kernel hands on an untagged frame; one with a length in its place is IEEE 802.2 (linux/if_ether.h).
fn ethertype(frame: &[u8]) -> Option<u16> {
    let field = u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?);
    Some(if field < 1536 { libc::ETH_P_802_2 as u16 } else { field })
}

fn must(row: &Row) -> String {
    text::outcome(&row.outcome())
}

/// Has become of the frame what the row says?
///
/// What the engine would drop may have been dropped before it, but not what it has to act on. Of a frame for the host, the
/// host gets its own copy; of one that was passed on, it has none that is its own.
fn judge(row: &Row, seen: &Seen) -> Result<(), String> {
    let outcome = row.outcome();
    if seen.sent != outcome.sent {
        return Err("another thing came back".to_owned());
    }
    match (&seen.shown[..], &row.expect) {
        ([], Expect::Drop(DropReason::Held | DropReason::Answered | DropReason::Probe) | Expect::Answer(_)) => {
            return Err("the engine was not asked".to_owned());
        }
        ([], _) => {}
        ([(shown, _)], _) if *shown != row.frame => return Err("the engine was shown another frame".to_owned()),
        ([(_, verdict)], expect) => {
            let right = match expect {
                Expect::Forward(_) | Expect::Answer(_) => *verdict == Verdict::Transmit,
                Expect::Host => *verdict == Verdict::Host,
                Expect::Drop(reason) => *verdict == Verdict::Drop(*reason),
            };
            if !right {
                return Err(format!("the engine said {verdict:?}"));
            }
        }
        (_, _) => return Err("the engine was asked more than once".to_owned()),
    }
    let copies: Vec<&Vec<u8>> = seen.host.iter().map(|copy| &copy.frame).collect();
    let is_kept = KEPT_FROM_HOST.contains(&row.name) || row.name == LOST_BY_KERNEL;
    match &row.expect {
        Expect::Host if is_kept && copies.is_empty() => Ok(()),
        Expect::Host if copies != [&host_copy(&row.frame)] => Err("the host did not get its copy, or more".to_owned()),
        Expect::Forward(_) if seen.host.iter().any(|copy| copy.is_for_us) => Err("the host got it, too".to_owned()),
        _ => Ok(()),
    }
}

/// How many rows went which way.
#[derive(Debug, Default)]
struct Tally {
    not_sent: usize,
    sent: usize,
    shown: usize,
    without_engine: usize,
    left_to_host: usize,
    verdicts: BTreeMap<String, usize>,
}

impl Tally {
    fn count(&mut self, seen: &Seen) {
        self.sent += usize::from(!seen.sent.is_empty());
        self.shown += usize::from(!seen.shown.is_empty());
        self.without_engine += usize::from(seen.shown.is_empty() && !seen.sent.is_empty());
        self.left_to_host += usize::from(seen.sent.is_empty() && !seen.host.is_empty());
        for (_, verdict) in &seen.shown {
            *self.verdicts.entry(format!("{verdict:?}")).or_default() += 1;
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { not_sent, sent, shown, without_engine, left_to_host, verdicts } = self;
        write!(
            f,
            "{sent} rows came back, {without_engine} of them without the engine, {left_to_host} went to the host, {shown} were shown to the engine ({verdicts:?}), \
             {not_sent} are no frames for a wire, or too long for this one"
        )
    }
}
