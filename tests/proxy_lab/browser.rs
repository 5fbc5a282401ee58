//! A client that asks for the same over and over, as a browser does, and counts what goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::harness::{Lab, PATIENCE, wait_until};

/// What a browser has seen.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// Answers of 200, by what they said.
    pub answers: BTreeMap<String, usize>,
    /// Connections that were made.
    pub connections: usize,
    /// Requests that were sent again over a new connection, as theirs had been closed before a byte of the answer
    /// (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
    pub repeated: usize,
    /// What went wrong.
    pub failures: Vec<String>,
    /// Certificates that it was shown (DER), by TLS.
    pub shown: BTreeSet<Vec<u8>>,
}

impl Visit {
    /// How many answers there were.
    pub fn count(&self) -> usize {
        self.answers.values().sum()
    }

    fn add(&mut self, other: Visit) {
        for (said, count) in other.answers {
            *self.answers.entry(said).or_default() += count;
        }
        self.connections += other.connections;
        self.repeated += other.repeated;
        self.failures.extend(other.failures);
        self.shown.extend(other.shown);
    }
}

/// Answers of 200, by what they said.
type Answers = Mutex<BTreeMap<String, usize>>;

/// Browsers at work.
pub struct Browsers {
    stop: Arc<AtomicBool>,
    /// Answers to each of them, so far.
    answers: Vec<Arc<Answers>>,
    /// What went wrong, so far.
    failures: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Visit>>,
}

impl Lab {
    /// Starts so many of them on `client`, half of which make a new connection for each request.
    pub fn browse(&self, count: usize, address: &str) -> Browsers {
        self.browse_by(count, address, None)
    }

    /// The same by TLS, if there are settings for that; servers are called `localhost` then.
    pub fn browse_by(&self, count: usize, address: &str, tls: Option<&Arc<ClientConfig>>) -> Browsers {
        let (stop, address): (_, SocketAddr) = (Arc::new(AtomicBool::new(false)), address.parse().unwrap());
        let failures = Arc::new(AtomicUsize::new(0));
        let answers: Vec<Arc<Answers>> = (0..count).map(|_| Arc::default()).collect();
        let threads = answers.iter().enumerate().map(|(n, answers)| {
            let (stop, tls) = (Arc::clone(&stop), tls.cloned());
            let counted = (Arc::clone(answers), Arc::clone(&failures));
            self.inside("client", move || browse(address, tls.as_ref(), n % 2 == 0, &stop, &counted))
        });
        let threads = threads.collect();
        Browsers { threads, stop, answers, failures }
    }
}

impl Browsers {
    /// Waits until they have got so many answers more.
    pub fn go_on(&self, answers: usize) {
        let until = self.count() + answers;
        wait_until("answers", || self.count() >= until);
    }

    /// Waits until what was asked before now is answered, and each has asked for something since, and got it.
    pub fn each_goes_on(&self) {
        let counts = || self.answers.iter().map(|of| of.lock().unwrap().values().sum()).collect::<Vec<usize>>();
        let before = counts();
        wait_until("answers for each", || counts().iter().zip(&before).all(|(now, before)| *now >= before + 2));
    }

    /// Waits until `server` has answered once more than so far.
    pub fn hear(&self, server: &str) {
        let before = self.heard(server);
        wait_until("an answer by a server", || self.heard(server) > before);
    }

    /// How often `server` has answered.
    pub fn heard(&self, server: &str) -> usize {
        self.answers.iter().filter_map(|of| of.lock().unwrap().get(server).copied()).sum()
    }

    fn count(&self) -> usize {
        self.answers.iter().map(|of| of.lock().unwrap().values().sum::<usize>()).sum()
    }

    /// Waits until one of them fails.
    pub fn fail(&self) {
        wait_until("a failure", || self.failures.load(Ordering::Relaxed) > 0);
    }

    /// Stops them; what they have seen.
    pub fn stop(self) -> Visit {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Visit::default();
        for thread in self.threads {
            all.add(thread.join().unwrap());
        }
        all
    }
}

