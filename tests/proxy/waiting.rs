//! Requests wait for a place at a server while all have as many connections as they may, and are answered.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pen_dsr::config::Config;
use pen_dsr::config::proxy::{CertificateFiles, Forwarded, Mode, TlsConfig};
use rustls::ClientConfig;
use socket2::SockRef;

use crate::harness::{Running, config, free_address, patient, serve, start};
use crate::hostile_h2::{
    END_HEADERS, END_STREAM, GET, HEADERS, PREFACE, RST_STREAM, SETTINGS, Secure, connect, frame, trusting,
};
use crate::limits::Witness;
use crate::process::{wait_to_see, wait_until};
use crate::program::certificate;
use crate::scratch::Scratch;

/// What a server of these tests knows.
#[derive(Default)]
struct Seen {
    /// Requests that it works on.
    requests: Witness,
    /// Connections that it has.
    connections: Witness,
    /// The lines that requests began with.
    asked: Mutex<Vec<String>>,
}

/// One request: its first line, and how many bytes its body has. `None`: there is no more.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, usize)> {
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if first.is_empty() {
            first.clone_from(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert!(body.iter().enumerate().all(|(n, &byte)| byte == n as u8), "the body as it was sent");
    Some((first, length))
}

/// A server that does `work` for each request and answers with the length of its body; it closes after each, unless
/// `keeps`.
fn server(keeps: bool, work: impl Fn(&str) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let own = Arc::clone(&seen);
    let (address, made) = serve(move |stream| {
        own.connections.enter();
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while let Some((first, length)) = request(&mut reader) {
            own.requests.enter();
            own.asked.lock().unwrap().push(first.clone());
            work(&first);
            own.requests.leave();
            let body = length.to_string();
            let close = if keeps { "" } else { "Connection: close\r\n" };
            if !keeps {
                own.connections.leave();
            }
            let head = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: {}\r\n\r\n{body}", body.len());
            if writer.write_all(head.as_bytes()).is_err() || !keeps {
                return;
            }
        }
    });
    (address, made, seen)
}

/// A proxy for requests, in clear text, whose servers have `hard` connections at most.
fn plain(servers: &[SocketAddr], hard: u32) -> Config {
    let mut config = config(servers);
    config.proxy.listeners[0].mode = Mode::Http(Forwarded::default());
    config.balance.backends.iter_mut().for_each(|backend| backend.hard = hard);
    config
}

/// The same over TLS, and what its clients need to know who speak HTTP/2.
fn secure(scratch: &Scratch, servers: &[SocketAddr], hard: u32) -> (Config, Arc<ClientConfig>) {
    let (_, made) = certificate(&scratch.0);
    let path = scratch.0.join("site.pem");
    let mut config = plain(servers, hard);
    let files = CertificateFiles { chain: path.clone(), key: path, ocsp: None };
    config.proxy.listeners[0].tls = Some(TlsConfig { default: Some(files), ..TlsConfig::default() });
    let mut client = trusting(&made);
    client.alpn_protocols = vec![b"h2".to_vec()];
    (config, Arc::new(client))
}

/// Asks for / on stream number `n`.
fn get(n: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, GET)
}

/// Reads until `count` streams are over; says of each whether it had a 200 (RFC 7541 appendix A: field 8).
fn answers(stream: &mut Secure, count: usize) -> BTreeMap<u32, bool> {
    let (mut good, mut over) = (BTreeMap::new(), 0);
    while over < count {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match kind {
            HEADERS => drop(good.insert(id, payload[0] == 0x88)),
            RST_STREAM => {
                good.insert(id, false);
                over += 1;
            }
            SETTINGS if flags == 0 => stream.write_all(&frame(SETTINGS, 1, 0, &[])).unwrap(),
            _ => {}
        }
        over += usize::from(matches!(kind, 0 | HEADERS) && flags & END_STREAM != 0);
    }
    good
}

#[test]
fn requests_of_one_http2_connection_wait_for_each_other_where_servers_have_few_places() {
    const REQUESTS: u32 = 24;
    let scratch = Scratch::new("waiting");
    for (hard, keeps) in [(1, true), (1, false), (2, true), (2, false)] {
        let (address, made, seen) = server(keeps, |_| thread::sleep(Duration::from_millis(5)));
        let (config, client) = secure(&scratch, &[address], hard);
        let proxy = start(&config);
        let mut stream = connect(proxy.address, &client);
        let asked: Vec<u8> = (0..REQUESTS).flat_map(get).collect();
        stream.write_all(&[PREFACE, &asked].concat()).unwrap();
        let answered = answers(&mut stream, REQUESTS as usize);
        assert!(answered.len() == REQUESTS as usize && answered.values().all(|&good| good), "{hard}: {answered:?}");
        let most = (seen.requests.most(), seen.connections.most());
        assert!(most.0 <= hard && most.1 <= hard, "{most:?} at a time, {hard} are allowed");
        let expected = if keeps { hard as usize } else { REQUESTS as usize };
        assert!(made.load(Relaxed) <= expected, "{made:?} connections");
        assert_eq!(proxy.proxy.shared().totals.refused.load(Relaxed), 0);
    }
}

