//! An interface with the host's stack behind it, on a segment with a client and two backends.

use nix::sys::signal::Signal;

use crate::harness::{Machine, Process, machine, run, skipped, wait_until};
use crate::load::macs;
use crate::roles;
use crate::system::{INTERFACE, Segment};

pub const VIP: &str = "10.77.0.100";
pub const LB: &str = "10.77.0.2";
pub const LB_MAC: [u8; 6] = [2, 0, 0, 0, 0x77, 2];
const CLIENTS: [&str; 8] =
    ["10.77.0.1", "10.77.0.21", "10.77.0.22", "10.77.0.23", "10.77.0.24", "10.77.0.25", "10.77.0.26", "10.77.0.27"];
const SERVERS: [(&str, &str); 2] = [("be1", "10.77.0.11"), ("be2", "10.77.0.12")];
/// What a client asks for: more than its questions and acknowledgements by far.
const BYTES: usize = 300_000;

/// The segment with its servers.
pub struct Lab<'a> {
    pub machine: &'a Machine,
    pub segment: Segment,
    // Ended before their hosts are taken away.
    servers: Vec<Process>,
}

/// Runs `body` in a lab, if one can be had.
pub fn lab(name: &'static str, body: impl FnOnce(&Lab<'_>)) {
    machine(name, |machine| lab_of(machine, body));
}

