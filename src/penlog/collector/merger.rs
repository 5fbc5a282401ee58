//! Datagrams in, lines out. No socket, no clock.

use std::net::IpAddr;

use crate::lb::acl::Network;
use crate::penlog::book::Book;
use crate::penlog::line::{self, Line};
use crate::penlog::waiting::Waiting;

/// What [`Merger`] goes by; times in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// Lines of either kind that wait at most.
    pub lines: usize,
    /// How long a web server's waits.
    pub buffer: i64,
    /// By how much times differ at most.
    pub jitter: i64,
    /// Who may send web servers' lines; empty: everybody.
    pub web_servers: Vec<Network>,
    /// Who may send the balancer's; empty: everybody.
    pub balancers: Vec<Network>,
}

/// Web servers' lines and the balancer's, as they come.
#[derive(Debug)]
pub(super) struct Merger {
    settings: Settings,
    book: Book,
    waiting: Waiting,
    /// What [`Merger::release`] gives out.
    out: Vec<u8>,
    /// Lines of the balancer.
    passed: u64,
    /// Lines of somebody who may not send them.
    refused: u64,
}

impl Merger {
    pub(super) fn new(settings: Settings) -> Merger {
        let book = Book::new(settings.lines);
        Merger { settings, book, waiting: Waiting::default(), out: Vec::new(), passed: 0, refused: 0 }
    }

    /// Takes a datagram of `from`, a line or several. `now` is in milliseconds, since any time; `wall` since 1970. Returns
    /// why one of its lines is not used.
    pub(super) fn take(&mut self, from: IpAddr, datagram: &[u8], now: i64, wall: i64) -> Option<&'static str> {
        let mut why = None;
        for line in datagram.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if !line.is_empty() {
                why = self.take_line(from, line, now, wall).or(why);
            }
        }
        why
    }

    fn take_line(&mut self, from: IpAddr, line: &[u8], now: i64, wall: i64) -> Option<&'static str> {
        if let Some(said) = line::passed(line, Some(wall)) {
            if !permits(&self.settings.balancers, from) {
                self.refused += 1;
                return Some("not one of the balancers");
            }
            self.passed += 1;
            let Line::Passed(passed) = said else { return None };
            if !self.waiting.find(&passed, self.settings.jitter) {
                self.book.add(passed, now);
            }
            return None;
        }
        if !permits(&self.settings.web_servers, from) {
            self.refused += 1;
            return Some("not one of the web servers");
        }
        let Some(served) = line::served(line) else {
            self.waiting.add_malformed(line.to_vec(), now);
            return Some("not a line of a web server");
        };
        let key = served.request.key(from);
        match self.book.take(&key, &served, self.settings.jitter) {
            Some(passed) => self.waiting.add_found(line.to_vec(), passed.client, now),
            None => self.waiting.add(line.to_vec(), key, served, now),
        }
        None
    }

    /// What can be written: lines whose clients are found, and those that have waited for long enough; `all`: every one.
    pub(super) fn release(&mut self, now: i64, all: bool) -> &[u8] {
        self.book.forget_before(now.saturating_sub(self.settings.jitter.max(self.settings.buffer)));
        let before = if all { i64::MAX } else { now.saturating_sub(self.settings.buffer).saturating_add(1) };
        self.out.clear();
        self.waiting.release(before, self.settings.lines, &mut self.out);
        &self.out
    }

    /// When there is something to [`release`](Merger::release), if nothing comes until then.
    pub(super) fn due(&self) -> Option<i64> {
        self.waiting.since().map(|since| since.saturating_add(self.settings.buffer))
    }

    /// In words.
    pub(super) fn statistics(&self, lost: u64) -> String {
        let counts = self.waiting.counts();
        format!(
            "lines of web servers: {} with their client, {} without, {} malformed, {} waiting; of the balancer: {}, {} \
             waiting, {} gone unused; refused: {}; not written: {lost}",
            counts.matched,
            counts.unmatched,
            counts.malformed,
            self.waiting.len(),
            self.passed,
            self.book.len(),
            self.book.evicted(),
            self.refused
        )
    }
}

