//! Requests find servers, one by one, and servers are told whose they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pen_dsr::config::Config;
use pen_dsr::config::proxy::{Forwarded, Mode};

use crate::harness::{config, free_address, serve, start};

/// A server that answers each request with the request's head as the body, and says `name` in a header.
fn http_server(name: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    serve(move |stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head += &line;
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let response =
                format!("HTTP/1.1 200 OK\r\nX-Server: {name}\r\nContent-Length: {}\r\n\r\n{head}", head.len());
            if writer.write_all(response.as_bytes()).is_err() {
                return;
            }
        }
    })
}

fn http_config(servers: &[SocketAddr]) -> Config {
    let mut config = config(servers);
    config.proxy.listeners[0].mode = Mode::Http(Forwarded::default());
    config
}

/// One response of known length: its head, its body.
fn response(reader: &mut BufReader<TcpStream>) -> (String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "the end after {head:?}");
    }
    let length =
        head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length").parse().unwrap();
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[test]
fn every_request_of_a_connection_gets_the_headers_however_it_is_split() {
    let (server, connections) = http_server("a");
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let request = "POST /x HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 6.6.6.6\r\nContent-Length: 3\r\n\r\nabc";
    // A pipeline, and then byte by byte.
    client.write_all(request.repeat(5).as_bytes()).unwrap();
    for byte in request.as_bytes() {
        client.write_all(&[*byte]).unwrap();
        if byte.is_ascii_uppercase() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
    for _ in 0..6 {
        let (_, seen) = response(&mut reader);
        assert!(seen.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"), "{seen}");
        assert!(seen.contains("\r\nX-Forwarded-Proto: http\r\n") && !seen.contains("6.6.6.6"), "{seen}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1, "a server's connection is used again");
}

#[test]
fn requests_of_one_connection_go_round_the_servers() {
    let (a, _) = http_server("a");
    let (b, _) = http_server("b");
    let mut config = http_config(&[a, b]);
    config.proxy.selection.track = false;
    let proxy = start(&config);
    let mut client = proxy.connect();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut seen = [0, 0];
    for _ in 0..10 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let (head, _) = response(&mut reader);
        seen[usize::from(head.contains("X-Server: b"))] += 1;
    }
    assert_eq!(seen, [5, 5]);
}

#[test]
fn with_nobody_to_serve_it_a_request_gets_503() {
    let proxy = start(&http_config(&[free_address()]));
    let mut client = proxy.connect();
    client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[test]
fn a_request_that_can_be_read_in_two_ways_gets_400_and_no_server() {
    let (server, connections) = http_server("a");
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let smuggled = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG";
    client.write_all(smuggled.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(connections.load(Ordering::Relaxed), 0);
}

#[test]
fn a_large_body_goes_both_ways_whole() {
    const LENGTH: usize = 20 << 20;
    let (server, _) = serve(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let mut body = vec![0; LENGTH];
        stream.read_exact(&mut body).unwrap();
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
        stream.write_all(&body).unwrap();
        let _ = stream.read(&mut [0]);
    });
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let sent: Vec<u8> = (0..LENGTH).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    write!(client, "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
    client.write_all(&sent).unwrap();
    let mut reader = BufReader::new(client);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    let mut back = vec![0; LENGTH];
    reader.read_exact(&mut back).unwrap();
    assert!(back == sent);
}

/// A server that takes chunked requests, and says each again as a chunked response, cut at `cut` of it.
fn chunked_echo(cut: usize) -> SocketAddr {
    let (address, _) = serve(move |mut stream| {
        let mut request = Vec::new();
        let mut buffer = [0; 65536];
        while !request.ends_with(b"\r\n0\r\nX-T: y\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(length) if length > 0 => request.extend_from_slice(&buffer[..length]),
                _ => return,
            }
        }
        let body = request.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        let response = [&head[..], &request[body..]].concat();
        in_two(&mut stream, &response, cut);
    });
    address
}

/// Sends `bytes` in two parts, so that the first is most often read alone.
fn in_two(stream: &mut TcpStream, bytes: &[u8], cut: usize) {
    let cut = cut.min(bytes.len());
    let _ = stream.write_all(&bytes[..cut]);
    std::thread::sleep(Duration::from_millis(10));
    let _ = stream.write_all(&bytes[cut..]);
}

#[test]
fn chunked_messages_arrive_wherever_they_are_cut() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let body = b"3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nX-T: y\r\n\r\n";
    let request = [&head[..], body].concat();
    for cut in 1..request.len() {
        let proxy = start(&http_config(&[chunked_echo(cut)]));
        let mut client = proxy.connect();
        in_two(&mut client, &request, cut);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.ends_with(body), "cut at {cut}");
    }
}

#[test]
fn the_end_of_a_request_is_noticed_where_its_body_has_to_wait_for_room() {
    let (server, _) = http_server("a");
    for half_closed in [true, false] {
        for length in [15_000, 17_000, 30_000, 33_000, 300_000] {
            let proxy = start(&http_config(&[server]));
            let mut client = proxy.connect();
            let head = format!("POST /{length} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
            client.write_all(&[head.as_bytes(), &vec![b'x'; length]].concat()).unwrap();
            if half_closed {
                client.shutdown(Shutdown::Write).unwrap();
            }
            let mut reader = BufReader::new(client);
            let (answer, said) = response(&mut reader);
            assert!(answer.starts_with("HTTP/1.1 200 OK") && said.starts_with(&format!("POST /{length} ")), "{answer}");
            // A client that asks for nothing else is kept.
            assert_eq!(answer.contains("Connection: close"), half_closed, "{length}: {answer}");
        }
    }
}

#[test]
fn a_refusal_reaches_a_slow_client_whole_that_goes_on_with_its_upload() {
    const LENGTH: usize = 6 << 20;
    let (server, _) = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4000]);
        let head = format!("HTTP/1.1 413 x\r\nContent-Length: {LENGTH}\r\nConnection: close\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; LENGTH]].concat());
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n").unwrap();
    let (mut received, mut buffer) = (0, vec![0; 256 << 10]);
    loop {
        // Slower than the proxy waits for clients that have got everything.
        let _ = client.write_all(&[b'x'; 1000]);
        std::thread::sleep(Duration::from_millis(150));
        match client.read(&mut buffer) {
            Ok(0) | Err(_) => break,
            Ok(length) => received += length,
        }
    }
    assert!(received > LENGTH, "{received} of {LENGTH} bytes");
}

#[test]
fn a_large_body_in_small_chunks_arrives_whole() {
    let chunks = (1..20_000_usize).map(|n| format!("{:x}\r\n{}\r\n", n % 300 + 1, "x".repeat(n % 300 + 1)));
    let body = chunks.collect::<String>() + "0\r\nX-T: y\r\n\r\n";
    let proxy = start(&http_config(&[chunked_echo(1000)]));
    let mut client = proxy.connect();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let mut reader = client.try_clone().unwrap();
    let answer = std::thread::spawn(move || {
        let mut answer = Vec::new();
        reader.read_to_end(&mut answer).map(|_| answer)
    });
    client.write_all(head).unwrap();
    client.write_all(body.as_bytes()).unwrap();
    let answer = answer.join().unwrap().unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.ends_with(body.as_bytes()));
}

#[test]
fn an_upgrade_is_a_tunnel_with_both_ends() {
    let (server, _) = serve(|stream| {
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nfirst";
        writer.write_all(switched.as_bytes()).unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        all.reverse();
        writer.write_all(&all).unwrap();
    });
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let ask = "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nabc";
    client.write_all(ask.as_bytes()).unwrap();
    client.write_all(b"def").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_ascii_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!(rest, "firstfedcba");
}

#[test]
fn a_request_is_sent_again_when_its_reused_connection_turns_out_dead() {
    // Each connection answers one request and closes with the next one.
    let (server, connections) = serve(|mut stream| {
        let mut bytes = [0; 4096];
        if stream.read(&mut bytes).unwrap_or(0) == 0 {
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        let _ = stream.read(&mut bytes);
    });
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..4 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(response(&mut reader).1, "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 4);
}

#[test]
fn what_a_server_sends_behind_a_response_answers_nobody() {
    let (server, connections) = serve(|mut stream| {
        let mut bytes = [0; 4096];
        if stream.read(&mut bytes).unwrap_or(0) == 0 {
            return;
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-").unwrap();
        std::thread::sleep(std::time::Duration::from_millis(50));
        let rest = b"Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        stream.write_all(rest).unwrap();
        let _ = stream.read(&mut bytes);
    });
    let proxy = start(&http_config(&[server]));
    let mut client = proxy.connect();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..3 {
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        assert_eq!(response(&mut reader).1, "ok");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 3, "such a connection is not used again");
}

#[test]
fn the_end_of_a_large_response_reaches_a_slow_client_whose_connection_is_kept() {
    const LENGTH: usize = 3_000_017;
    let (server, _) = serve(|mut stream| {
        let mut bytes = [0; 4096];
        while stream.read(&mut bytes).unwrap_or(0) > 0 {
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").unwrap();
            stream.write_all(&vec![b'x'; LENGTH]).unwrap();
        }
    });
    let proxy = start(&http_config(&[server]));
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&proxy.address.into()).unwrap();
    let client: TcpStream = socket.into();
    crate::harness::patient(&client);
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..2 {
        (&client).write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        // The server has long said all and been let go of.
        std::thread::sleep(std::time::Duration::from_millis(300));
        assert_eq!(response(&mut reader).1.len(), LENGTH);
    }
}