fn browse(
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
    keep: bool,
    stop: &AtomicBool,
    (answers, failures): &(Arc<Answers>, Arc<AtomicUsize>),
) -> Visit {
    let mut visit = Visit::default();
    let mut connection: Option<BufReader<Connection>> = None;
    while !stop.load(Ordering::Relaxed) {
        let reused = connection.is_some();
        let answer = match connection.take() {
            Some(connection) => Ok(connection),
            None => Connection::make(address, tls, &mut visit).map(BufReader::new),
        };
        let answer = answer.and_then(|mut connection| ask(&mut connection, keep).map(|answer| (connection, answer)));
        match answer {
            Ok((kept, Answer { status: 200, body, close })) => {
                *answers.lock().unwrap().entry(body.clone()).or_default() += 1;
                *visit.answers.entry(body).or_default() += 1;
                connection = (keep && !close).then_some(kept);
            }
            Ok((_, Answer { status, body, .. })) => visit.failures.push(format!("{status} {body}")),
            Err(Problem::Nothing(_)) if reused => visit.repeated += 1,
            Err(problem) => visit.failures.push(format!("{problem:?}, reused: {reused}")),
        }
        failures.store(visit.failures.len(), Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(2));
    }
    visit
}

struct Answer {
    status: u16,
    body: String,
    close: bool,
}

#[derive(Debug)]
#[allow(dead_code)] // what is in it is printed
enum Problem {
    /// Before a byte of the answer.
    Nothing(String),
    /// Within it.
    Cut(String),
}

/// A connection to a server.
pub enum Connection {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Connection {
    fn make(address: SocketAddr, tls: Option<&Arc<ClientConfig>>, visit: &mut Visit) -> Result<Connection, Problem> {
        visit.connections += 1;
        let connection = Connection::open(address, tls).map_err(|e| Problem::Nothing(format!("connecting: {e}")))?;
        visit.shown.extend(connection.certificate());
        Ok(connection)
    }

    /// Makes one, with its TLS handshake.
    pub fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Connection> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some(config) = tls else { return Ok(Connection::Plain(stream)) };
        let name = "localhost".try_into().expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut stream)?;
        }
        Ok(Connection::Tls(Box::new(StreamOwned::new(tls, stream))))
    }

    /// What the server has shown (DER).
    pub fn certificate(&self) -> Option<Vec<u8>> {
        let Connection::Tls(stream) = self else { return None };
        stream.conn.peer_certificates()?.first().map(|certificate| certificate.to_vec())
    }
}

impl Read for Connection {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.read(into),
            Connection::Tls(stream) => stream.read(into),
        }
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Connection::Plain(stream) => stream.write(bytes),
            Connection::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Connection::Plain(stream) => stream.flush(),
            Connection::Tls(stream) => stream.flush(),
        }
    }
}

fn ask(connection: &mut BufReader<Connection>, keep: bool) -> Result<Answer, Problem> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n");
    let nothing = |e: std::io::Error| Problem::Nothing(e.to_string());
    connection.get_mut().write_all(request.as_bytes()).map_err(nothing)?;
    connection.get_mut().flush().map_err(nothing)?;
    let mut line = String::new();
    if connection.read_line(&mut line).map_err(nothing)? == 0 {
        return Err(Problem::Nothing("the end".to_owned()));
    }
    let cut = |what: &str| Problem::Cut(format!("{what} after {line:?}"));
    let status = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).ok_or_else(|| cut("no status"))?;
    let (mut length, mut close) = (0, false);
    loop {
        let mut header = String::new();
        match connection.read_line(&mut header) {
            Ok(0) => return Err(cut("the end")),
            Err(e) => return Err(cut(&e.to_string())),
            Ok(_) => {}
        }
        let header = header.trim().to_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length: ") {
            length = value.parse().map_err(|_| cut("a bad length"))?;
        }
        close |= header == "connection: close";
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).map_err(|e| cut(&e.to_string()))?;
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), close })
}
