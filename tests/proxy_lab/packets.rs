//! Which packets the proxy sends: those that carry nothing cost as much as others.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use crate::harness::{Lab, PATIENCE, PROXY4, Process, S1, lab, wait_until};

const NEEDS: [&str; 3] = ["nsenter", "nginx", "tcpdump"];
/// Clients at a time, and how often each of them connects.
const CLIENTS: usize = 32;
const TIMES: usize = 10;

/// The packets that `host` gets from the proxy, a line each. `from`: a filter (pcap-filter(7)).
fn capture(lab: &Lab, host: &str, from: &str) -> Process {
    let words = ["tcpdump", "-i", "eth0", "-nn", "-l", "-tt", "-Z", "root", "--immediate-mode", from];
    let process = lab.start(host, &words);
    wait_until("tcpdump", || process.output().contains("listening on"));
    process
}

/// What the packets of each connection carry, bytes, in their order, without those of its end. Connections are told apart
/// by the port on the side of `port_of`, 0: the sender's.
fn carried(lines: &str, port_of: usize) -> HashMap<String, Vec<usize>> {
    let mut connections: HashMap<String, Vec<usize>> = HashMap::new();
    for line in lines.lines().filter(|line| line.contains("Flags [")) {
        let addresses: Vec<&str> = line.split_whitespace().filter(|word| word.starts_with("10.")).collect();
        let length = line.split("length ").nth(1).and_then(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        });
        let (Some(address), Some(length)) = (addresses.get(port_of), length) else { panic!("{line}") };
        let carried = connections.entry((*address).trim_end_matches(':').to_owned()).or_default();
        if line.contains("Flags [S") {
            carried.clear();
        } else if !(line.contains("Flags [F") || line.contains("Flags [R")) {
            carried.push(length);
        }
    }
    connections
}

/// Many clients at a time ask once over each connection, all of it in one piece.
fn ask(lab: &Lab) {
    let address = format!("{PROXY4}:8080");
    let asked = lab.inside("client", move || {
        let ask = move || {
            for _ in 0..TIMES {
                let mut stream = TcpStream::connect(&address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                assert!(answer.ends_with("s1"), "{answer}");
            }
        };
        let clients: Vec<_> = (0..CLIENTS).map(|_| thread::spawn(ask.clone())).collect();
        clients.into_iter().for_each(|client| client.join().unwrap());
    });
    asked.join().unwrap();
}

#[test]
fn a_handshake_ends_with_the_request_where_there_are_many() {
    lab("packets::a_handshake_ends_with_the_request_where_there_are_many", &NEEDS, |lab| {
        let _nginx = lab.nginx("s1");
        let _proxy = lab.proxy(&["--threads", "1", &format!("{PROXY4}:8080"), &format!("{S1}:80")]);
        let capture = capture(lab, "s1", "tcp dst port 80 and src host 10.2.0.254");
        // Of how many depends on who was quicker; of none it is where nobody sees to it. And tcpdump misses some.
        let empty = |first: Option<&usize>| first == Some(&0);
        wait_until("a connection whose first packet after SYN carries something", || {
            ask(lab);
            let connections = carried(&capture.output(), 0);
            connections.len() > CLIENTS * TIMES / 2
                && connections.values().filter(|carried| !empty(carried.first())).count() > CLIENTS * TIMES / 20
        });
    });
}

#[test]
fn a_first_request_is_acknowledged_with_its_response_and_a_part_of_one_at_once() {
    lab("packets::a_first_request_is_acknowledged_with_its_response_and_a_part_of_one_at_once", &NEEDS, |lab| {
        let _nginx = lab.nginx("s1");
        let _proxy = lab.proxy(&["--threads", "1", "-H", &format!("{PROXY4}:8080"), &format!("{S1}:80")]);
        let capture = capture(lab, "client", "tcp src port 8080");
        // A machine that is busy for longer than the kernel holds an acknowledgement back (40 ms) sends it alone.
        wait_until("connections on which the first packet after SYN is the response", || {
            ask(lab);
            let connections = carried(&capture.output(), 1);
            let answered = connections.values().filter(|carried| carried.first().is_some_and(|&length| length > 0));
            connections.len() > CLIENTS * TIMES / 2 && answered.count() > CLIENTS * TIMES / 20
        });
        // Whoever sends the rest only when the beginning has arrived does not wait.
        let address = format!("{PROXY4}:8080");
        let (port, answer) = lab
            .inside("client", move || {
                let mut stream = TcpStream::connect(&address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                for part in ["POST /post HTTP/1.1\r\nHost: a\r\n", "Content-Length: 3\r\n", "\r\n", "a=b"] {
                    // Nagle's algorithm is on (RFC 1122, 4.2.3.4).
                    stream.write_all(part.as_bytes()).unwrap();
                }
                let mut answer = [0; 12];
                stream.read_exact(&mut answer).unwrap();
                (stream.local_addr().unwrap(), String::from_utf8_lossy(&answer).into_owned())
            })
            .join()
            .unwrap();
        assert_eq!(answer, "HTTP/1.1 200");
        let place = format!("10.1.0.1.{}", port.port());
        wait_until("a packet that only acknowledges", || {
            carried(&capture.output(), 1).get(&place).and_then(|carried| carried.first()) == Some(&0)
        });
    });
}
