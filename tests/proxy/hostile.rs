//! Clients that mean no good, or do not know better: the program refuses them in good order, no server ever sees what
//! they tried, and everybody else is served meanwhile.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, free_address, patient, uninterrupted};
use crate::process::wait_to_see;
use crate::program::{Program, by_tls, certificate, listen, server};
use crate::scratch::Scratch;

/// What clients have for their first request, in these tests: longer than the machine may stand still between two steps of
/// one that goes on.
const REQUEST: &str = "[proxy.timeouts]\nrequest = 5\nconnect = 45\n";

/// A server for HTTP that keeps all it was sent, and answers every request with its path.
struct Recorder {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Recorder {
    fn start() -> Recorder {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, seen) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let record = Arc::clone(&seen);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let record = Arc::clone(&record);
                thread::spawn(move || Recorder::serve(stream, &record));
            }
        });
        Recorder { address, seen }
    }

    fn serve(mut stream: TcpStream, record: &Mutex<Vec<u8>>) {
        let mut buffer = [0; 64 << 10];
        let mut all = Vec::new();
        while let Ok(n) = stream.read(&mut buffer) {
            if n == 0 {
                return;
            }
            record.lock().unwrap().extend_from_slice(&buffer[..n]);
            all.extend_from_slice(&buffer[..n]);
            while let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&all[..end]).into_owned();
                all.drain(..end + 4);
                let path = head.split_whitespace().nth(1).unwrap_or_default().to_owned();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    patient(&stream);
    stream
}

