//! What clients see: curl, dig, ping, iperf3, uploads and downloads, path MTU.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use crate::harness::{BACKENDS, CLIENTS, Lab, PATIENCE, Process, VIP4, VIP6, lab, number_after, wait_to_see};

fn web(lab: &Lab) -> Vec<Process> {
    ["be1", "be2", "be3"].map(|host| lab.nginx(host, b"big")).into()
}

fn dns(lab: &Lab) -> Vec<Process> {
    (1..=3).map(|n| lab.dnsmasq(&format!("be{n}"))).collect()
}

/// Which backend `pen-dsr explain` says serves `client`.
fn explained(lab: &Lab, client: &str) -> String {
    let mut words = vec![env!("CARGO_BIN_EXE_pen-dsr"), VIP4, "--vip", VIP6];
    words.extend(BACKENDS);
    words.extend(["explain", client]);
    let line = lab.run("client", &words);
    let address = line.split_whitespace().nth(2).expect("a backend").to_owned();
    format!("be{}", address.trim_start_matches("10.0.0.1"))
}

#[test]
fn tcp_and_udp_are_served_on_one_vip_in_both_families() {
    let name = "traffic::tcp_and_udp_are_served_on_one_vip_in_both_families";
    lab(name, &[], &["nginx", "curl", "dig", "dnsmasq"], |lab| {
        let (_web, _dns) = (web(lab), dns(lab));
        let mut arguments = vec![VIP4, "--vip", VIP6];
        arguments.extend(BACKENDS);
        let balancer = lab.balancer(&arguments, 3);
        let mut answered = std::collections::BTreeSet::new();
        for n in CLIENTS {
            for (source, vip) in [(format!("10.0.0.{n}"), VIP4.to_owned()), (format!("fd00::{n}"), VIP6.to_owned())] {
                let url = if vip == VIP4 { format!("http://{vip}/") } else { format!("http://[{vip}]/") };
                let web = lab.curl_once(&source, &url).expect("an answer");
                let dns = lab.run(
                    "client",
                    &["dig", "+short", "+time=5", "+tries=9", "-b", &source, &format!("@{vip}"), "who.test", "A"],
                );
                assert_eq!(web, explained(lab, &source), "{source}");
                assert_eq!(
                    format!("be{}", dns.trim().trim_start_matches("192.0.2.")),
                    web,
                    "UDP goes where TCP goes, {source}"
                );
                // It writes the line when the answer has left.
                let itself = |access: &String| access.lines().any(|line| line.starts_with(&format!("{source} ")));
                wait_to_see(&format!("{source} itself in the log of {web}"), || lab.access(&web), itself);
                answered.insert(web);
            }
        }
        assert_eq!(answered.len(), 3, "all backends take part: {answered:?}");
        let statistics = balancer.statistics();
        assert!(number_after(&statistics, "VIP 10.0.0.100:") > 0 && number_after(&statistics, "VIP fd00::100:") > 0);
    });
}

#[test]
fn a_vip_with_a_port_and_one_protocol_serves_just_that() {
    lab(
        "traffic::a_vip_with_a_port_and_one_protocol_serves_just_that",
        &[],
        &["nginx", "curl", "dig", "dnsmasq"],
        |lab| {
            let (_web, _dns) = (web(lab), dns(lab));
            let _balancer =
                lab.balancer(&["--protocol", "tcp", "10.0.0.100:80", BACKENDS[0], BACKENDS[1], BACKENDS[2]], 3);
            assert!(lab.curl_once("10.0.0.1", "http://10.0.0.100/").is_ok());
            let (status, _) =
                lab.try_run("client", &["dig", "+short", "+time=1", "+tries=1", "@10.0.0.100", "who.test"]);
            assert!(!status.success(), "nobody answers for UDP");
        },
    );
}

#[test]
fn replies_do_not_cross_the_balancer() {
    lab("traffic::replies_do_not_cross_the_balancer", &[], &["nginx", "curl"], |lab| {
        let big = vec![b'x'; 10_000_000];
        let _web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, &big));
        let _balancer = lab.balancer(&[VIP4, BACKENDS[0], BACKENDS[1], BACKENDS[2]], 3);
        let before = (lab.counter("client", "rx_bytes"), lab.counter("lb", "rx_bytes"));
        let size = lab.run(
            "client",
            &["curl", "-s", "-m", "45", "-o", "/dev/null", "-w", "%{size_download}", "http://10.0.0.100/big"],
        );
        assert_eq!(size, "10000000");
        let (client, balancer) =
            (lab.counter("client", "rx_bytes") - before.0, lab.counter("lb", "rx_bytes") - before.1);
        println!("a download of 10 MB: the client received {client} bytes, the balancer {balancer}");
        assert!(client > 10_000_000 && balancer < client / 10);
    });
}

#[test]
fn pings_are_answered_long_ones_by_a_backend() {
    lab("traffic::pings_are_answered_long_ones_by_a_backend", &[], &["ping"], |lab| {
        let balancer = lab.balancer(&[VIP4, "--vip", VIP6, BACKENDS[0], BACKENDS[1]], 2);
        for vip in [VIP4, VIP6] {
            lab.run("client", &["ping", "-c", "3", "-i", "0.2", "-W", "45", vip]);
            lab.run("client", &["ping", "-c", "2", "-i", "0.2", "-W", "45", "-s", "3000", vip]);
        }
        assert_eq!(number_after(&balancer.statistics(), "neighbour questions,"), 6);
    });
}

