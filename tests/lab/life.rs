//! The life of the process: signals, user, pid file, the interface that goes away, what is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::process::ExitStatusExt;

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header};
use nix::sys::signal::Signal;
use pen_dsr::config::VipConfig;
use pen_dsr::lb::Protocols;
use pen_dsr::os::{IngressDrop, Wanted};
use pnet::datalink::{self, Channel};

use crate::driver;
use crate::harness::{BACKENDS, Lab, VIP4, lab, pen_dsr, skipped_for_want_of_users, wait_until};

/// The nftables rules on the balancer's host.
fn rules(lab: &Lab) -> String {
    lab.run("lb", &["nft", "list", "ruleset"])
}

#[test]
fn it_ends_cleanly_and_leaves_nothing_behind_however_it_ends() {
    lab("life::it_ends_cleanly_and_leaves_nothing_behind_however_it_ends", &["--backends", "1"], &["nft"], |lab| {
        let pidfile = lab.directory.join("pid");
        let pidfile_text = pidfile.display().to_string();
        for (signal, code) in [(Signal::SIGTERM, Some(0)), (Signal::SIGINT, Some(0)), (Signal::SIGKILL, None)] {
            let mut balancer = lab.balancer(&["-p", &pidfile_text, VIP4, BACKENDS[0]], 1);
            assert_eq!(fs::read_to_string(&pidfile).expect("a pid file").trim(), balancer.pid().to_string());
            assert!(rules(lab).contains("pen-dsr-eth0"), "the host's stack is kept from the VIP's frames");
            balancer.signal(signal);
            let status = balancer.end();
            assert_eq!(status.code(), code, "{signal}: {:?}", status.signal());
            wait_until("the rules to go", || !rules(lab).contains("pen-dsr"));
            assert!(code.is_none() || !pidfile.exists(), "the pid file is removed");
        }
        // One that was killed does not keep the next one from starting, but one that runs does.
        let _balancer = lab.balancer(&["-p", &pidfile_text, VIP4, BACKENDS[0]], 1);
        let (status, message) =
            lab.try_run("lb", &[&pen_dsr()[..], &["-p", &pidfile_text, VIP4, BACKENDS[0]]].concat());
        assert_eq!(status.code(), Some(73), "{message}");
        assert!(message.contains("holds it"), "{message}");
    });
}

#[test]
fn another_user_keeps_the_capabilities_that_its_driver_needs() {
    let name = "life::another_user_keeps_the_capabilities_that_its_driver_needs";
    lab(name, &["--backends", "1"], &["nginx", "curl"], |lab| {
        if skipped_for_want_of_users(name) {
            return;
        }
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&["-u", "nobody", VIP4, BACKENDS[0]], 1);
        let status = fs::read_to_string(format!("/proc/{}/status", balancer.pid())).expect("its status");
        let line = |name: &str| {
            status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim).unwrap_or_default().to_owned()
        };
        assert!(!line("Uid:").starts_with('0'), "{status}");
        // CAP_NET_ADMIN is bit 12, CAP_NET_RAW bit 13, CAP_PERFMON bit 38, CAP_BPF bit 39.
        let by_xdp = balancer.output().contains(": by xdp");
        let needed = if by_xdp { "000000c000003000" } else { "0000000000003000" };
        assert_eq!((line("CapEff:").as_str(), line("CapPrm:").as_str()), (needed, needed));
        assert_eq!(lab.curl_once("10.0.0.1", "http://10.0.0.100/").as_deref(), Ok("be1"));
    });
}

#[test]
fn an_interface_that_goes_away_is_waited_for() {
    waited_for("life::an_interface_that_goes_away_is_waited_for", &[]);
}

#[test]
fn it_is_also_by_another_user() {
    waited_for("life::it_is_also_by_another_user", &["-u", "nobody"]);
}

fn waited_for(name: &str, options: &[&str]) {
    lab(name, &["--backends", "1"], &["nginx", "curl"], |lab| {
        if skipped_for_want_of_users(name) {
            return;
        }
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&[options, &[VIP4, BACKENDS[0]]].concat(), 1);
        lab.run("lb", &["ip", "link", "delete", "eth0"]);
        balancer.wait_for("the loss to be noticed", |log| log.contains("eth0 has gone"));
        lab.run(
            "lb",
            &["ip", "link", "add", "eth0", "address", "02:00:00:00:00:02", "type", "veth", "peer", "name", "new"],
        );
        lab.run("lb", &["ip", "link", "set", "new", "netns", "/run/netns/sw"]);
        lab.run("sw", &["ip", "link", "set", "new", "master", "br0", "up"]);
        lab.run("lb", &["ip", "address", "add", "10.0.0.2/24", "dev", "eth0"]);
        lab.run("lb", &["ip", "link", "set", "eth0", "up"]);
        balancer.wait_for("its return", |log| log.contains("eth0 is back") && log.matches("is up").count() >= 2);
        wait_until("service", || lab.curl("10.0.0.1", "http://10.0.0.100/").is_ok());
    });
}