/// All that comes until the connection ends, in order or by a reset.
fn rest(stream: &mut TcpStream) -> String {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match uninterrupted(|| stream.read(&mut buffer)) {
            Ok(0) => break,
            Ok(n) => all.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::ConnectionReset => break,
            Err(e) => panic!("the connection does not end: {e}; so far {:?}", String::from_utf8_lossy(&all)),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The status of the answer to `request`, which has to be complete.
fn get(address: SocketAddr, path: &str) -> String {
    let mut client = connect(address);
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    rest(&mut client)
}

/// The program with one listener, its lines `more`, in front of `servers`.
fn program(scratch: &Scratch, more: &str, servers: &[SocketAddr]) -> (Program, SocketAddr) {
    let address = free_address();
    let mut toml: String = servers.iter().enumerate().map(|(n, at)| server(&format!("be{n}"), *at)).collect();
    toml += &listen(address.to_string(), more);
    (Program::start(scratch, &toml), address)
}

fn http(scratch: &Scratch, more: &str) -> (Program, SocketAddr, Recorder) {
    let recorder = Recorder::start();
    let (program, address) = program(scratch, &format!("mode = \"http\"\n{more}"), &[recorder.address]);
    (program, address, recorder)
}

#[test]
fn who_sends_a_head_drop_by_drop_is_cut_off_and_others_are_served() {
    let scratch = Scratch::new("hostile");
    let (_program, address, recorder) = http(&scratch, REQUEST);
    let slow: Vec<_> = [&b"GET /drip HTTP/1.1\r\nHost: a\r\nX: "[..], b""]
        .into_iter()
        .map(|first| {
            thread::spawn(move || {
                let mut client = connect(address);
                client.write_all(first).unwrap();
                let began = Instant::now();
                while began.elapsed() < PATIENCE {
                    thread::sleep(Duration::from_millis(50));
                    // Who says nothing at all has the same time.
                    if !first.is_empty() && client.write_all(b"a").is_err() {
                        return String::new();
                    }
                    client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
                    let mut buffer = [0; 1000];
                    match client.read(&mut buffer) {
                        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                        Ok(n) => return String::from_utf8_lossy(&buffer[..n]).into_owned(),
                        Err(_) => return String::new(),
                    }
                }
                panic!("never cut off");
            })
        })
        .collect();
    for _ in 0..20 {
        assert!(get(address, "/other").starts_with("HTTP/1.1 200"));
        thread::sleep(Duration::from_millis(20));
    }
    for one in slow {
        let said = one.join().unwrap();
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{said}");
    }
    assert!(!recorder.text().contains("/drip"));
}

#[test]
fn a_head_of_a_megabyte_is_refused_and_takes_no_memory() {
    let scratch = Scratch::new("hostile");
    let (program, address, recorder) = http(&scratch, "");
    assert!(get(address, "/first").contains("200 OK"));
    let before = program.memory();
    for shape in ["X: ", "X: a\r\n", "GET /"] {
        let mut client = connect(address);
        let mut request =
            if shape.starts_with("GET") { Vec::new() } else { b"GET /huge HTTP/1.1\r\nHost: a\r\n".to_vec() };
        request.extend_from_slice(shape.as_bytes());
        let filling: &[u8] = if shape.ends_with('\n') { b"Y: a\r\n" } else { b"aaaaaa" };
        request.extend(filling.iter().cycle().take(1 << 20));
        // It may be refused while it is being sent.
        let _ = client.write_all(&request);
        let _ = client.write_all(b"\r\n\r\n");
        let said = rest(&mut client);
        let status = said.split_whitespace().nth(1).unwrap_or("none").to_owned();
        assert!(["none", "400", "414", "431"].contains(&status.as_str()), "{said}");
    }
    assert!(program.memory() < before + (4 << 20), "{} bytes, {before} before", program.memory());
    assert!(!recorder.text().contains("huge"));
    assert!(get(address, "/last").contains("200 OK"));
}

/// Requests that two readers could understand in two ways. None may be passed on; `/smuggled` stands where one of them
/// would see a second request.
const SMUGGLING: [&str; 30] = [
    // Two lengths, or a length and chunks (RFC 9112 section 6.3).
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0, 36\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: +0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 0x0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length : 0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    // A coding that one of them does not recognize.
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    // Lines that end in two ways.
    "GET /a HTTP/1.1\r\nHost: a\r\nX: y\rGET /smuggled HTTP/1.1\r\n\r\n",
    "GET /a HTTP/1.1\r\nHost: a\r\nX: \0GET /smuggled HTTP/1.1\r\n\r\n",
    "GET /a\rGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    // Chunks (RFC 9112 section 7.1).
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\naXX0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    // Whom it is for.
    "GET /smuggled HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "GET /smuggled HTTP/1.1\r\n\r\n",
    "GET /smuggled HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn a_request_that_can_be_understood_in_two_ways_reaches_no_server() {
    let scratch = Scratch::new("hostile");
    let (_program, address, recorder) = http(&scratch, "");
    for vector in SMUGGLING {
        for cut in [vector.len(), vector.len() / 2, 1] {
            let mut client = connect(address);
            client.set_nodelay(true).unwrap();
            for part in vector.as_bytes().chunks(cut.max(7)) {
                if client.write_all(part).is_err() {
                    break;
                }
            }
            let said = rest(&mut client);
            // Of a chunked body the head may have been passed on before the fault came; then the answer is an end.
            let refused = ["HTTP/1.1 400", "HTTP/1.1 413", "HTTP/1.1 501", "HTTP/1.1 505", "HTTP/1.1 411"];
            let good = refused.iter().any(|status| said.starts_with(status));
            let late = vector.contains("chunked\r\n\r\n") && !said.contains("/smuggled");
            assert!(good || late, "{vector:?} is answered with {said:?}");
            let seen = recorder.text();
            assert!(!seen.contains("GET /smuggled"), "{vector:?}: the server has seen {seen:?}");
        }
    }
    assert!(get(address, "/last").contains("200 OK"));
}

#[test]
fn a_proxy_header_is_believed_from_who_is_listed_however_it_is_split_and_from_nobody_else() {
    let scratch = Scratch::new("hostile");
    let (_program, stranger, recorder) = http(&scratch, "accept-proxy = [\"127.0.0.9\"]\n");
    let header = "PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\r\n";
    let request = "GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = connect(stranger);
    client.write_all(format!("{header}{request}").as_bytes()).unwrap();
    let said = rest(&mut client);
    assert!(said.starts_with("HTTP/1.1 400") || said.starts_with("HTTP/1.1 505"), "{said}");
    assert_eq!(recorder.text(), "");

    let more = format!("accept-proxy = [\"127.0.0.0/8\"]\n{REQUEST}");
    let (program, address, recorder) = http(&scratch, &more);
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x08\x04\xd2\0\x50";
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (header, client_is) in [(header.as_bytes(), "192.0.2.7"), (v2, "192.0.2.7"), (local, "127.0.0.1")] {
        for cut in [1, 5, 1000] {
            let mut client = connect(address);
            client.set_nodelay(true).unwrap();
            for part in header.chunks(cut) {
                client.write_all(part).unwrap();
                thread::sleep(Duration::from_millis(2));
            }
            client.write_all(request.as_bytes()).unwrap();
            assert!(rest(&mut client).starts_with("HTTP/1.1 200"), "{header:?} in parts of {cut}");
            let seen = std::mem::take(&mut *recorder.seen.lock().unwrap());
            let seen = String::from_utf8_lossy(&seen).to_lowercase();
            assert!(seen.contains(&format!("x-forwarded-for: {client_is}\r\n")), "{seen}");
        }
    }
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 500], b"\r\n"].concat();
    let garbage: [&[u8]; 9] = [
        request.as_bytes(),
        b"PROXY TCP4 192.0.2.7 192.0.2.8 1234\r\n",
        b"PROXY TCP4 192.0.2.777 192.0.2.8 1234 80\r\n",
        b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 80\n",
        b"PROXY UDP4 192.0.2.7 192.0.2.8 1234 80\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x07\xc0\0\x02\x08\x04\xd2\0\x50",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03\xc0\0\x02",
        &long,
        // Says nothing, and is not waited for for ever.
        b"",
    ];
    for bad in garbage {
        let mut client = connect(address);
        client.write_all(bad).unwrap();
        if !bad.is_empty() {
            // It may have been cut off already.
            let _ = client.write_all(request.as_bytes());
        }
        let said = rest(&mut client);
        assert!(!said.contains("200 OK"), "{}: {said}", String::from_utf8_lossy(bad));
    }
    assert_eq!(recorder.text(), "");
    // Who says nothing is late, not wrong.
    let failed = format!("and {} PROXY headers failed", garbage.len() - 1);
    wait_to_see("the count", || program.ctl("status"), |status| status.contains(&failed));
}

