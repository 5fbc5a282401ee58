//! What no ordinary client sends here: tagged frames, and datagrams in parts.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};

use etherparse::{PacketBuilder, SlicedPacket, VlanId};
use pnet::datalink::{self, Channel};

use crate::harness::{BACKENDS, Lab, PATIENCE, VIP4, lab, skipped_for_want_of_users};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const BALANCER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Sends `frames` out of the client's eth0.
fn send_raw(lab: &Lab, frames: Vec<Vec<u8>>) {
    let sending = lab.inside("client", move || {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "eth0").expect("eth0");
        let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(&interface, datalink::Config::default()) else {
            panic!("no raw channel")
        };
        for frame in frames {
            sender.send_to(&frame, None).expect("room for a frame").expect("a frame sent");
        }
    });
    sending.join().expect("the sender ends");
}

#[test]
fn tagged_frames_keep_their_tags() {
    lab("frames::tagged_frames_keep_their_tags", &["--backends", "1"], &["tcpdump"], |lab| {
        if skipped_for_want_of_users("frames::tagged_frames_keep_their_tags") {
            return;
        }
        let captured = lab.directory.join("tagged.pcap");
        let capture = lab.start(
            "be1",
            &["tcpdump", "-i", "eth0", "-U", "-n", "-Q", "in", "-w", &captured.display().to_string(), "udp or vlan"],
        );
        capture.wait_for("tcpdump", |log| log.contains("listening on"));
        let _balancer = lab.balancer(&[VIP4, "--vip", "fd00::100", BACKENDS[0]], 1);

        let id = |n: u16| VlanId::try_new(n).expect("a VLAN number");
        let mut frames = Vec::new();
        let mut add = |builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, body: &str| {
            let mut frame = Vec::new();
            builder.write(&mut frame, body.as_bytes()).expect("a frame");
            frames.push(frame);
        };
        let eth = || PacketBuilder::ethernet2(CLIENT_MAC, BALANCER_MAC);
        add(eth().single_vlan(id(5)).ipv4([10, 0, 0, 1], [10, 0, 0, 100], 9).udp(4000, 9), "one tag");
        add(eth().double_vlan(id(6), id(7)).ipv4([10, 0, 0, 1], [10, 0, 0, 100], 9).udp(4000, 9), "two tags");
        let v6 = |n: u16| std::net::Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n).octets();
        add(eth().single_vlan(id(8)).ipv6(v6(1), v6(0x100), 9).udp(4000, 9), "one tag, IPv6");
        send_raw(lab, frames.clone());

        let read = || -> Vec<Vec<u8>> {
            let Ok(file) = std::fs::File::open(&captured) else {
                return Vec::new();
            };
            let Ok(mut reader) = pcap_file::pcap::PcapReader::new(file) else {
                return Vec::new();
            };
            std::iter::from_fn(|| reader.next_packet()?.ok().map(|p| p.data.into_owned())).collect()
        };
        crate::harness::wait_until("three tagged frames at the backend", || read().len() >= 3);
        for (sent, arrived) in frames.iter().zip(read()) {
            assert_eq!(arrived[..12], [2, 0, 0, 0, 0, 0x11, 2, 0, 0, 0, 0, 2], "from the balancer to the backend");
            assert_eq!(arrived[12..sent.len()], sent[12..], "nothing else has changed");
            assert!(SlicedPacket::from_ethernet(&arrived).expect("a frame").vlan().is_some());
        }
    });
}

/// On `host`, answers each datagram to port 9000 with the host's name and the datagram's length.
fn answer_datagrams(lab: &Lab, host: &'static str) {
    let serving = lab.inside(host, move || {
        let socket = UdpSocket::bind("10.0.0.100:9000").expect("the VIP's port");
        std::thread::spawn(move || {
            let mut body = [0; 65536];
            while let Ok((length, client)) = socket.recv_from(&mut body) {
                let _ = socket.send_to(format!("{host} {length}").as_bytes(), client);
            }
        });
    });
    serving.join().expect("a server");
}

#[test]
fn parts_of_a_datagram_reach_one_backend_with_the_port_in_the_hash() {
    lab("frames::parts_of_a_datagram_reach_one_backend_with_the_port_in_the_hash", &[], &[], |lab| {
        ["be1", "be2", "be3"].into_iter().for_each(|host| answer_datagrams(lab, host));
        let balancer = lab.balancer(&["-r", VIP4, BACKENDS[0], BACKENDS[1], BACKENDS[2]], 3);
        let asking = lab.inside("client", || {
            let vip: SocketAddr = "10.0.0.100:9000".parse().expect("an address");
            let mut answers = Vec::new();
            for _ in 0..40 {
                let socket = UdpSocket::bind("10.0.0.1:0").expect("a socket");
                socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
                socket.send_to(&[7; 3000], vip).expect("a datagram sent");
                let mut answer = [0; 64];
                let length = socket.recv(&mut answer).expect("an answer");
                answers.push(String::from_utf8_lossy(&answer[..length]).into_owned());
            }
            answers
        });
        let answers = asking.join().expect("the client ends");
        assert!(answers.iter().all(|answer| answer.ends_with(" 3000")), "{answers:?}");
        let backends: BTreeSet<_> = answers.iter().collect();
        assert_eq!(backends.len(), 3, "the port takes part: {backends:?}");
        assert!(balancer.statistics().contains(" 0 expired"));
    });
}
