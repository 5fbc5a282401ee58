//! Web servers' lines in the order in which they came. One that the balancer has not told of yet waits, and those behind it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use super::line::with_client;
use super::request::{Key, Passed, Served};

/// The lines that wait.
#[derive(Debug, Default)]
pub struct Waiting {
    lines: VecDeque<One>,
    /// The number of the first of them.
    first: u64,
    /// Those that have no client yet.
    wanted: HashMap<Key, Vec<u64>>,
    counts: Counts,
}

/// What became of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Written with their client.
    pub matched: u64,
    /// Written unchanged, as the balancer told of nothing like it.
    pub unmatched: u64,
    /// Written unchanged, as they are no lines of a web server.
    pub malformed: u64,
}

#[derive(Debug)]
struct One {
    line: Vec<u8>,
    state: State,
    /// When it came, milliseconds.
    came: i64,
}

#[derive(Debug)]
enum State {
    Wanted(Key, Served),
    Found(IpAddr),
    Malformed,
}

impl Waiting {
    /// Lines that wait.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Does none wait?
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// When the first of them came, milliseconds.
    pub fn since(&self) -> Option<i64> {
        self.lines.front().map(|one| one.came)
    }

    /// What became of those that were written.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds a line that came at `now`, milliseconds, whose client is not known yet.
    pub fn add(&mut self, line: Vec<u8>, key: Key, served: Served, now: i64) {
        self.wanted.entry(key.clone()).or_default().push(self.first + self.lines.len() as u64);
        self.lines.push_back(One { line, state: State::Wanted(key, served), came: now });
    }

    /// Adds a line whose client is known.
    pub fn add_found(&mut self, line: Vec<u8>, client: IpAddr, now: i64) {
        self.lines.push_back(One { line, state: State::Found(client), came: now });
    }

    /// Adds a line that is none of a web server.
    pub fn add_malformed(&mut self, line: Vec<u8>, now: i64) {
        self.lines.push_back(One { line, state: State::Malformed, came: now });
    }

    /// Gives the line that `passed` fits best its client; returns whether there is one. `jitter` in milliseconds.
    pub fn find(&mut self, passed: &Passed, jitter: i64) -> bool {
        let key = passed.request.key(passed.server);
        let Some(numbers) = self.wanted.get(&key) else { return false };
        let fits = |number: &u64| {
            let one = self.lines.get(usize::try_from(number - self.first).ok()?)?;
            let State::Wanted(_, served) = &one.state else { return None };
            Some((passed.distance(served, jitter)?, *number))
        };
        let Some((_, number)) = numbers.iter().filter_map(fits).min() else { return false };
        self.unlist(&key, number);
        if let Some(one) = usize::try_from(number - self.first).ok().and_then(|place| self.lines.get_mut(place)) {
            one.state = State::Found(passed.client);
        }
        true
    }

    /// Takes out what can be written: up to the first line that still waits, unless it came before `time`, milliseconds;
    /// and as many as there are over `room`. Appends them to `out`, with their ends.
    pub fn release(&mut self, time: i64, room: usize, out: &mut Vec<u8>) {
        while let Some(one) = self.lines.front() {
            if matches!(one.state, State::Wanted(..)) && one.came >= time && self.lines.len() <= room {
                return;
            }
            let Some(one) = self.lines.pop_front() else { return };
            let number = self.first;
            self.first += 1;
            match one.state {
                State::Found(client) => {
                    self.counts.matched += 1;
                    out.extend(with_client(&one.line, client));
                }
                State::Wanted(key, _) => {
                    self.counts.unmatched += 1;
                    self.unlist(&key, number);
                    out.extend(one.line);
                }
                State::Malformed => {
                    self.counts.malformed += 1;
                    out.extend(one.line);
                }
            }
            out.push(b'\n');
        }
    }

    fn unlist(&mut self, key: &Key, number: u64) {
        if let Some(numbers) = self.wanted.get_mut(key) {
            // They stand in the order in which they came.
            if let Ok(place) = numbers.binary_search(&number) {
                numbers.remove(place);
            }
            if numbers.is_empty() {
                self.wanted.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::penlog::line;

    const SERVER: [u8; 4] = [10, 0, 0, 1];

    fn web(path: &str) -> String {
        format!(r#"10.0.0.9 - - [01/Jan/1970:00:00:05 +0000] "GET /{path} HTTP/1.1" 200 1"#)
    }

    fn add(waiting: &mut Waiting, path: &str, now: i64) {
        let line = web(path).into_bytes();
        let served = line::served(&line).unwrap();
        waiting.add(line, served.request.key(SERVER.into()), served, now);
    }

    fn find(waiting: &mut Waiting, client: u8, path: &str) -> bool {
        let line = format!("192.0.2.{client} 5 10.0.0.1 GET /{path} HTTP/1.0");
        let Some(line::Line::Passed(passed)) = line::passed(line.as_bytes(), None) else { panic!("{line}") };
        waiting.find(&passed, 0)
    }

    fn release(waiting: &mut Waiting, time: i64, room: usize) -> Vec<String> {
        let mut out = Vec::new();
        waiting.release(time, room, &mut out);
        String::from_utf8(out).unwrap().lines().map(|line| line.split(" - ").next().unwrap().to_owned()).collect()
    }

    #[test]
    fn lines_leave_in_the_order_in_which_they_came() {
        let mut waiting = Waiting::default();
        for path in ["a", "b", "b"] {
            add(&mut waiting, path, 100);
        }
        waiting.add_malformed(b"?".to_vec(), 100);
        assert!(find(&mut waiting, 2, "b") && find(&mut waiting, 3, "b") && !find(&mut waiting, 4, "b"));
        assert!(release(&mut waiting, 100, 9).is_empty());
        assert!(find(&mut waiting, 1, "a"));
        assert_eq!(release(&mut waiting, 100, 9), ["192.0.2.1", "192.0.2.2", "192.0.2.3", "?"]);
        assert_eq!(waiting.counts(), Counts { matched: 3, unmatched: 0, malformed: 1 });
    }

    #[test]
    fn who_has_waited_for_too_long_or_among_too_many_leaves_unchanged() {
        let mut waiting = Waiting::default();
        for (path, now) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            add(&mut waiting, path, now);
        }
        assert_eq!(release(&mut waiting, 2, 9), ["10.0.0.9"]);
        assert_eq!(waiting.since(), Some(2));
        assert_eq!(release(&mut waiting, 0, 2), ["10.0.0.9"]);
        // Who has left gets no client any more.
        assert!(!find(&mut waiting, 1, "a") && !find(&mut waiting, 1, "b") && find(&mut waiting, 1, "c"));
        assert_eq!(release(&mut waiting, i64::MAX, 0), ["192.0.2.1", "10.0.0.9"]);
        assert_eq!(waiting.counts(), Counts { matched: 1, unmatched: 3, malformed: 0 });
        assert!(waiting.is_empty() && waiting.wanted.is_empty());
    }
}
