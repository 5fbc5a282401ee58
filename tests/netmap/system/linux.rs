//! Networks and processes, as Linux has them: hosts are network namespaces, cables are veth pairs.

use std::fs;
use std::process::Command;

use crate::harness::run;

/// The interface that every host has.
pub const INTERFACE: &str = "eth0";

/// Does a host's interface lose its link when the switch's end of the cable goes down?
pub const LINKS_ARE_SEEN: bool = true;

/// Hosts on one switch. The switch's end of a host's cable has the host's name.
pub struct Segment {
    tag: String,
    hosts: Vec<&'static str>,
}

/// The namespace of the bridge.
const SWITCH: &str = "switch";

impl Segment {
    /// Hosts of these names, each with a MAC. `tag` is a word of this test's own.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn up(tag: &str, hosts: &[(&'static str, [u8; 6])]) -> Result<Segment, String> {
        for command in ["ip", "ethtool", "ping"] {
            let known = Command::new("sh").args(["-c", &format!("command -v {command}")]).output();
            if !known.is_ok_and(|output| output.status.success()) {
                return Err(format!("{command} is not installed"));
            }
        }
        let segment = Segment { tag: tag.to_owned(), hosts: hosts.iter().map(|(name, _)| *name).collect() };
        for name in segment.hosts.iter().chain([&SWITCH]) {
            ip(&["netns", "add", &segment.namespace(name)]);
            run(segment.command(name, "ip").args(["link", "set", "lo", "up"]));
        }
        run(segment.command(SWITCH, "ip").args(["link", "add", "br0", "type", "bridge"]));
        run(segment.command(SWITCH, "ip").args(["link", "set", "br0", "up"]));
        for (name, mac) in hosts {
            segment.plug(name, *mac);
        }
        Ok(segment)
    }

    fn namespace(&self, host: &str) -> String {
        format!("{}-{host}", self.tag)
    }

    /// A program in a host's network, which has the process number that this call has.
    pub fn command(&self, host: &str, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(host), program]);
        command
    }

    /// Gives a host its interface.
    pub fn plug(&self, host: &str, mac: [u8; 6]) {
        let mac = crate::load::show(mac);
        let far = self.namespace(SWITCH);
        let words = ["link", "add", INTERFACE, "address", &mac, "type", "veth", "peer", "name", host, "netns", &far];
        run(self.command(host, "ip").args(words));
        let mut bridged = self.command(SWITCH, "ip");
        run(bridged.args(["link", "set", host, "master", "br0", "up"]));
        run(self.command(host, "ip").args(["link", "set", INTERFACE, "up"]));
        // As a wire does: no segments beyond the MTU. Checksums are left unfinished, as virtual NICs do.
        run(self.command(SWITCH, "ethtool").args(["-K", host, "tso", "off", "gso", "off"]));
    }

    /// Takes the interface away from a host.
    pub fn unplug(&self, host: &str) {
        run(self.command(host, "ip").args(["link", "delete", INTERFACE]));
    }

    /// Takes the link away from a host, or gives it back.
    pub fn set_link(&self, host: &str, on: bool) {
        let to = if on { "up" } else { "down" };
        run(self.command(SWITCH, "ip").args(["link", "set", host, to]));
    }

    /// An address of a host's.
    pub fn add_address(&self, host: &str, address: &str) {
        run(self.command(host, "ip").args(["address", "replace", &format!("{address}/24"), "dev", INTERFACE]));
    }

    /// An address that a host has, and is silent about.
    pub fn add_silent_address(&self, host: &str, address: &str) {
        let settings = "cd /proc/sys/net/ipv4/conf/all && echo 1 >arp_ignore && echo 2 >arp_announce";
        run(self.command(host, "sh").args(["-c", settings]));
        run(self.command(host, "ip").args(["address", "replace", &format!("{address}/32"), "dev", "lo"]));
    }

    /// Moves the interface of a host to `other`'s host `to`, as `name`.
    pub fn lend(&self, host: &str, other: &Segment, to: &str, name: &str) {
        let words = ["link", "set", INTERFACE, "netns", &other.namespace(to), "name", name];
        run(self.command(host, "ip").args(words));
        run(other.command(to, "ip").args(["link", "set", name, "up"]));
    }

    /// An address of an interface that was lent.
    pub fn add_address_on(&self, host: &str, interface: &str, address: &str) {
        run(self.command(host, "ip").args(["address", "replace", &format!("{address}/24"), "dev", interface]));
    }

    /// A host sends by `gateway` what is for others.
    pub fn route_by(&self, host: &str, gateway: &str) {
        run(self.command(host, "ip").args(["route", "replace", "default", "via", gateway]));
    }

    /// A host is a router.
    pub fn be_router(&self, host: &str) {
        let settings = "cd /proc/sys/net/ipv4 && echo 1 >ip_forward && for f in conf/*/rp_filter; do echo 0 >$f; done";
        run(self.command(host, "sh").args(["-c", settings]));
    }

    /// One ping from `host` to `address`, which is waited for no longer than a second.
    pub fn ping(&self, host: &str, address: &str) -> bool {
        let mut ping = self.command(host, "ping");
        ping.args(["-n", "-q", "-c", "1", "-W", "1", address]);
        ping.output().expect("ping runs").status.success()
    }

    /// The offloads and flags of a host's interface.
    pub fn state(&self, host: &str) -> String {
        let offloads = run(self.command(host, "ethtool").args(["-k", INTERFACE]));
        let link = run(self.command(host, "ip").args(["link", "show", "dev", INTERFACE]));
        let flags = link.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        format!("{offloads}{flags}")
    }

    /// Is an offload on at a host's interface that netmap cannot carry? Then how it is switched off.
    pub fn remedy(&self, host: &str) -> Option<&'static str> {
        self.state(host).contains("tcp-segmentation-offload: on").then_some("ethtool -K eth0")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for name in self.hosts.iter().chain([&SWITCH]) {
            // Its cable goes with it, at once, where sockets that linger would keep the namespace.
            let _ = self.command(name, "ip").args(["link", "delete", INTERFACE]).output();
            let _ = Command::new("ip").args(["netns", "delete", &self.namespace(name)]).output();
        }
    }
}