#[test]
fn the_background_and_the_machine_readable_log() {
    lab("life::the_background_and_the_machine_readable_log", &["--backends", "1"], &[], |lab| {
        let log = lab.directory.join("daemon.log");
        let (pidfile, logfile) = (lab.directory.join("pid").display().to_string(), log.display().to_string());
        let words = ["--daemon", "-p", &pidfile, "--log-file", &logfile, "--log-format", "json", VIP4, BACKENDS[0]];
        lab.run("lb", &[&pen_dsr()[..], &words].concat());
        wait_until("the log", || fs::read_to_string(&log).is_ok_and(|text| text.contains("is up")));
        let text = fs::read_to_string(&log).unwrap_or_default();
        assert!(
            text.lines().all(|line| line.starts_with('{') && line.ends_with('}') && line.contains("\"message\":")),
            "{text}"
        );
        let pid: i32 = fs::read_to_string(&pidfile).expect("a pid file").trim().parse().expect("a number");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        wait_until("its end", || !std::path::Path::new(&pidfile).exists());
    });
}

#[test]
fn a_file_that_is_no_pid_file_is_left_alone() {
    let name = "life::a_file_that_is_no_pid_file_is_left_alone";
    lab(name, &["--backends", "1"], &[], |lab| {
        let precious = lab.directory.join("precious");
        fs::write(&precious, "not a number\n").expect("a file");
        let path = precious.display().to_string();
        let (status, message) = lab.try_run("lb", &[&pen_dsr()[..], &["-p", &path, VIP4, BACKENDS[0]]].concat());
        assert_eq!(status.code(), Some(73), "{message}");
        assert_eq!(fs::read_to_string(&precious).expect("it is still there"), "not a number\n");
    });
}

#[test]
fn thousands_of_addresses_are_served() {
    lab("life::thousands_of_addresses_are_served", &["--backends", "1"], &["nft", "curl", "nginx"], |lab| {
        let _web = lab.nginx("be1", b"");
        let vips: Vec<String> = (0..2000).map(|n| format!("--vip=10.1.{}.{}", n / 200, 1 + n % 200)).collect();
        let mut arguments: Vec<&str> = vips.iter().map(String::as_str).collect();
        arguments.extend([VIP4, BACKENDS[0]]);
        let balancer = lab.balancer(&arguments, 1);
        let table = rules(lab);
        // Where there is no /etc/protocols, protocols are numbers.
        let named = ["udp", "17"].iter().any(|udp| table.contains(&format!("10.1.9.200 . {udp}")));
        assert!(named, "{}\n{table}", balancer.output());
        assert_eq!(
            table.matches(" drop\n").count(),
            2,
            "as for one: a frame passes all rules, so addresses are in sets"
        );
        assert_eq!(lab.curl_once("10.0.0.1", "http://10.0.0.100/").as_deref(), Ok("be1"));
    });
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const TO_LB: [u8; 6] = [2, 0, 0, 0, 0, 2];
const TO_ALL: [u8; 6] = [0xff; 6];
/// The TTL by which the test knows its own packets.
const HOPS: u8 = 77;

/// Addresses of a family: the client's, the balancer's host's, which checks come from, a backend's, one of the tarpit.
struct Peers {
    client: IpAddr,
    host: IpAddr,
    backend: IpAddr,
    tarpit: IpAddr,
    icmp: u8,
    echo: u8,
    not_echo: u8,
}

const V4: Peers = Peers {
    client: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
    host: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
    backend: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 11)),
    tarpit: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 40)),
    icmp: 1,
    echo: 8,
    not_echo: 13,
};

const V6: Peers = Peers {
    client: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1)),
    host: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
    backend: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 11)),
    tarpit: IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0x21f)),
    icmp: 58,
    echo: 128,
    not_echo: 129,
};

/// How TCP, UDP and SCTP begin.
fn ports(destination: u16) -> [u8; 4] {
    let [high, low] = destination.to_be_bytes();
    [0x9c, 0x40, high, low]
}