#[test]
fn clients_of_several_loops_share_the_places_and_nobody_is_turned_away() {
    const CLIENTS: usize = 9;
    const REQUESTS: u32 = 20;
    let scratch = Scratch::new("waiting");
    let (a, _, seen_a) = server(true, |_| thread::sleep(Duration::from_millis(2)));
    let (b, _, seen_b) = server(true, |_| thread::sleep(Duration::from_millis(3)));
    let (mut config, client) = secure(&scratch, &[a, b], 2);
    config.proxy.threads = 3;
    let proxy = start(&config);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = connect(proxy.address, &client);
                let asked: Vec<u8> = (0..REQUESTS).flat_map(get).collect();
                stream.write_all(&[PREFACE, &asked].concat()).unwrap();
                let answered = answers(&mut stream, REQUESTS as usize);
                assert!(answered.len() == REQUESTS as usize && answered.values().all(|&good| good), "{answered:?}");
            });
        }
    });
    for seen in [seen_a, seen_b] {
        assert!(seen.requests.most() <= 2, "{} requests at a time", seen.requests.most());
    }
    // A place is given back when its connection is closed, a moment after the last answer.
    wait_until("the end of all", || proxy.proxy.plan().servers.iter().all(|server| server.connections() == 0));
}

#[test]
fn loops_leave_the_only_place_to_each_other_however_busy_one_of_them_is() {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 5;
    let (address, _, seen) = server(true, |_| thread::sleep(Duration::from_millis(4)));
    let mut config = plain(&[address], 1);
    config.proxy.threads = 4;
    // Much longer than it takes, and shorter than clients have patience.
    config.proxy.timeouts.connect = Duration::from_secs(30);
    let proxy = start(&config);
    let done = AtomicUsize::new(0);
    // Each asks for the next as soon as it has the one before, until everybody has had some: those who have the place
    // would keep it until the others are turned away.
    let client = || {
        let mut stream = proxy.connect();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut answered = 0;
        while done.load(Relaxed) < CLIENTS {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let (mut answer, mut byte) = (Vec::new(), [0]);
            while !answer.ends_with(b"\r\n\r\n0") && reader.read_exact(&mut byte).is_ok() {
                answer.push(byte[0]);
            }
            if !answer.starts_with(b"HTTP/1.1 200 ") {
                done.fetch_add(usize::from(answered < REQUESTS), Relaxed);
                return (answered, String::from_utf8(answer).unwrap());
            }
            answered += 1;
            done.fetch_add(usize::from(answered == REQUESTS), Relaxed);
        }
        (answered, String::new())
    };
    let ends = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(ends.iter().all(|(answered, end)| *answered >= REQUESTS && end.is_empty()), "{ends:?}");
    assert_eq!(seen.requests.most(), 1);
}