fn ip(words: &[&str]) {
    run(Command::new("ip").args(words));
}

/// Two interfaces with a cable between them, each with two ring pairs, taken away at the end.
pub struct Cable {
    pub ends: [String; 2],
}

impl Cable {
    /// A cable. `word` is one of this test's own.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn up(word: &str) -> Result<Cable, String> {
        let ends = ["a", "b"].map(|end| format!("{word}{end}"));
        let queues = ["numtxqueues", "2", "numrxqueues", "2"];
        let near = ["link", "add", &ends[0]];
        let far = ["type", "veth", "peer", "name", &ends[1]];
        let output = Command::new("ip").args(near).args(queues).args(far).args(queues).output();
        let output = output.map_err(|e| format!("ip: {e}"))?;
        if !output.status.success() {
            return Err(format!("no veth pair: {}", crate::harness::text(&output).trim()));
        }
        let cable = Cable { ends };
        for end in &cable.ends {
            // Nothing of this host's own on it.
            let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{end}/disable_ipv6"), "1");
            ip(&["link", "set", end, "up"]);
        }
        Ok(cable)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "delete", &self.ends[0]]).output();
    }
}

/// The processes that `pid` has started.
pub fn children(pid: i32) -> Vec<i32> {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&number| stat(number).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// Has it ended, without having been waited for?
pub fn is_zombie(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == 'Z')
}

/// State and parent, see proc_pid_stat(5).
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit_once(')')?.1.split_whitespace();
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// How many descriptors a process has open.
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |entries| entries.count())
}

/// What the kernel says of its netmap: limits, and how much there is of each kind.
pub fn netmap_state() -> String {
    let folder = fs::read_dir("/sys/module/netmap/parameters").into_iter().flatten().flatten();
    let mut lines: Vec<String> = folder
        .map(|entry| {
            let value = fs::read_to_string(entry.path()).unwrap_or_default();
            format!("{} {}", entry.file_name().to_string_lossy(), value.trim())
        })
        .collect();
    lines.sort();
    lines.join("\n")
}

/// How much of netmap is in use: descriptors and memory of programs, and on interfaces its queues.
pub fn netmap_uses() -> String {
    fs::read_to_string("/sys/module/netmap/refcnt").unwrap_or_default().trim().to_owned()
}

/// The user that has no rights.
pub const NOBODY: u32 = 65534;

/// The processors that a thread of a process may run on, if the system tells.
pub fn processors_of(pid: i32, thread: &str) -> Option<String> {
    fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten().find_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        (field("Name:") == Some(thread)).then(|| field("Cpus_allowed_list:").unwrap_or_default().to_owned())
    })
}
