//! The packet sockets and their rings themselves, without a balancer around them.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use pen_dsr::config::VipConfig;
use pen_dsr::lb::acl::Network;
use pen_dsr::os::{FilterControl, IngressDrop, Interface, Memberships, Wanted};
use pen_dsr::port::packet::PacketPort;
use pen_dsr::port::{Port, WakeReceiver, ring, waker};
use pen_dsr::verdict::Verdict;

use crate::driver;
use crate::harness::{Lab, PATIENCE, lab, skipped, wait_until};

fn wanted() -> Wanted {
    let network = |text: &str| text.parse().expect("a network");
    let address = |text: &str| text.parse().expect("an address");
    Wanted {
        vips: ["10.0.0.100", "fd00::100"].map(address).to_vec(),
        probe_sources: ["10.0.0.2", "fd00::2"].map(address).to_vec(),
        tarpit: ["10.0.0.32/27", "10.0.0.200/30", "fd00::200/123"].map(network).to_vec(),
    }
}

/// These tests need no balancer: one run of them is enough.
fn is_left_out(name: &str) -> bool {
    driver::skipped_unless("packet", name, "it is about what all drivers share, and is run with packet")
}

#[test]
fn no_frame_is_lost_while_filters_are_replaced() {
    let name = "sockets::no_frame_is_lost_while_filters_are_replaced";
    if driver::asked() == Some("xdp") {
        return skipped(name, "it is about ports, and xdp's is that of ring");
    }
    lab(name, &["--backends", "1"], &[], |lab| match driver::asked() {
        Some("ring") => no_frame_is_lost(lab, |interface, wake| {
            let (mut ports, filters) = ring::open(interface, &wanted(), vec![wake]).expect("a port");
            (ports.pop().expect("one for one worker"), filters)
        }),
        _ => no_frame_is_lost(lab, |interface, wake| {
            let port = PacketPort::open(interface, &wanted(), wake).expect("a port");
            let filters = port.filters().expect("a handle");
            (port, filters)
        }),
    });
}

/// By the port and its filters that `open` opens.
fn no_frame_is_lost<P: Port + 'static>(lab: &Lab, open: fn(&Interface, WakeReceiver) -> (P, FilterControl)) {
    const DATAGRAMS: usize = 5000;
    /// On their way at a time: less than the port has room for.
    const ON_THE_WAY: usize = 200;
    const REPLACED: usize = 10;
    /// What both sides know of each other.
    #[derive(Default)]
    struct Shared {
        is_open: AtomicBool,
        sent: AtomicUsize,
        /// The sender has ended.
        all: AtomicBool,
        seen: AtomicUsize,
        replaced: AtomicUsize,
    }
    let ours = Arc::new(Shared::default());
    let theirs = Arc::clone(&ours);
    lab.run("client", &["ip", "neigh", "replace", "10.0.0.100", "lladdr", "02:00:00:00:00:02", "dev", "eth0"]);
    let receiving = lab.inside("lb", move || {
        let interface = Interface::find("eth0").expect("eth0");
        let (_waker, wake) = waker().expect("a waker");
        let (mut port, filters) = open(&interface, wake);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for replaced in 0u32.. {
                    if done.load(Relaxed) {
                        break;
                    }
                    let mut wanted = wanted();
                    // From one address to a thousand networks, which need a program of another size.
                    let network = |n: u32| Network::host(IpAddr::V4((0x0b00_0000 + n * 512).into()));
                    wanted.tarpit.extend((0..replaced % 4 * 300 + 1).map(network));
                    filters.replace(&wanted).expect("another filter");
                    theirs.replaced.fetch_add(1, Relaxed);
                }
            });
            theirs.is_open.store(true, Relaxed);
            let mut last = Instant::now();
            let is_whole = || theirs.all.load(Relaxed) && theirs.seen.load(Relaxed) >= theirs.sent.load(Relaxed);
            while !is_whole() && last.elapsed() < PATIENCE {
                port.wait(Some(Instant::now() + Duration::from_millis(20))).expect("waiting");
                port.drive(64, &mut |_, frame| {
                    let to_vip = frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&[10, 0, 0, 100]);
                    if to_vip && frame.get(23) == Some(&17) {
                        theirs.seen.fetch_add(1, Relaxed);
                        last = Instant::now();
                    }
                    Verdict::Host
                })
                .expect("frames");
            }
            done.store(true, Relaxed);
            port.tally().overrun
        })
    });
    let theirs = Arc::clone(&ours);
    let sending = lab.inside("client", move || {
        wait_until("a port", || theirs.is_open.load(Relaxed));
        let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
        let has_room = || theirs.sent.load(Relaxed) < theirs.seen.load(Relaxed) + ON_THE_WAY;
        // Those that get lost are not waited for.
        let mut last = Instant::now();
        while last.elapsed() < PATIENCE / 2
            && (theirs.sent.load(Relaxed) < DATAGRAMS || theirs.replaced.load(Relaxed) <= REPLACED)
        {
            if has_room() {
                socket.send_to(b"x", "10.0.0.100:9").expect("a datagram sent");
                theirs.sent.fetch_add(1, Relaxed);
                last = Instant::now();
            }
            if !has_room() || theirs.sent.load(Relaxed) % 20 == 0 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        theirs.all.store(true, Relaxed);
    });
    sending.join().expect("the sender ends");
    let overrun = receiving.join().expect("the receiver ends");
    let [seen, sent, replaced] = [&ours.seen, &ours.sent, &ours.replaced].map(|number| number.load(Relaxed));
    println!("{seen} datagrams while filters were replaced {replaced} times");
    assert_eq!((seen, overrun), (sent, 0));
    assert!(sent >= DATAGRAMS && replaced > REPLACED, "{sent}, {replaced}");
}