/// The same, on a machine that the test has already.
pub fn lab_of(machine: &Machine, body: impl FnOnce(&Lab<'_>)) {
    let hosts = [
        ("client", [2, 0, 0, 0, 0x77, 1]),
        ("lb", LB_MAC),
        ("be1", [2, 0, 0, 0, 0x77, 0x11]),
        ("be2", [2, 0, 0, 0, 0x77, 0x12]),
    ];
    let segment = match Segment::up(&machine.word(), &hosts) {
        Ok(segment) => segment,
        Err(why) => return skipped(machine.name, &why),
    };
    CLIENTS.iter().for_each(|address| segment.add_address("client", address));
    segment.add_address("lb", LB);
    let mut lab = Lab { machine, segment, servers: Vec::new() };
    for (host, address) in SERVERS {
        lab.segment.add_address(host, address);
        lab.segment.add_silent_address(host, VIP);
        lab.serve(host, &format!("{VIP}:8080"));
    }
    lab.serve("lb", &format!("{LB}:9000"));
    body(&lab);
}

impl Lab<'_> {
    fn serve(&mut self, host: &str, at: &str) {
        let mut command = self.segment.command(host, "env");
        roles::cast(&mut command, self.machine.name, &["serve", at, host]);
        let server = self.machine.start(host, command);
        server.wait_for("the server", |log| !roles::lines(log).is_empty());
        self.servers.push(server);
    }

    /// Starts pen-dsr on the balancer's interface, with these options; its backends are up when this returns.
    pub fn balancer(&self, options: &str) -> Process {
        let backends = SERVERS.map(|(_, address)| address).join(" ");
        let command = self.segment.command("lb", crate::harness::PEN_DSR);
        let line = format!("-i netmap:{INTERFACE} {options} {VIP} {backends}");
        let balancer = self.machine.balancer_by(command, &line);
        self.wait_up();
        balancer
    }

    /// Waits until both backends are up.
    pub fn wait_up(&self) {
        wait_until("the backends to be up", || {
            SERVERS.iter().all(|(_, address)| self.machine.server(address, "state") == "up")
        });
    }

    /// Has the client ask `target` from these addresses; who has answered whom: `SOURCE NAME PEER`.
    pub fn try_ask(&self, target: &str, bytes: usize, sources: &[&str]) -> Result<Vec<String>, String> {
        let mut command = self.segment.command("client", "env");
        let amount = bytes.to_string();
        roles::cast(&mut command, self.machine.name, &[&["ask", target, &amount], sources].concat());
        let output = command.output().expect("it starts");
        let lines = roles::lines(&crate::harness::text(&output));
        if output.status.success() { Ok(lines) } else { Err(lines.join("\n")) }
    }

    /// The same, where it has to work.
    pub fn ask(&self, target: &str, bytes: usize, sources: &[&str]) -> Vec<String> {
        self.try_ask(target, bytes, sources).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Is a client served?
    pub fn is_served(&self) -> bool {
        self.try_ask(&format!("{VIP}:8080"), 10, &CLIENTS[..1]).is_ok()
    }

    pub fn ping(&self) -> bool {
        self.segment.ping("client", LB)
    }
}

/// All clients are served, each by the backend that `balancer` names for it, and seen there by its own address.
fn all_are_served(lab: &Lab<'_>, rounds: usize) {
    let addresses = SERVERS.map(|(name, address)| (address.to_owned(), name));
    for _ in 0..rounds {
        for line in lab.ask(&format!("{VIP}:8080"), BYTES, &CLIENTS) {
            let words: Vec<&str> = line.split(' ').collect();
            let [source, name, peer] = words[..] else { panic!("{line}") };
            assert_eq!(peer, source, "the backend sees the client's own address");
            let explained = lab.machine.ask(&format!("explain {source}")).to_string();
            let chosen = addresses.iter().find(|(address, _)| explained.contains(&format!("-> {address}")));
            assert_eq!(chosen.map(|(_, name)| *name), Some(name), "{explained}");
        }
    }
}

#[test]
fn clients_are_served_beside_the_hosts_own_traffic() {
    lab("nic::clients_are_served_beside_the_hosts_own_traffic", |lab| {
        assert!(lab.ping(), "the lab works");
        let before = lab.segment.state("lb");
        let mut balancer = lab.balancer("");
        assert_eq!(macs(&balancer.output()), [LB_MAC]);
        let rounds = 3;
        std::thread::scope(|scope| {
            let load = scope.spawn(|| all_are_served(lab, rounds));
            let mut beside = 0;
            while !load.is_finished() || beside < 3 {
                assert!(lab.ping(), "the host answers pings");
                let answers = lab.ask(&format!("{LB}:9000"), 20_000, &CLIENTS[..2]);
                assert!(answers.iter().all(|answer| answer.contains(" lb ")), "{answers:?}");
                beside += 1;
            }
            println!("{beside} rounds of the host's own traffic beside it");
        });
        assert!(lab.segment.ping("lb", CLIENTS[0]), "the host's own questions are answered");
        let (received, answers) = (lab.machine.count("received.bytes"), (rounds * CLIENTS.len() * BYTES) as u64);
        assert!(received < answers / 2, "{answers} bytes of answers, of {received} that it received");
        assert_eq!(lab.machine.count("dropped.malformed"), 0);
        assert_eq!(balancer.end_by(Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
        assert_eq!(lab.segment.state("lb"), before, "the interface is as it was");
        wait_until("the host alone", || lab.ping());
    });
}

#[test]
fn a_dedicated_interface_leaves_the_host_deaf() {
    lab("nic::a_dedicated_interface_leaves_the_host_deaf", |lab| {
        assert!(lab.ping(), "the lab works");
        let mut balancer = lab.balancer("--dedicated");
        all_are_served(lab, 1);
        assert!(!lab.ping() && !lab.ping(), "the host hears nothing");
        assert!(balancer.output().contains("the host's stack left without it"), "{}", balancer.output());
        assert_eq!(balancer.end_by(Signal::SIGINT).code(), Some(0), "{}", balancer.output());
        wait_until("the host alone", || lab.ping());
    });
}

#[test]
fn a_killed_balancer_leaves_the_interface_as_it_was() {
    lab("nic::a_killed_balancer_leaves_the_interface_as_it_was", |lab| {
        let before = lab.segment.state("lb");
        let mut balancer = lab.balancer("");
        let during = lab.segment.state("lb");
        if lab.segment.remedy("lb").is_some() || before != during {
            assert_ne!(before, during, "offloads are off meanwhile");
        }
        balancer.end_by(Signal::SIGKILL);
        wait_until("the interface to be as it was", || lab.segment.state("lb") == before);
        wait_until("the host alone", || lab.ping());
        // And it can be had again.
        let mut balancer = lab.balancer("");
        assert!(lab.is_served());
        assert_eq!(balancer.end_by(Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
        assert_eq!(lab.segment.state("lb"), before);
    });
}

#[test]
fn offloads_that_are_on_are_refused_where_they_may_not_be_touched() {
    lab("nic::offloads_that_are_on_are_refused_where_they_may_not_be_touched", |lab| {
        let Some(remedy) = lab.segment.remedy("lb") else {
            return skipped(lab.machine.name, "the interface has no offloads that netmap cannot carry");
        };
        let before = lab.segment.state("lb");
        let mut command = lab.segment.command("lb", crate::harness::PEN_DSR);
        command.args(["-i", &format!("netmap:{INTERFACE}"), "--no-ifconfig", VIP, SERVERS[0].1]);
        let output = command.output().expect("it starts");
        let message = crate::harness::text(&output);
        assert_eq!(output.status.code(), Some(78), "{message}");
        let line = message.split('"').find(|part| part.starts_with(remedy)).unwrap_or_else(|| panic!("{message}"));
        assert_eq!(lab.segment.state("lb"), before, "nothing was changed");
        // What it says helps.
        let mut words = line.split_whitespace();
        run(lab.segment.command("lb", words.next().expect("a command")).args(words));
        let mut balancer = lab.balancer("--no-ifconfig");
        assert!(lab.is_served());
        assert_eq!(balancer.end_by(Signal::SIGTERM).code(), Some(0), "{}", balancer.output());
    });
}
