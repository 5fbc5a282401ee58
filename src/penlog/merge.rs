//! `mergelogs`: one log of those of several web servers, with the clients' addresses, from the balancer's log.

// The comments are help texts, where brackets are no links.
#![allow(rustdoc::broken_intra_doc_links)]

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgAction, Parser};

use super::book::Book;
use super::line::{self, LONGEST, Line, with_client};
use super::request::{Passed, Served};
use super::waiting::Counts;
use crate::failure::{Failure, Sysexit};

/// Make one log of those of the web servers, with the clients' addresses out of the balancer's log
///
/// Lines of which the balancer's log has nothing, and lines that are none of a web server, stay as they are.
#[derive(Parser, Clone, Debug)]
#[command(name = "mergelogs", version)]
pub struct Arguments {
    /// The balancer's access log in the plain layout, or Pen's log
    #[arg(short = 'p', long = "penlog", value_name = "FILE")]
    pub penlog: PathBuf,
    /// By how much the times of both logs may differ at most
    #[arg(short = 'j', long = "jitter", value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u32).range(..=31_536_000))]
    pub jitter: u32,
    /// Keep so many lines of the balancer's log at a time, the newest; without a number all of it, whatever its order
    #[arg(short = 'c', long = "cache", value_name = "LINES", num_args = 0..=1, require_equals = true, default_value = "1000000", default_missing_value = "0")]
    pub cache: usize,
    /// Read for the sake of Pen's command lines, without effect: every line says how far it is from UTC
    #[arg(short = 't', value_name = "SECONDS", allow_negative_numbers = true)]
    pub to_utc: Option<i64>,
    /// Say of each line that has no client why; repeatable, as Pen's
    #[arg(short = 'd', long = "debug", action = ArgAction::Count)]
    pub debug: u8,
    /// A web server's address, as the balancer knows it, and its log: 10.0.0.11:access_log, [2001:db8::11]:access_log
    #[arg(value_name = "SERVER:FILE", required = true)]
    pub logs: Vec<WebLog>,
}

/// A web server and its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebLog {
    /// Its address.
    pub server: IpAddr,
    /// Its log.
    pub file: PathBuf,
}

impl FromStr for WebLog {
    type Err = String;

    fn from_str(text: &str) -> Result<WebLog, String> {
        let (server, file) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:"),
            None => text.split_once(':'),
        }
        .filter(|(_, file)| !file.is_empty())
        .ok_or("not SERVER:FILE")?;
        let server: IpAddr = server.parse().map_err(|_| format!("{server:?} is not a server's address"))?;
        Ok(WebLog { server: server.to_canonical(), file: file.into() })
    }
}

/// Writes the merged log to standard output, and to standard error what became of the lines.
///
/// # Errors
/// A file cannot be read, standard output cannot be written to.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    crate::os::end_on_broken_pipe();
    let penlog = open(&arguments.penlog)?;
    let logs = arguments.logs.iter().map(|log| Ok((log.server, log.file.as_path(), open(&log.file)?)));
    let logs = logs.collect::<Result<Vec<_>, Failure>>()?;
    let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    let limits = Limits { jitter: i64::from(arguments.jitter) * 1000, cache: arguments.cache };
    let mut remark = |served: &Served, server: IpAddr| {
        if arguments.debug > 0 {
            eprintln!("mergelogs: at {}, server {server}: no such request in the balancer's log", served.time);
        }
    };
    let summary = merge((&arguments.penlog, penlog), logs, limits, &mut out, &mut remark)?;
    out.flush().map_err(not_written)?;
    eprintln!("mergelogs: {summary}");
    Ok(())
}

fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    // A folder can be opened, too.
    let opened = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    let file = opened.map_err(|e| not_read(path, &e))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

fn not_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Sysexit::NoInput, format!("{} cannot be read: {error}", path.display()))
}

fn not_written(error: io::Error) -> Failure {
    Failure::new(Sysexit::CantCreat, format!("standard output cannot be written to: {error}"))
}

#[derive(Clone, Copy)]
struct Limits {
    /// Milliseconds.
    jitter: i64,
    /// Lines; 0: all.
    cache: usize,
}

/// What became of all lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Summary {
    web: Counts,
    /// Of the balancer's log: lines that say to which server something went, and lines that are none of it.
    passed: u64,
    bad: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Counts { matched, unmatched, malformed } = self.web;
        write!(
            f,
            "{} lines of web servers: {matched} with their client, {unmatched} without, {malformed} malformed; {} of the \
             balancer: {} unused, {} malformed",
            matched + unmatched + malformed,
            self.passed + self.bad,
            self.passed - matched,
            self.bad
        )
    }
}

