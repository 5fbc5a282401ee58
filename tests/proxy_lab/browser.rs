//! A client that asks for the same over and over, as a browser does, and counts what goes wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{Lab, PATIENCE, wait_until};

/// What a browser has seen.
#[derive(Clone, Debug, Default)]
pub struct Visit {
    /// Answers of 200, by what they said.
    pub answers: std::collections::BTreeMap<String, usize>,
    /// Connections that were made.
    pub connections: usize,
    /// Requests that were sent again over a new connection, as theirs had been closed before a byte of the answer
    /// (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
    pub repeated: usize,
    /// What went wrong.
    pub failures: Vec<String>,
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
    }
}

/// Browsers at work.
pub struct Browsers {
    stop: Arc<AtomicBool>,
    /// Answers, so far.
    answers: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Visit>>,
}

impl Lab {
    /// Starts so many of them on `client`, half of which make a new connection for each request.
    pub fn browse(&self, count: usize, address: &str) -> Browsers {
        let (stop, address): (_, SocketAddr) = (Arc::new(AtomicBool::new(false)), address.parse().unwrap());
        let answers = Arc::new(AtomicUsize::new(0));
        let threads = (0..count).map(|n| {
            let (stop, answers) = (Arc::clone(&stop), Arc::clone(&answers));
            self.inside("client", move || browse(address, n % 2 == 0, &stop, &answers))
        });
        Browsers { threads: threads.collect(), stop, answers }
    }
}

impl Browsers {
    /// Waits until they have got so many answers more.
    pub fn go_on(&self, answers: usize) {
        let until = self.answers.load(Ordering::Relaxed) + answers;
        wait_until("answers", || self.answers.load(Ordering::Relaxed) >= until);
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

fn browse(address: SocketAddr, keep: bool, stop: &AtomicBool, answers: &AtomicUsize) -> Visit {
    let mut visit = Visit::default();
    let mut connection: Option<BufReader<TcpStream>> = None;
    while !stop.load(Ordering::Relaxed) {
        let reused = connection.is_some();
        let answer = match connection.take() {
            Some(connection) => Ok(connection),
            None => connect(address, &mut visit),
        };
        let answer = answer.and_then(|mut connection| ask(&mut connection, keep).map(|answer| (connection, answer)));
        match answer {
            Ok((kept, Answer { status: 200, body, close })) => {
                *visit.answers.entry(body).or_default() += 1;
                answers.fetch_add(1, Ordering::Relaxed);
                connection = (keep && !close).then_some(kept);
            }
            Ok((_, Answer { status, body, .. })) => visit.failures.push(format!("{status} {body}")),
            Err(Problem::Nothing(_)) if reused => visit.repeated += 1,
            Err(problem) => visit.failures.push(format!("{problem:?}, reused: {reused}")),
        }
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

fn connect(address: SocketAddr, visit: &mut Visit) -> Result<BufReader<TcpStream>, Problem> {
    visit.connections += 1;
    let stream = TcpStream::connect(address).map_err(|e| Problem::Nothing(format!("connecting: {e}")))?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Ok(BufReader::new(stream))
}

fn ask(connection: &mut BufReader<TcpStream>, keep: bool) -> Result<Answer, Problem> {
    let close = if keep { "" } else { "Connection: close\r\n" };
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{close}\r\n");
    let nothing = |e: std::io::Error| Problem::Nothing(e.to_string());
    connection.get_mut().write_all(request.as_bytes()).map_err(nothing)?;
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
