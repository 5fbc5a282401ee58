//! Servers that say nothing to a request: for how long they may, and for how long when the client has ended its side.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::harness::{PATIENCE, free_address, patient, serve};
use crate::program::{Program, listen, server};
use crate::scratch::Scratch;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// A server that answers its first request when it is told to, and all others at once; it tells when it has a first one,
/// and when the proxy has ended that connection.
fn hesitant() -> (SocketAddr, Sender<()>, Receiver<&'static str>) {
    let (answer, told) = channel::<()>();
    let (tell, events) = channel();
    let told = Mutex::new(Some(told));
    let (address, _) = serve(move |mut stream| {
        let mut request = [0; 4000];
        if !stream.read(&mut request).is_ok_and(|length| length > 0) {
            return;
        }
        let first = told.lock().unwrap().take();
        if let Some(told) = first {
            let _ = tell.send("asked");
            if told.recv().is_err() {
                let ended = matches!(stream.read(&mut request), Ok(0) | Err(_));
                let _ = tell.send(if ended { "ended" } else { "more" });
                return;
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    (address, answer, events)
}

fn program(scratch: &Scratch, servers: SocketAddr, options: &str, timeouts: &str) -> (Program, SocketAddr) {
    let address = free_address();
    let more = format!("mode = \"http\"\n[proxy.timeouts]\n{timeouts}");
    let toml = format!("{}{options}\n{}", server("be", servers), listen(address.to_string(), &more));
    (Program::start(scratch, &toml), address)
}

fn ask(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    patient(&stream);
    stream.write_all(REQUEST).unwrap();
    stream
}

fn answer(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn one_that_has_a_request_and_is_silent_for_too_long_is_given_up_and_the_client_is_told() {
    let scratch = Scratch::new("silent");
    let (servers, go_on, events) = hesitant();
    let (_program, address) = program(&scratch, servers, "", "response = 1\nidle = 600\n");
    let client = ask(address);
    assert_eq!(events.recv_timeout(PATIENCE), Ok("asked"));
    let answer = answer(client);
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
    drop(go_on);
    assert_eq!(events.recv_timeout(PATIENCE), Ok("ended"));
}

#[test]
fn a_client_that_stops_in_the_midst_of_its_request_is_to_blame_itself() {
    let scratch = Scratch::new("silent");
    let (servers, _go_on, _events) = hesitant();
    let (_program, address) = program(&scratch, servers, "", "response = 1\nidle = 600\n");
    let mut client = TcpStream::connect(address).unwrap();
    patient(&client);
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let answer = answer(client);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn a_client_that_has_ended_its_side_gets_its_response_within_its_time() {
    let scratch = Scratch::new("silent");
    let (servers, go_on, events) = hesitant();
    let (_program, address) = program(&scratch, servers, "", "response = 600\nclient-fin = 600\n");
    let client = ask(address);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(events.recv_timeout(PATIENCE), Ok("asked"));
    go_on.send(()).unwrap();
    let answer = answer(client);
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
}

#[test]
fn the_place_of_a_client_that_has_gone_is_given_to_the_next_although_its_server_is_silent() {
    let scratch = Scratch::new("silent");
    let (servers, go_on, events) = hesitant();
    let (_program, address) = program(&scratch, servers, "hard = 1", "response = 600\nclient-fin = 1\nconnect = 300\n");
    let gone = ask(address);
    assert_eq!(events.recv_timeout(PATIENCE), Ok("asked"));
    drop(gone);
    // It waits for the only place until then.
    let answer = answer(ask(address));
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    drop(go_on);
    assert_eq!(events.recv_timeout(PATIENCE), Ok("ended"));
}

#[test]
fn the_place_of_a_client_that_has_gone_from_a_stream_of_events_is_given_to_the_next() {
    let first = Mutex::new(true);
    let (servers, _) = serve(move |mut stream| {
        let mut request = [0; 4000];
        let _ = stream.read(&mut request);
        if std::mem::take(&mut *first.lock().unwrap()) {
            // Its head, and nothing more, until the proxy ends it.
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            stream.set_read_timeout(None).unwrap();
            let _ = stream.read(&mut request);
        } else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let scratch = Scratch::new("silent");
    let (_program, address) = program(&scratch, servers, "hard = 1", "client-fin = 1\nconnect = 300\n");
    let mut gone = ask(address);
    assert!(gone.read(&mut [0; 1]).is_ok_and(|length| length == 1), "its head");
    gone.shutdown(Shutdown::Write).unwrap();
    let answer = answer(ask(address));
    assert!(answer.ends_with("ok"), "{answer}");
}
