//! Networks and processes, as FreeBSD has them: hosts are jails with a network of their own, cables are epair(4)s.

use std::process::Command;

use crate::harness::{run, text};

/// The interface that every host has.
pub const INTERFACE: &str = "eth0";

/// Does a host's interface lose its link when the switch's end of the cable goes down? An epair(4)'s always has it.
pub const LINKS_ARE_SEEN: bool = false;

/// Hosts on one switch, which is a bridge(4) of this machine's own network.
pub struct Segment {
    tag: String,
    bridge: String,
    hosts: Vec<&'static str>,
}

impl Segment {
    /// Hosts of these names, each with a MAC. `tag` is a word of this test's own.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn up(tag: &str, hosts: &[(&'static str, [u8; 6])]) -> Result<Segment, String> {
        let vimage = Command::new("sysctl").args(["-n", "kern.features.vimage"]).output();
        if !vimage.is_ok_and(|output| output.stdout.starts_with(b"1")) {
            return Err("this kernel has no vnet(9): jails cannot have networks of their own".to_owned());
        }
        for module in ["if_epair", "if_bridge"] {
            let _ = Command::new("kldload").args(["-nq", module]).output();
        }
        let bridge = try_run(Command::new("ifconfig").args(["bridge", "create", "up"]))?;
        let bridge = bridge.trim().to_owned();
        let names = hosts.iter().map(|(name, _)| *name).collect();
        let segment = Segment { tag: tag.to_owned(), bridge, hosts: names };
        for (name, mac) in hosts {
            let jail = format!("name={}", segment.jail(name));
            try_run(Command::new("jail").args(["-c", &jail, "path=/", "vnet", "persist", "allow.raw_sockets"]))?;
            run(segment.command(name, "ifconfig").args(["lo0", "127.0.0.1/8", "up"]));
            segment.plug(name, *mac);
        }
        Ok(segment)
    }

    fn jail(&self, host: &str) -> String {
        format!("{}_{host}", self.tag)
    }

    /// The switch's end of a host's cable.
    fn port(&self, host: &str) -> String {
        format!("{}{host}", &self.tag[self.tag.len().saturating_sub(6)..])
    }

    /// A program in a host's network, which has the process number that this call has.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("jexec");
        command.args([&self.jail(host), program]);
        command
    }

    /// Gives a host its interface.
    pub fn plug(&self, host: &str, mac: [u8; 6]) {
        let mac = crate::load::show(mac);
        let made = run(Command::new("ifconfig").args(["epair", "create"]));
        let near = made.trim().to_owned();
        let far = format!("{}b", near.trim_end_matches('a'));
        let port = self.port(host);
        run(Command::new("ifconfig").args([&near, "name", &port]));
        run(Command::new("ifconfig").args([&self.bridge, "addm", &port]));
        run(Command::new("ifconfig").args([&port, "up"]));
        run(Command::new("ifconfig").args([&far, "vnet", &self.jail(host)]));
        run(self.command(host, "ifconfig").args([&far, "name", INTERFACE]));
        run(self.command(host, "ifconfig").args([INTERFACE, "ether", &mac]));
        run(self.command(host, "ifconfig").args([INTERFACE, "up"]));
    }

    /// Takes the interface away from a host.
    pub fn unplug(&self, host: &str) {
        run(Command::new("ifconfig").args([&self.port(host), "destroy"]));
    }

    /// Takes the link away from a host, or gives it back.
    pub fn set_link(&self, host: &str, on: bool) {
        run(Command::new("ifconfig").args([self.port(host).as_str(), if on { "up" } else { "down" }]));
    }

    /// An address of a host's.
    pub fn add_address(&self, host: &str, address: &str) {
        run(self.command(host, "ifconfig").args([INTERFACE, "inet", &format!("{address}/24"), "alias"]));
    }

    /// An address that a host has, and is silent about.
    pub fn add_silent_address(&self, host: &str, address: &str) {
        run(self.command(host, "ifconfig").args(["lo0", "inet", &format!("{address}/32"), "alias"]));
    }

    /// Moves the interface of a host to `other`'s host `to`, as `name`.
    pub fn lend(&self, host: &str, other: &Segment, to: &str, name: &str) {
        run(self.command(host, "ifconfig").args([INTERFACE, "name", name]));
        run(Command::new("ifconfig").args([name, "-vnet", &self.jail(host)]));
        run(Command::new("ifconfig").args([name, "vnet", &other.jail(to)]));
        run(other.command(to, "ifconfig").args([name, "up"]));
    }

    /// An address of an interface that was lent.
    pub fn add_address_on(&self, host: &str, interface: &str, address: &str) {
        run(self.command(host, "ifconfig").args([interface, "inet", &format!("{address}/24"), "alias"]));
    }

    /// A host sends by `gateway` what is for others.
    pub fn route_by(&self, host: &str, gateway: &str) {
        run(self.command(host, "route").args(["-q", "add", "default", gateway]));
    }

    /// A host is a router.
    pub fn be_router(&self, host: &str) {
        run(self.command(host, "sysctl").arg("net.inet.ip.forwarding=1"));
    }

    /// One ping from `host` to `address`, which is waited for no longer than a second.
    pub fn ping(&self, host: &str, address: &str) -> bool {
        let mut ping = self.command(host, "ping");
        ping.args(["-n", "-q", "-c", "1", "-t", "1", address]);
        ping.output().expect("ping runs").status.success()
    }

    /// The offloads and flags of a host's interface.
    pub fn state(&self, host: &str) -> String {
        let said = run(self.command(host, "ifconfig").arg(INTERFACE));
        let kept = said.lines().map(str::trim).filter(|line| line.contains("flags=") || line.starts_with("options="));
        kept.collect::<Vec<&str>>().join("\n")
    }

    /// Is an offload on at a host's interface that netmap cannot carry? Then how it is switched off.
    pub fn remedy(&self, host: &str) -> Option<&'static str> {
        let state = self.state(host);
        let options = state.lines().find(|line| line.starts_with("options=")).unwrap_or_default();
        ["TXCSUM", "RXCSUM", "TSO", "LRO"].iter().any(|name| options.contains(name)).then_some("ifconfig eth0")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for host in &self.hosts {
            let _ = Command::new("ifconfig").args([&self.port(host), "destroy"]).output();
            let _ = Command::new("jail").args(["-r", &self.jail(host)]).output();
        }
        let _ = Command::new("ifconfig").args([&self.bridge, "destroy"]).output();
    }
}