#[test]
fn what_is_no_tls_ends_at_once_or_in_time_and_others_are_served() {
    let scratch = Scratch::new("hostile");
    let recorder = Recorder::start();
    let (tls, made) = certificate(&scratch.0);
    let address = free_address();
    let toml = [server("be", recorder.address), REQUEST.to_owned(), listen(address.to_string(), &tls)].concat();
    let program = Program::start(&scratch, &toml);
    // The beginning of a ClientHello that never goes on.
    let hello = [b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".as_slice(), &[7; 100]].concat();
    let garbage: [Vec<u8>; 7] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        vec![0; 100_000],
        vec![0xff; 3],
        (0..60_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect(),
        hello,
        // A record that is longer than any may be.
        b"\x16\x03\x01\xff\xff".iter().copied().chain(std::iter::repeat_n(1, 70_000)).collect(),
        Vec::new(),
    ];
    for bad in &garbage {
        let mut client = connect(address);
        // It may be cut off while it is still talking.
        let _ = client.write_all(bad);
        let said = rest(&mut client);
        assert!(said.len() < 20, "{said:?} for {} bytes", bad.len());
        assert!(tls_get(address, &made).contains("200 OK"));
    }
    // Two had only to be waited for in vain.
    let counted = |status: &String| ["5", "7"].iter().any(|n| status.contains(&format!("{n} TLS handshakes")));
    wait_to_see("the count", || program.ctl("status"), counted);
    assert!(!recorder.text().contains("\u{16}"));
}

fn tls_get(address: SocketAddr, made: &rcgen::CertifiedKey<rcgen::KeyPair>) -> String {
    let mut stream = by_tls(connect(address), made);
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let mut answer = [0; 1000];
    let n = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..n]).into_owned()
}

#[test]
fn a_client_that_says_nothing_hears_what_the_server_says() {
    let (server, _) = crate::harness::serve(|mut stream| {
        stream.write_all(b"220 hello\r\n").unwrap();
        let _ = stream.read(&mut [0]);
    });
    let scratch = Scratch::new("hostile");
    let (_program, address) = program(&scratch, "", &[server]);
    let mut client = connect(address);
    let mut said = [0; 11];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"220 hello\r\n");
}
