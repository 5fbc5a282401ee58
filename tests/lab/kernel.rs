//! The driver xdp's program in the kernel: what goes on without the process, and what is left behind.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::arrivals::Arrivals;
use crate::driver;
use crate::harness::{BACKENDS, Lab, PEN_DSR, Process, VIP4, VIP6, lab, skipped, wait_until};
use crate::load::{Load, serve};

/// The balancer is away for so long.
const AWAY: Duration = Duration::from_secs(5);
/// A client's further addresses end in these.
const MORE: std::ops::RangeInclusive<u8> = 150..=229;

/// Says that the test `name` is left out unless pen-dsr is driven by xdp.
fn skipped_unless_xdp(name: &str) -> bool {
    if driver::asked().is_none() {
        skipped(name, "it is about the driver xdp, which PEN_DSR_DRIVER=xdp asks for");
        return true;
    }
    driver::skipped_unless("xdp", name, "it is about the driver xdp")
}

/// Is a program attached to the balancer's eth0?
fn is_attached(lab: &Lab) -> bool {
    lab.run("lb", &["ip", "-d", "link", "show", "dev", "eth0"]).contains("xdp")
}

/// A BPF file system, which all hosts of the lab see; it goes with this value.
struct BpfFolder(PathBuf);

impl BpfFolder {
    /// `Err`: the system does not allow one here.
    fn mount(lab: &Lab) -> Result<BpfFolder, String> {
        let folder = lab.directory.join("bpf");
        fs::create_dir(&folder).expect("a folder");
        let output = Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&folder).output().expect("mount runs");
        if output.status.success() {
            Ok(BpfFolder(folder))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for BpfFolder {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// The client gets many addresses, and comes and goes with them.
fn arrivals(lab: &Lab) -> Arrivals {
    let script = format!(
        "for n in $(seq {} {}); do
            echo address add 10.0.0.$n/24 dev eth0; echo address add fd00::$n/64 dev eth0 nodad
         done | ip -batch -",
        MORE.start(),
        MORE.end()
    );
    lab.run("client", &["sh", "-ec", &script]);
    let address = |text: String| text.parse::<IpAddr>().expect("an address");
    let v4: Vec<IpAddr> = MORE.map(|n| address(format!("10.0.0.{n}"))).collect();
    let v6: Vec<IpAddr> = MORE.map(|n| address(format!("fd00::{n}"))).collect();
    let half = v4.len() / 2;
    Arrivals::start(
        lab,
        vec![
            (v4[..half].to_vec(), address(VIP4.to_owned())),
            (v4[half..].to_vec(), address(VIP4.to_owned())),
            (v6, address(VIP6.to_owned())),
        ],
    )
}

#[test]
fn what_is_pinned_serves_all_while_the_process_is_dead() {
    let name = "kernel::what_is_pinned_serves_all_while_the_process_is_dead";
    if skipped_unless_xdp(name) {
        return;
    }
    lab(name, &[], &[], |lab| {
        let pins = match BpfFolder::mount(lab) {
            Ok(folder) => folder,
            Err(why) => return skipped(name, &format!("no BPF file system can be mounted: {why}")),
        };
        serve(lab, &["be1", "be2", "be3"]);
        let (folder, flows, control) = (pins.0.display().to_string(), lab.path("flows"), lab.path("lb.sock"));
        let start = || -> Process {
            let words = ["--xdp-pin", &folder, "--flow-file", &flows, "--flow-entries", "65536", "-C", &control, "-r"];
            lab.balancer(&[&words[..], &[VIP4, "--vip", VIP6], &BACKENDS].concat(), 3)
        };
        let mut balancer = start();
        let loads = [Load::start(lab, VIP4, 120), Load::start(lab, VIP6, 40)];
        // By the table that there is now, most of those before would be elsewhere.
        lab.ctl("lb.sock", "server 10.0.0.11 weight 9");
        loads.iter().for_each(|load| load.more(20));
        let arrivals = arrivals(lab);
        let living = |what: &str| {
            for load in &loads {
                load.everybody_is_served();
                assert!(load.broken().is_empty() && load.refused() == 0, "{what}: {:?}", load.broken());
            }
            let new = arrivals.take();
            println!("{what}: {} exchanges, {}; {new}", loads[0].echoes() + loads[1].echoes(), loads[0].pause());
            assert!(new.failed.is_empty(), "{what}: {:?}", new.failed);
            loads.iter().for_each(Load::mark);
        };
        living("before");

        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            balancer.signal(signal);
            balancer.end();
            loads.iter().for_each(Load::mark);
            arrivals.take();
            assert!(is_attached(lab), "{signal}: the program is still there");
            assert!(!lab.try_ctl("lb.sock", "mode").0.success(), "{signal}: and the process is not");
            std::thread::sleep(AWAY);
            wait_until("clients that come while it is away", || arrivals.served() > 20);
            living(&format!("{signal}, while it is away"));
            // Some that come while it is away stay; these have to find out first where the VIPs are.
            lab.run("client", &["ip", "neigh", "flush", "all"]);
            loads.iter().for_each(|load| load.more(10));
            living(&format!("{signal}, with the client's caches emptied"));
            let before: Vec<_> = loads.iter().map(Load::backends).collect();
            balancer = start();
            living(&format!("{signal}, while it starts again"));
            assert_eq!(loads.iter().map(Load::backends).collect::<Vec<_>>(), before, "nobody has moved");
            std::thread::sleep(Duration::from_secs(1));
            living(&format!("{signal}, afterwards"));
        }
        println!("{} connections lived through it", loads.iter().map(Load::living).sum::<usize>());
        drop(arrivals);
        balancer.signal(Signal::SIGTERM);
        balancer.end();
        drop(pins);
        wait_until("the program to go with its pins", || !is_attached(lab));
    });
}

#[test]
fn nobody_starts_beside_a_program_that_was_left_and_nobody_takes_anothers_over() {
    let name = "kernel::nobody_starts_beside_a_program_that_was_left_and_nobody_takes_anothers_over";
    if skipped_unless_xdp(name) {
        return;
    }
    lab(name, &["--backends", "1"], &[], |lab| {
        let pins = match BpfFolder::mount(lab) {
            Ok(folder) => folder,
            Err(why) => return skipped(name, &format!("no BPF file system can be mounted: {why}")),
        };
        let (folder, flows, other) = (pins.0.display().to_string(), lab.path("flows"), lab.path("other"));
        let words = ["--xdp-pin", &folder, "--flow-file", &flows, "--flow-entries", "65536"];
        let words = [&words[..], &[VIP4, BACKENDS[0]]].concat();
        let try_start =
            |driver, words: &[&str]| lab.try_run("lb", &[&[PEN_DSR, "-i", "eth0", "--driver", driver], words].concat());
        let mut first = lab.balancer(&words, 1);
        let (status, said) =
            try_start("xdp", &words.iter().map(|w| if *w == flows { other.as_str() } else { *w }).collect::<Vec<_>>());
        assert!(!status.success() && said.contains("another process has"), "{status}: {said}");
        first.signal(Signal::SIGTERM);
        first.end();

        for (driver, code) in [("auto", 78), ("ring", 78), ("packet", 78), ("xdp", 69)] {
            let (status, said) = try_start(driver, &[VIP4, BACKENDS[0]]);
            assert_eq!(status.code(), Some(code), "{driver}: {said}");
            assert!(said.contains("pinned in"), "{driver}: {said}");
        }
        // The interface has another name now, and another one has its name.
        lab.run("lb", &["ip", "link", "set", "eth0", "down", "name", "old0"]);
        lab.run(
            "lb",
            &["ip", "link", "add", "eth0", "address", "02:00:00:00:00:0f", "type", "veth", "peer", "name", "eth1"],
        );
        let (status, said) = try_start("xdp", &words);
        assert_eq!(status.code(), Some(69), "{said}");
        assert!(said.contains("at work at another interface"), "{said}");
        // With another flow file its numbers mean nothing: it begins anew.
        lab.run("lb", &["ip", "link", "delete", "eth0"]);
        lab.run("lb", &["ip", "link", "set", "old0", "name", "eth0", "up"]);
        fs::remove_file(&flows).expect("the flow file");
        let second = lab.balancer(&words, 1);
        assert!(
            second.output().contains("and is removed") && !second.output().contains("going on"),
            "{}",
            second.output()
        );
        drop(second);
    });
}

#[test]
fn without_pins_nothing_stays_attached_however_it_ends() {
    let name = "kernel::without_pins_nothing_stays_attached_however_it_ends";
    if skipped_unless_xdp(name) {
        return;
    }
    lab(name, &["--backends", "1"], &[], |lab| {
        let control = lab.path("lb.sock");
        let ends: [(&str, Option<Signal>); 4] = [
            ("TERM", Some(Signal::SIGTERM)),
            ("INT", Some(Signal::SIGINT)),
            ("KILL", Some(Signal::SIGKILL)),
            ("the command exit", None),
        ];
        for (what, signal) in ends {
            let mut balancer = lab.balancer(&["-X", "-C", &control, VIP4, BACKENDS[0]], 1);
            assert!(is_attached(lab), "{what}: {}", balancer.output());
            match signal {
                Some(signal) => balancer.signal(signal),
                None => drop(lab.try_ctl("lb.sock", "exit")),
            }
            balancer.end();
            wait_until(&format!("nothing attached after {what}"), || !is_attached(lab));
        }
    });
}

/// Programs in the kernel are refused to who starts so; packet sockets are not.
const WITHOUT_BPF: [&str; 3] = ["setpriv", "--bounding-set", "-bpf,-sys_admin,-perfmon"];

#[test]
fn without_the_capability_xdp_is_refused_with_what_to_do() {
    let name = "kernel::without_the_capability_xdp_is_refused_with_what_to_do";
    if driver::skipped_unless("packet", name, "it is about what cannot be had, and is run with packet") {
        return;
    }
    lab(name, &["--backends", "1"], &["setpriv"], |lab| {
        let words = [PEN_DSR, "-i", "eth0", "--driver", "xdp", VIP4, BACKENDS[0]];
        let (status, said) = lab.try_run("lb", &[&WITHOUT_BPF[..], &words].concat());
        println!("{}", said.trim());
        assert_eq!(status.code(), Some(77), "{said}");
        assert!(said.contains("CAP_BPF"), "{said}");
        assert!(!is_attached(lab));
    });
}

#[test]
fn without_the_capability_auto_says_in_a_line_why_not_xdp_and_serves() {
    let name = "kernel::without_the_capability_auto_says_in_a_line_why_not_xdp_and_serves";
    if driver::skipped_unless("packet", name, "it is about what cannot be had, and is run with packet") {
        return;
    }
    lab(name, &["--backends", "1"], &["setpriv", "nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        let words = [PEN_DSR, "-i", "eth0", VIP4, BACKENDS[0]];
        let balancer = lab.start("lb", &[&WITHOUT_BPF[..], &words].concat());
        balancer.wait_for("its backend", |log| log.contains("is up"));
        wait_until("service", || lab.curl("10.0.0.1", "http://10.0.0.100/").as_deref() == Ok("be1"));
        let log = balancer.output();
        let why: Vec<&str> = log.lines().filter(|line| line.contains("xdp")).collect();
        println!("{}", why.join("\n"));
        assert!(why.len() == 1 && why[0].contains("not by xdp"), "{log}");
        assert!(!is_attached(lab));
    });
}