#[test]
fn a_new_table_is_there_before_the_old_one_goes() {
    let name = "sockets::a_new_table_is_there_before_the_old_one_goes";
    if is_left_out(name) {
        return;
    }
    lab(name, &["--backends", "1"], &["nft"], |lab| {
        let vips: Vec<VipConfig> = wanted().vips.iter().map(|&address| VipConfig::new(address, 0)).collect();
        let (old, new) = lab
            .inside("lb", move || {
                let install = || IngressDrop::install("eth0", &vips, &wanted()).expect("a table");
                (install(), install())
            })
            .join()
            .expect("two tables");
        let rules = || lab.run("lb", &["nft", "list", "ruleset"]);
        let both = rules();
        for rule in [
            "ip daddr @check-sources-ip ip saddr @checked-ip",
            "ip6 daddr @check-sources-ip6 ip6 saddr @checked-ip6",
            "meta pkttype host ip daddr 10.0.0.32-10.0.0.63",
            "meta pkttype host ip daddr 10.0.0.200-10.0.0.203",
            "meta pkttype host ip6 daddr fd00::200-fd00::21f",
        ] {
            assert_eq!(both.matches(rule).count(), 2, "{rule}\n{both}");
        }
        drop(old);
        assert_eq!(rules().matches("table netdev pen-dsr-eth0-").count(), 1);
        drop(new);
        assert_eq!(rules().matches("pen-dsr").count(), 0);
    });
}

#[test]
fn a_tarpit_of_ipv6_addresses_hears_all_groups_while_it_is_there() {
    let name = "sockets::a_tarpit_of_ipv6_addresses_hears_all_groups_while_it_is_there";
    if is_left_out(name) {
        return;
    }
    lab(name, &["--backends", "1"], &[], |lab| {
        let join = |wanted: Wanted| {
            let index = || Interface::find("eth0").expect("eth0").index;
            lab.inside("lb", move || Memberships::join(index(), &wanted, None).expect("memberships")).join()
        };
        let allmulti = || lab.run("lb", &["ip", "-d", "link", "show", "eth0"]).contains("allmulti 1");
        let groups = || lab.run("lb", &["ip", "maddress", "show", "dev", "eth0"]);
        let plain = join(Wanted { tarpit: vec![], ..wanted() }).expect("memberships");
        assert!(!allmulti() && groups().contains("33:33:ff:00:01:00"), "{}", groups());
        let with_tarpit = join(wanted()).expect("memberships");
        assert!(allmulti());
        drop(plain);
        assert!(groups().contains("33:33:ff:00:01:00"), "the new one has the group, too: {}", groups());
        drop(with_tarpit);
        assert!(!allmulti() && !groups().contains("33:33:ff:00:01:00"), "{}", groups());
    });
}