#[test]
fn iperf_with_all_offloads_on_passes_giants_whole() {
    lab("traffic::iperf_with_all_offloads_on_passes_giants_whole", &[], &["iperf3"], |lab| {
        let _servers: Vec<Process> = ["be1", "be2", "be3"].map(|host| lab.start(host, &["iperf3", "-s"])).into();
        ["be1", "be2", "be3"].iter().for_each(|host| lab.wait_listening(host, "tcp", 5201));
        let mut arguments = vec![VIP4, "--vip", VIP6];
        arguments.extend(BACKENDS);
        let balancer = lab.balancer(&arguments, 3);
        for vip in [VIP4, VIP6] {
            let report = lab.run("client", &["iperf3", "-c", vip, "-n", "200M", "--connect-timeout", "45000"]);
            let received = report.lines().find(|line| line.contains("receiver")).expect("a receiver's line");
            println!("iperf3 TCP to {vip}: {}", received.trim());
            assert!(received.contains("MBytes"), "{report}");
        }
        let statistics = balancer.statistics();
        let (frames, bytes) = (
            number_after(&statistics, "transmitted"),
            number_after(&statistics[statistics.find("transmitted").unwrap_or(0)..], "frames,"),
        );
        println!("{bytes} bytes in {frames} frames");
        assert!(bytes > 400_000_000 && bytes / frames > 3000, "segments larger than the MTU pass in one piece");
        // Over UDP an iperf3 server answers from the VIP only when it is bound to it.
        let start = |host| lab.start(host, &["iperf3", "-s", "-p", "5202", "-B", VIP4]);
        let _bound = ["be1", "be2", "be3"].map(start);
        ["be1", "be2", "be3"].iter().for_each(|host| lab.wait_listening(host, "tcp", 5202));
        let words = ["iperf3", "-p", "5202", "-c", VIP4, "-u", "-b", "50M", "-t", "1"];
        // Its first datagram is not sent again when it is lost.
        let reported =
            |(ended, report): &(std::process::ExitStatus, String)| ended.success() && report.contains("receiver");
        wait_to_see("a report about UDP", || lab.try_run("client", &words), reported);
    });
}

/// Sends `body`, closes its side, and reads everything that comes back.
fn exchange(to: SocketAddr, body: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reading = stream.try_clone()?;
    let reader = std::thread::spawn(move || {
        let mut back = Vec::new();
        reading.read_to_end(&mut back).map(|_| back)
    });
    stream.write_all(&body)?;
    stream.shutdown(Shutdown::Write)?;
    reader.join().expect("the reader ends")
}

#[test]
fn ten_megabytes_arrive_and_return_byte_by_byte() {
    lab("traffic::ten_megabytes_arrive_and_return_byte_by_byte", &[], &[], |lab| {
        for host in ["be1", "be2"] {
            lab.inside(host, || {
                let listener = TcpListener::bind("[::]:7777").expect("a port");
                std::thread::spawn(move || {
                    for stream in listener.incoming().flatten() {
                        let mut body = Vec::new();
                        if (&stream).read_to_end(&mut body).is_ok() {
                            let _ = (&stream).write_all(&body);
                        }
                    }
                });
            })
            .join()
            .expect("a server");
        }
        let _balancer = lab.balancer(&[VIP4, "--vip", VIP6, BACKENDS[0], BACKENDS[1]], 2);
        let mut state = 7u64;
        let body: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(10_000_000)
        .collect();
        for vip in ["10.0.0.100:7777", "[fd00::100]:7777"] {
            let (to, sent) = (vip.parse().expect("an address"), body.clone());
            let back =
                lab.inside("client", move || exchange(to, sent)).join().expect("the client ends").expect("an exchange");
            assert!(back == body, "{} bytes came back", back.len());
        }
    });
}

#[test]
fn a_smaller_path_mtu_reaches_the_right_backend() {
    lab("traffic::a_smaller_path_mtu_reaches_the_right_backend", &["--router", "1280"], &["nginx", "curl"], |lab| {
        let big = vec![b'y'; 2_000_000];
        let _web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, &big));
        let mut arguments = vec!["-r", VIP4, "--vip", VIP6];
        arguments.extend(BACKENDS);
        let balancer = lab.balancer(&arguments, 3);
        for url in ["http://10.0.0.100/big", "http://[fd00::100]/big"] {
            // With the port in the hash, the quoted ports have to be read for the error to find its flow's backend.
            for _ in 0..6 {
                let words = ["curl", "-sS", "-g", "-m", "45", "-o", "/dev/null", "-w", "%{size_download}", url];
                assert_eq!(lab.run("far", &words), "2000000", "{url}");
            }
        }
        let errors = number_after(&balancer.statistics(), "passed on");
        println!("{errors} ICMP errors were passed on");
        assert!(errors >= 2);
        let requests = || (1..=3).map(|n| lab.access(&format!("be{n}")).lines().count()).sum::<usize>();
        wait_to_see("each request in a log", requests, |count| *count == 12);
    });
}