fn try_run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let said = text(&output);
    if output.status.success() { Ok(said) } else { Err(format!("{command:?}: {}", said.trim())) }
}

/// Two interfaces with a cable between them, each with two ring pairs.
pub struct Cable {
    pub ends: [String; 2],
}

impl Cable {
    /// A cable. An epair(4) has one ring pair.
    ///
    /// # Errors
    /// Always.
    pub fn up(_word: &str) -> Result<Cable, String> {
        Err("no interface with two ring pairs can be made here".to_owned())
    }
}

/// The processes that `pid` has started.
pub fn children(pid: i32) -> Vec<i32> {
    let all = run(Command::new("ps").args(["-ax", "-o", "pid=", "-o", "ppid="]));
    let pairs = all.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<i32>().ok());
        Some((numbers.next()?, numbers.next()?))
    });
    pairs.filter(|&(_, parent)| parent == pid).map(|(number, _)| number).collect()
}

/// Has it ended, without having been waited for?
pub fn is_zombie(pid: i32) -> bool {
    let state = Command::new("ps").args(["-p", &pid.to_string(), "-o", "state="]).output();
    state.is_ok_and(|output| output.stdout.starts_with(b"Z"))
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    let all = run(Command::new("procstat").args(["-h", "-f", &pid.to_string()]));
    // The others are what it was started from: text, cwd, root, jail.
    all.lines().filter(|line| line.split_whitespace().nth(2).is_some_and(|fd| fd.parse::<u32>().is_ok())).count()
}

/// What the kernel says of its netmap: limits, how much there is of each kind, and pieces of memory in use.
pub fn netmap_state() -> String {
    let numbers = run(Command::new("sysctl").arg("dev.netmap"));
    // Counters of what has happened are no state.
    let mut lines: Vec<&str> = numbers.lines().filter(|line| line.contains("_num") || line.contains("_size")).collect();
    let memory = run(Command::new("vmstat").arg("-m"));
    lines.extend(memory.lines().filter(|line| line.trim_start().starts_with("netmap")).map(in_use));
    lines.join("\n")
}

/// How much of netmap is in use by programs: nothing here tells.
pub fn netmap_uses() -> String {
    String::new()
}

/// Of a line of vmstat -m (type, in use, memory, requests...), how much is in use.
fn in_use(line: &str) -> &str {
    let mut words = line.split_whitespace();
    let _ = words.next();
    words.next().unwrap_or_default()
}

/// The user that has no rights.
pub const NOBODY: u32 = 65534;

/// The processors that a thread of a process may run on, if the system tells.
pub fn processors_of(pid: i32, thread: &str) -> Option<String> {
    let threads = run(Command::new("procstat").args(["-h", "-t", &pid.to_string()]));
    let line = threads.lines().find(|line| line.contains(thread))?;
    let id = line.split_whitespace().nth(1)?;
    // "tid 100123 mask: 0"
    let mask = run(Command::new("cpuset").args(["-g", "-t", id]));
    mask.lines().find_map(|line| line.split_once("mask: ")).map(|(_, cpus)| cpus.trim().to_owned())
}