/// Merges by time: of the logs' next lines the oldest is next. A malformed one follows the line before it.
fn merge<R: BufRead>(
    (path, penlog): (&Path, R),
    logs: Vec<(IpAddr, &Path, R)>,
    limits: Limits,
    out: &mut impl Write,
    remark: &mut impl FnMut(&Served, IpAddr),
) -> Result<Summary, Failure> {
    let mut balancer = Balancer::new(penlog, limits);
    let mut counts = Counts::default();
    let mut logs: Vec<Log<'_, R>> =
        logs.into_iter().map(|(server, path, lines)| Log::new(server, path, lines)).collect();
    for log in &mut logs {
        log.advance()?;
    }
    while let Some(log) = logs.iter_mut().filter(|log| log.next.is_some()).min_by_key(|log| log.time) {
        let Some((line, served)) = log.next.take() else { break };
        let written = match served {
            None => {
                counts.malformed += 1;
                out.write_all(&line)
            }
            Some(served) => match balancer.client(log.server, &served).map_err(|e| not_read(path, &e))? {
                Some(client) => {
                    counts.matched += 1;
                    out.write_all(&with_client(&line, client))
                }
                None => {
                    counts.unmatched += 1;
                    remark(&served, log.server);
                    out.write_all(&line)
                }
            },
        };
        written.map_err(not_written)?;
        log.advance()?;
    }
    balancer.finish().map_err(|e| not_read(path, &e))?;
    Ok(Summary { web: counts, passed: balancer.passed, bad: balancer.bad })
}

/// A web server's log.
struct Log<'a, R> {
    server: IpAddr,
    path: &'a Path,
    lines: R,
    next: Option<(Vec<u8>, Option<Served>)>,
    /// Of the next line; of the one before it, if that has none.
    time: i64,
}

impl<'a, R: BufRead> Log<'a, R> {
    fn new(server: IpAddr, path: &'a Path, lines: R) -> Log<'a, R> {
        Log { server, path, lines, next: None, time: i64::MIN }
    }

    fn advance(&mut self) -> Result<(), Failure> {
        let line = read_line(&mut self.lines).map_err(|e| not_read(self.path, &e))?;
        self.next = line.map(|line| {
            let served = line::served(line.trim_ascii_end());
            (line, served)
        });
        if let Some((_, Some(served))) = &self.next {
            self.time = served.time;
        }
        Ok(())
    }
}

/// The next line, with its end, which the last one gets, too. A longer one than any log has comes in pieces.
fn read_line(lines: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let length = lines.by_ref().take(LONGEST as u64).read_until(b'\n', &mut line)?;
    if length > 0 && length < LONGEST && line.last() != Some(&b'\n') {
        line.push(b'\n');
    }
    Ok((length > 0).then_some(line))
}

/// The balancer's log, read as far as the web servers' lines make it necessary.
struct Balancer<R> {
    lines: R,
    limits: Limits,
    book: Book,
    /// The line after those in the book.
    ahead: Option<Passed>,
    over: bool,
    passed: u64,
    bad: u64,
}

impl<R: BufRead> Balancer<R> {
    fn new(lines: R, limits: Limits) -> Balancer<R> {
        let book = Book::new(if limits.cache == 0 { usize::MAX / 4 } else { limits.cache });
        Balancer { lines, limits, book, ahead: None, over: false, passed: 0, bad: 0 }
    }

    /// The client of what `server` has `served`.
    fn client(&mut self, server: IpAddr, served: &Served) -> io::Result<Option<IpAddr>> {
        let (first, last) = (served.time * 1000, served.time * 1000 + 999);
        let everything = self.limits.cache == 0;
        while let Some(passed) = self.next()? {
            // What lies ahead is read as far as there is room; what is of this time pushes out the oldest.
            let ahead = if self.book.len() < self.limits.cache { self.limits.jitter } else { 0 };
            if !everything && passed.start > last + ahead {
                self.ahead = Some(passed);
                break;
            }
            let end = passed.end;
            self.book.add(passed, end);
        }
        if !everything {
            // Web servers' lines may be out of order by as much again.
            self.book.forget_before(first - 2 * self.limits.jitter);
        }
        let key = served.request.key(server);
        Ok(self.book.take(&key, served, self.limits.jitter).map(|passed| passed.client))
    }

    fn next(&mut self) -> io::Result<Option<Passed>> {
        if let Some(passed) = self.ahead.take() {
            return Ok(Some(passed));
        }
        while !self.over {
            let Some(text) = read_line(&mut self.lines)? else {
                self.over = true;
                break;
            };
            let text = text.strip_suffix(b"\n").unwrap_or(&text);
            match line::passed(text.strip_suffix(b"\r").unwrap_or(text), None) {
                Some(Line::Passed(passed)) => {
                    self.passed += 1;
                    return Ok(Some(passed));
                }
                Some(Line::Nothing) => {}
                None if text.is_empty() => {}
                None => self.bad += 1,
            }
        }
        Ok(None)
    }

    /// Counts what is left.
    fn finish(&mut self) -> io::Result<()> {
        while self.next()?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests;