/// Frames with a number each, and which of them are to reach the host's stack.
#[derive(Default)]
struct Frames {
    frames: Vec<Vec<u8>>,
    reaching: BTreeSet<usize>,
}

impl Frames {
    /// A packet of `protocol` whose first four bytes behind the IP header are `start`; `offset` is that of a fragment.
    fn add(&mut self, mac: [u8; 6], ends: (IpAddr, IpAddr), protocol: u8, start: [u8; 4], offset: u16, reaches: bool) {
        let number = self.frames.len();
        if reaches {
            self.reaching.insert(number);
        }
        let mut body = [0; 20];
        body[..4].copy_from_slice(&start);
        let mut frame = [mac, [2, 0, 0, 0, 0, 1]].concat();
        match ends {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let header = Ipv4Header::new(20, HOPS, IpNumber(protocol), from.octets(), to.octets());
                let mut header = header.expect("a short packet");
                header.identification = u16::try_from(number).expect("a number for the packet");
                header.dont_fragment = false;
                header.fragment_offset = IpFragOffset::try_new(offset).expect("an offset");
                frame.extend([8, 0]);
                header.write(&mut frame).expect("a header");
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::try_new(number as u32).expect("a number for the packet"),
                    payload_length: 20,
                    next_header: IpNumber(protocol),
                    hop_limit: HOPS,
                    source: from.octets(),
                    destination: to.octets(),
                };
                frame.extend([0x86, 0xdd]);
                header.write(&mut frame).expect("a header");
            }
            _ => panic!("two families: {ends:?}"),
        }
        frame.extend(body);
        self.frames.push(frame);
    }

    /// Sends them from the client, not more at a time than the lab has room for, until those in `reaching` have reached
    /// the host's stack; which have.
    fn send(&self, lab: &Lab, reaching: &BTreeSet<usize>) -> BTreeSet<usize> {
        lab.run("lb", &["nft", "flush set ip seen numbers; flush set ip6 seen numbers"]);
        let mut seen = BTreeSet::new();
        wait_until("the packets that are the host's", || {
            let frames = self.frames.clone();
            let sending = lab.inside("client", move || {
                let interface = datalink::interfaces().into_iter().find(|i| i.name == "eth0").expect("eth0");
                let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(&interface, datalink::Config::default())
                else {
                    panic!("no raw channel")
                };
                for some in frames.chunks(100) {
                    some.iter().for_each(|f| sender.send_to(f, None).expect("room").expect("a frame sent"));
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            });
            sending.join().expect("the sender ends");
            for family in ["ip", "ip6"] {
                let set = lab.run("lb", &["nft", "list", "set", family, "seen", "numbers"]);
                let numbers = set.split_once("elements").map_or("", |(_, numbers)| numbers);
                seen.extend(numbers.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<usize>().ok()));
            }
            reaching.is_subset(&seen)
        });
        seen
    }
}

/// What a VIP of the next test serves, by its number.
fn services(address: IpAddr, n: u16) -> Vec<VipConfig> {
    let one = |port, protocols| VipConfig { protocols, ..VipConfig::new(address, port) };
    match n % 5 {
        0 => vec![one(0, Protocols::All)],
        1 => vec![one(80, Protocols::All)],
        2 => vec![one(0, Protocols::Tcp)],
        3 => vec![one(53, Protocols::Udp)],
        _ => vec![one(80, Protocols::Tcp), one(53, Protocols::Udp)],
    }
}

/// The same, asked for one port.
fn serves(n: u16, protocol: u8, port: u16) -> bool {
    match n % 5 {
        0 => protocol == TCP || protocol == UDP,
        1 => (protocol == TCP || protocol == UDP) && port == 80,
        2 => protocol == TCP,
        3 => protocol == UDP && port == 53,
        _ => (protocol, port) == (TCP, 80) || (protocol, port) == (UDP, 53),
    }
}

/// Sees which of [`Frames`] have got as far as the host's IP stack.
const OBSERVER: &str = "
    table ip seen {
        set numbers { typeof ip id; flags dynamic; size 65535; }
        chain arriving { type filter hook prerouting priority -300; ip ttl 77 add @numbers { ip id }; }
    }
    table ip6 seen {
        set numbers { typeof ip6 flowlabel; flags dynamic; size 65535; }
        chain arriving { type filter hook prerouting priority -300; ip6 hoplimit 77 add @numbers { ip6 flowlabel }; }
    }";