fn permits(networks: &[Network], address: IpAddr) -> bool {
    networks.is_empty() || networks.iter().any(|network| network.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_795_433_625_500;

    fn merger(settings: Settings) -> Merger {
        Merger::new(Settings { lines: 10, buffer: 5000, jitter: 2000, ..settings })
    }

    fn web(host: &str, path: &str) -> String {
        format!("{host} - - [23/Nov/2026:11:33:45 +0000] \"GET /{path} HTTP/1.1\" 200 9")
    }

    fn pen(client: u8, server: u8, path: &str) -> String {
        format!("+ 192.0.2.{client} 10.0.0.{server} GET /{path} HTTP/1.0")
    }

    fn take(merger: &mut Merger, from: u8, text: &str, now: i64) -> Option<&'static str> {
        merger.take([10, 0, 0, from].into(), text.as_bytes(), now, WALL)
    }

    fn release(merger: &mut Merger, now: i64) -> String {
        String::from_utf8(merger.release(now, false).to_vec()).unwrap()
    }

    #[test]
    fn whoever_comes_first_waits_for_the_other() {
        let mut merger = merger(Settings::default());
        take(&mut merger, 9, &pen(1, 1, "a"), 0);
        take(&mut merger, 1, &web("10.0.0.9", "a"), 1);
        assert_eq!(release(&mut merger, 1), web("192.0.2.1", "a") + "\n");
        take(&mut merger, 1, &web("10.0.0.9", "b"), 2);
        assert_eq!(release(&mut merger, 2), "");
        assert_eq!(merger.due(), Some(5002));
        take(&mut merger, 9, &pen(2, 1, "b"), 3);
        assert_eq!(release(&mut merger, 3), web("192.0.2.2", "b") + "\n");
        assert_eq!(merger.due(), None);
    }

    #[test]
    fn the_server_is_who_sends_the_line() {
        let mut merger = merger(Settings::default());
        take(&mut merger, 9, &pen(1, 1, "a"), 0);
        take(&mut merger, 2, &web("10.0.0.9", "a"), 0);
        assert_eq!(release(&mut merger, 5000), web("10.0.0.9", "a") + "\n");
    }

    #[test]
    fn a_datagram_may_have_several_lines() {
        let mut merger = merger(Settings::default());
        take(&mut merger, 9, &format!("{}\r\n{}\n\n", pen(1, 1, "a"), pen(2, 1, "b")), 0);
        assert!(take(&mut merger, 1, &format!("{}\nwhat\n{}\n", web("h", "a"), web("h", "b")), 0).is_some());
        assert_eq!(release(&mut merger, 0), format!("{}\nwhat\n{}\n", web("192.0.2.1", "a"), web("192.0.2.2", "b")));
    }

    #[test]
    fn only_who_is_permitted_may_tell() {
        let networks = |text: &str| vec![text.parse().unwrap()];
        let mut merger = merger(Settings {
            web_servers: networks("10.0.0.0/29"),
            balancers: networks("10.0.0.9"),
            ..Settings::default()
        });
        assert!(take(&mut merger, 1, &pen(1, 1, "a"), 0).is_some());
        assert!(take(&mut merger, 8, &web("h", "a"), 0).is_some());
        assert!(take(&mut merger, 8, "rubbish", 0).is_some());
        assert_eq!(release(&mut merger, 9000), "");
        assert!(take(&mut merger, 9, &pen(1, 1, "a"), 9000).is_none());
        assert!(take(&mut merger, 1, &web("h", "a"), 9000).is_none());
        assert_eq!(release(&mut merger, 9000), web("192.0.2.1", "a") + "\n");
        assert!(merger.statistics(0).contains("refused: 3"), "{}", merger.statistics(0));
    }

    #[test]
    fn a_line_of_the_balancer_that_is_too_old_serves_nobody() {
        let mut merger = merger(Settings::default());
        take(&mut merger, 9, &pen(1, 1, "a"), 0);
        release(&mut merger, 5001);
        take(&mut merger, 1, &web("h", "a"), 5001);
        assert_eq!(release(&mut merger, 10_001), web("h", "a") + "\n");
    }

    #[test]
    fn no_more_lines_wait_than_may() {
        let mut merger = merger(Settings::default());
        for number in 0..30 {
            take(&mut merger, 9, &pen(1, 1, &format!("x{number}")), 0);
            take(&mut merger, 1, &web("h", &number.to_string()), 0);
        }
        assert_eq!(release(&mut merger, 0).lines().count(), 20);
        assert_eq!((merger.waiting.len(), merger.book.len()), (10, 10));
        assert_eq!(merger.release(0, true).iter().filter(|&&byte| byte == b'\n').count(), 10);
    }
}
