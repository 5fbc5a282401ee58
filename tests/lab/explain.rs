//! Where frames go on the wire is what `pen-dsr explain` says, by whatever driver.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use pnet::datalink::{self, Channel};

use crate::harness::{BACKENDS, Lab, PEN_DSR, VIP4, VIP6, lab, wait_until};

/// Of each family.
const CLIENTS: usize = 3000;
const SERVICE: u16 = 9000;
const HOSTS: [&str; 3] = ["be1", "be2", "be3"];
const SEED: &str = "00112233445566778899aabbccddeeff";
/// Frames at a time, which the backends' sockets have room for.
const BURST: usize = 50;

/// A client's address and port.
type Client = (IpAddr, u16);

/// Clients of both families whose addresses follow no pattern.
fn clients() -> Vec<Client> {
    let mut state = 11u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let mut clients = BTreeMap::new();
    while clients.len() < 2 * CLIENTS {
        let [_, b, c, d] = random().to_be_bytes();
        // 11.0.0.0 to 126.255.255.255, and 2000::/3: no route leads there.
        let address: IpAddr = if clients.len() < CLIENTS {
            Ipv4Addr::new(11 + (random() % 116) as u8, b, c, d).into()
        } else {
            let bits = (0..4).fold(0u128, |bits, _| bits << 32 | u128::from(random()));
            Ipv6Addr::from_bits(bits & (u128::MAX >> 3) | 1 << 125).into()
        };
        clients.insert(address, 1024 + (random() % 60000) as u16);
    }
    clients.into_iter().collect()
}

/// What `client` sends first: a SYN, or if `is_udp` a datagram.
fn frame(client: Client, is_udp: bool) -> Vec<u8> {
    let eth = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match client.0 {
        IpAddr::V4(address) => eth.ipv4(address.octets(), [10, 0, 0, 100], 64),
        IpAddr::V6(address) => eth.ipv6(address.octets(), VIP6.parse::<Ipv6Addr>().expect("an address").octets(), 64),
    };
    let mut frame = Vec::new();
    if is_udp {
        ip.udp(client.1, SERVICE).write(&mut frame, b"?").expect("a frame");
    } else {
        ip.tcp(client.1, SERVICE, 1, 64240).syn().write(&mut frame, &[]).expect("a frame");
    }
    frame
}

/// Who has sent a frame to the service of a VIP.
fn sender(frame: &[u8]) -> Option<Client> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let address = match packet.net? {
        NetSlice::Ipv4(ip) => ip.header().source_addr().into(),
        NetSlice::Ipv6(ip) => ip.header().source_addr().into(),
        NetSlice::Arp(_) => return None,
    };
    let (from, to) = match packet.transport? {
        TransportSlice::Tcp(tcp) => (tcp.source_port(), tcp.destination_port()),
        TransportSlice::Udp(udp) => (udp.source_port(), udp.destination_port()),
        _ => return None,
    };
    (to == SERVICE).then_some((address, from))
}

/// Who got the frames of whom.
type Arrived = Arc<Mutex<BTreeMap<Client, Vec<&'static str>>>>;

/// Writes down what comes to each backend's interface, until the test ends.
fn watch(lab: &Lab) -> Arrived {
    let arrived = Arrived::default();
    for host in HOSTS {
        let theirs = Arc::clone(&arrived);
        let watching = lab.inside(host, move || {
            let interface = datalink::interfaces().into_iter().find(|i| i.name == "eth0").expect("eth0");
            let Ok(Channel::Ethernet(_, mut receiver)) = datalink::channel(&interface, datalink::Config::default())
            else {
                panic!("no raw channel")
            };
            std::thread::spawn(move || {
                while let Ok(frame) = receiver.next() {
                    // What the switch shows to all of them is not theirs.
                    if let Some(client) = sender(frame).filter(|_| frame[5] == 0x10 + host.as_bytes()[2] - b'0') {
                        theirs.lock().unwrap_or_else(PoisonError::into_inner).entry(client).or_default().push(host);
                    }
                }
            });
        });
        watching.join().expect("a watcher");
    }
    arrived
}

/// Sends what `clients` send first, TCP and UDP by turns.
fn send(lab: &Lab, clients: Vec<(usize, Client)>) {
    let sending = lab.inside("client", move || {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "eth0").expect("eth0");
        let Ok(Channel::Ethernet(mut sender, _)) = datalink::channel(&interface, datalink::Config::default()) else {
            panic!("no raw channel")
        };
        for burst in clients.chunks(BURST) {
            for &(number, client) in burst {
                let frame = frame(client, number % 2 == 0);
                sender.send_to(&frame, None).expect("room for a frame").expect("a frame sent");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    sending.join().expect("the sender ends");
}

/// The backend of each client, as `explain` says with `options`.
fn explained(lab: &Lab, options: &[&str], clients: &[Client]) -> Vec<String> {
    let words: Vec<String> = clients
        .iter()
        .map(|&(address, port)| match (options.contains(&"-r"), address) {
            (true, IpAddr::V6(_)) => format!("[{address}]:{port}"),
            (true, IpAddr::V4(_)) => format!("{address}:{port}"),
            (false, _) => address.to_string(),
        })
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = lab.run("client", &[&[PEN_DSR], options, &["explain"], &words].concat());
    let backends = said.lines().map(|line| line.split_whitespace().nth(2).expect("a backend"));
    backends.map(|backend| format!("be{}", backend.trim_start_matches("10.0.0.1"))).collect()
}

/// `options` before the VIPs and the backends.
fn agrees(lab: &Lab, options: &[&str]) {
    let clients = clients();
    let options =
        [options, &["--seed", SEED, VIP4, "--vip", VIP6, "10.0.0.11::::3", BACKENDS[1], BACKENDS[2]]].concat();
    let expected = explained(lab, &options, &clients);
    assert_eq!(expected.len(), clients.len());
    let arrived = watch(lab);
    let balancer = lab.balancer(&options, 3);
    wait_until("every client's frame at a backend", || {
        let missing: Vec<_> = {
            let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            (0..).zip(clients.iter().copied()).filter(|(_, client)| !arrived.contains_key(client)).collect()
        };
        let all = missing.is_empty();
        if !all {
            send(lab, missing);
        }
        all
    });
    let arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
    let mut spread: BTreeMap<&str, usize> = BTreeMap::new();
    for (client, expected) in clients.iter().zip(&expected) {
        let hosts = &arrived[client];
        assert!(hosts.iter().all(|host| host == expected), "{client:?} went to {hosts:?}, explain says {expected}");
        *spread.entry(hosts[0]).or_default() += 1;
    }
    println!("{} clients, each where explain says: {spread:?}", clients.len());
    assert_eq!(spread.len(), 3, "{spread:?}");
    drop(balancer);
}

#[test]
fn each_client_is_served_by_whom_explain_names() {
    lab("explain::each_client_is_served_by_whom_explain_names", &[], &[], |lab| agrees(lab, &[]));
}

#[test]
fn with_the_port_in_the_hash_too() {
    lab("explain::with_the_port_in_the_hash_too", &[], &[], |lab| agrees(lab, &["-r"]));
}