#[test]
fn the_host_keeps_all_that_is_not_served() {
    let name = "life::the_host_keeps_all_that_is_not_served";
    if driver::skipped_unless("packet", name, "it is about what all drivers share, and is run with packet") {
        return;
    }
    lab(name, &["--backends", "1"], &["nft"], |lab| {
        let tarpit = ["10.0.0.32/27", "fd00::200/123"].map(|network| network.parse().expect("a network"));
        let mut wanted = Wanted { probe_sources: vec![V4.host, V6.host], tarpit: tarpit.to_vec(), ..Wanted::default() };
        let mut vips = Vec::new();
        let mut frames = Frames::default();
        for n in 0..2000 {
            let (peers, vip) = if n % 2 == 0 {
                (&V4, IpAddr::from([10, 1, (n / 200) as u8, 1 + (n % 200) as u8]))
            } else {
                (&V6, IpAddr::from([0xfd01, 0, 0, 0, 0, 0, 1, n]))
            };
            vips.extend(services(vip, n));
            wanted.vips.push(vip);
            for protocol in [TCP, UDP, SCTP] {
                for port in [80, 53, 443] {
                    frames.add(TO_LB, (peers.client, vip), protocol, ports(port), 0, !serves(n, protocol, port));
                }
            }
            frames.add(TO_LB, (peers.client, vip), peers.icmp, [peers.echo, 0, 0, 0], 0, false);
            frames.add(TO_LB, (peers.client, vip), peers.icmp, [peers.not_echo, 0, 0, 0], 0, true);
            // The VIP's answers to checks, and to somebody who does not check.
            frames.add(TO_LB, (vip, peers.host), TCP, ports(9), 0, false);
            frames.add(TO_LB, (vip, peers.backend), TCP, ports(9), 0, true);
            if vip.is_ipv4() {
                // A later fragment has no port. (Some kernels take for one what stands in its place: not one that is served.)
                frames.add(TO_LB, (peers.client, vip), UDP, ports(443), 100, n % 5 != 0);
            }
        }
        for (peers, vip) in [(&V4, wanted.vips[0]), (&V6, wanted.vips[5])] {
            frames.add(TO_ALL, (peers.client, vip), TCP, ports(80), 0, false);
            frames.add(TO_ALL, (peers.client, peers.tarpit), TCP, ports(80), 0, true);
            frames.add(TO_LB, (peers.client, peers.tarpit), TCP, ports(80), 0, false);
            frames.add(TO_LB, (peers.client, peers.host), TCP, ports(80), 0, true);
            frames.add(TO_LB, (peers.backend, peers.host), peers.icmp, [peers.echo, 0, 0, 0], 0, true);
        }
        lab.run("lb", &["nft", OBSERVER]);
        let install = move || IngressDrop::install("eth0", &vips, &wanted).expect("a table");
        let table = lab.inside("lb", install).join().expect("a table");
        let seen = frames.send(lab, &frames.reaching);
        let wrong: Vec<_> = seen.difference(&frames.reaching).map(|&n| &frames.frames[n][14..]).collect();
        assert!(wrong.is_empty(), "{} packets got through, one of them {:02x?}", wrong.len(), wrong[0]);
        println!("{} of {} packets reach the host", seen.len(), frames.frames.len());
        drop(table);
        frames.send(lab, &(0..frames.frames.len()).collect());
    });
}

#[test]
fn without_permission_it_says_what_to_do() {
    lab("life::without_permission_it_says_what_to_do", &["--backends", "1"], &["setpriv"], |lab| {
        let without = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
        let (status, message) = lab.try_run("lb", &[&without, &pen_dsr()[..], &[VIP4, BACKENDS[0]]].concat());
        assert_eq!(status.code(), Some(77), "{message}");
        let named = if driver::asked() == Some("xdp") { "CAP_BPF" } else { "CAP_NET_RAW" };
        assert!(message.contains(named), "{message}");
    });
}

#[test]
fn an_interface_with_another_mac_is_opened_anew() {
    lab("life::an_interface_with_another_mac_is_opened_anew", &["--backends", "1"], &["nginx", "curl"], |lab| {
        let _web = lab.nginx("be1", b"");
        let balancer = lab.balancer(&[VIP4, BACKENDS[0]], 1);
        lab.curl_once("10.0.0.1", "http://10.0.0.100/").expect("an answer");
        lab.run("lb", &["ip", "link", "set", "eth0", "address", "02:00:00:00:00:99"]);
        balancer.wait_for("the new MAC", |log| log.contains("eth0 is back") && log.matches("is up").count() >= 2);
        // The client learns of it by the announcement.
        wait_until("service", || lab.curl("10.0.0.1", "http://10.0.0.100/").is_ok());
    });
}