#[test]
fn requests_in_clear_text_wait_with_their_bodies() {
    const CLIENTS: usize = 8;
    let (address, made, seen) = server(true, |_| thread::sleep(Duration::from_millis(5)));
    let proxy = start(&plain(&[address], 1));
    thread::scope(|scope| {
        for n in 0..CLIENTS {
            let proxy = &proxy;
            scope.spawn(move || {
                let mut stream = proxy.connect();
                let length = n * 40_000;
                let body: Vec<u8> = (0..length).map(|n| n as u8).collect();
                // Twice, the second one before the first is answered.
                let head = format!("PUT /{n} HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
                let again = format!("GET /{n} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                stream.write_all(&[head.as_bytes(), &body, again.as_bytes()].concat()).unwrap();
                let mut all = String::new();
                stream.read_to_string(&mut all).unwrap();
                assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
                assert!(all.contains(&format!("\r\n\r\n{length}HTTP")), "{all}");
            });
        }
    });
    assert_eq!((seen.requests.most(), seen.connections.most(), made.load(Relaxed)), (1, 1, 1));
}

#[test]
fn who_waits_in_vain_is_told_so_and_who_goes_away_does_not_wait() {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let hang = move |first: &str| {
        if first.starts_with("GET /first ") {
            let _ = told.lock().unwrap().recv_timeout(crate::harness::PATIENCE);
        }
    };
    let (address, _, seen) = server(true, hang);
    let ask = |proxy: &Running, path: &str| {
        let mut stream = proxy.connect();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        stream
    };
    let answer = |mut stream: TcpStream| {
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    };
    let asked = || {
        let asked = seen.asked.lock().unwrap();
        asked.iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    let mut config = plain(&[address], 1);
    config.proxy.timeouts.connect = Duration::from_secs(2);
    let proxy = start(&config);
    let first = ask(&proxy, "/first");
    wait_until("the first request", || asked() == ["/first"]);
    let refused = answer(ask(&proxy, "/in-vain"));
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert_eq!(proxy.proxy.shared().totals.refused.load(Relaxed), 1);
    tell.send(()).unwrap();
    assert!(answer(first).starts_with("HTTP/1.1 200 "));

    // Where nobody is told so before it is over: some that go away, by a reset and in order, and one that does not.
    let proxy = start(&plain(&[address], 1));
    let first = ask(&proxy, "/first");
    wait_until("the first request", || asked() == ["/first", "/first"]);
    for (n, resets) in [(0, true), (1, false)] {
        let gone = ask(&proxy, "/gone");
        SockRef::from(&gone).set_linger(resets.then_some(Duration::ZERO)).unwrap();
        wait_until("the next request", || proxy.proxy.shared().totals.requests.load(Relaxed) == 2 + n);
        wait_until("the end of the one before", || proxy.proxy.shared().connections() == 2);
        drop(gone);
        wait_until("the end of its connection", || proxy.proxy.shared().connections() == 1);
    }
    let last = ask(&proxy, "/last");
    wait_until("the last request", || proxy.proxy.shared().totals.requests.load(Relaxed) == 4);
    tell.send(()).unwrap();
    assert!(answer(first).starts_with("HTTP/1.1 200 "));
    assert!(answer(last).starts_with("HTTP/1.1 200 "));
    assert_eq!(asked(), ["/first", "/first", "/last"]);
}

#[test]
fn a_stream_that_is_reset_waits_no_more_and_those_behind_it_go_on() {
    let (tell, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let (address, _, seen) = server(true, move |_| {
        let _ = told.lock().unwrap().recv_timeout(crate::harness::PATIENCE);
    });
    let scratch = Scratch::new("waiting");
    let (config, client) = secure(&scratch, &[address], 1);
    let proxy = start(&config);
    let mut stream = connect(proxy.address, &client);
    patient(&stream.sock);
    stream.write_all(&[PREFACE, &get(0), &get(1), &get(2)].concat()).unwrap();
    wait_until("all three", || proxy.proxy.shared().totals.requests.load(Relaxed) == 3);
    stream.write_all(&frame(RST_STREAM, 0, 3, &[0, 0, 0, 8])).unwrap();
    // What has been answered shows that the reset has been read.
    stream.write_all(&[frame(SETTINGS, 0, 0, &[]), get(3)].concat()).unwrap();
    wait_until("the fourth", || proxy.proxy.shared().totals.requests.load(Relaxed) == 4);
    (0..3).for_each(|_| tell.send(()).unwrap());
    let answered = answers(&mut stream, 3);
    assert_eq!(answered, BTreeMap::from([(1, true), (5, true), (7, true)]));
    assert_eq!(seen.asked.lock().unwrap().len(), 3);
}

/// What one request over a connection of its own is answered.
fn status(proxy: &Running) -> String {
    let mut stream = proxy.connect();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn a_server_that_refuses_does_not_end_the_wait_for_one_that_is_busy() {
    const CLIENTS: usize = 6;
    let (busy, _, seen) = server(true, |_| thread::sleep(Duration::from_millis(3)));
    let mut config = plain(&[free_address(), busy], 1);
    // It is tried by every request.
    config.proxy.timeouts.blacklist = Duration::ZERO;
    let proxy = start(&config);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| (0..10).for_each(|_| assert_eq!(status(&proxy), "200")));
        }
    });
    assert_eq!(seen.requests.most(), 1);
}

#[test]
fn a_connection_that_another_loop_keeps_ready_does_not_hold_up_a_server_that_serves_one() {
    // As servers with a process for each connection do: the next one waits until the one before is closed.
    let turn = Arc::new(Mutex::new(()));
    let (address, _) = serve(move |stream| {
        let _turn = turn.lock().unwrap();
        let mut writer = stream.try_clone().unwrap();
        let mut reader = BufReader::new(stream);
        while request(&mut reader).is_some()
            && writer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_ok()
        {}
    });
    let mut config = plain(&[address], 1);
    config.proxy.threads = 4;
    // Less than the time between two looks at what is kept.
    config.proxy.timeouts.idle = Duration::from_millis(700);
    let proxy = start(&config);
    // A busy machine may take its time for some, but not again and again.
    let answers = || (0..20).map(|_| status(&proxy)).collect::<Vec<_>>();
    let good = |answers: &Vec<String>| answers.iter().filter(|status| *status == "200").count() >= 17;
    wait_to_see("answers", answers, good);
}
