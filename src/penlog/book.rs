//! The balancer's lines that wait for those of web servers.

use std::collections::{HashMap, VecDeque};

use super::request::{Key, Passed, Served};

/// At most so many lines, the newest. Each is used once.
#[derive(Debug)]
pub struct Book {
    capacity: usize,
    lines: HashMap<Key, VecDeque<(u64, Passed)>>,
    /// In which order they came; some are used by now.
    order: VecDeque<(u64, Key, i64)>,
    next: u64,
    length: usize,
    evicted: u64,
}

impl Book {
    /// An empty one, for so many lines.
    pub fn new(capacity: usize) -> Book {
        let (lines, order) = (HashMap::new(), VecDeque::new());
        Book { capacity, lines, order, next: 0, length: 0, evicted: 0 }
    }

    /// Lines that wait.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Does none wait?
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Lines that had to go before they were used: too many, or too old.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Adds a line that came at `now`, milliseconds.
    pub fn add(&mut self, passed: Passed, now: i64) {
        let key = passed.request.key(passed.server);
        self.order.push_back((self.next, key.clone(), now));
        self.lines.entry(key).or_default().push_back((self.next, passed));
        self.next += 1;
        self.length += 1;
        while self.length > self.capacity {
            self.evict();
        }
        // Those that are used leave their places; not more of them than of the others.
        if self.order.len() > 2 * self.capacity.max(64) {
            let lines = &self.lines;
            let waits = |sequence: u64, key: &Key| lines.get(key).is_some_and(|lines| place(lines, sequence).is_some());
            self.order.retain(|(sequence, key, _)| waits(*sequence, key));
        }
    }

    /// Takes out the line that fits `served` best, at the server that its `key` is of; `jitter` in milliseconds.
    pub fn take(&mut self, key: &Key, served: &Served, jitter: i64) -> Option<Passed> {
        let lines = self.lines.get_mut(key)?;
        let distances = lines
            .iter()
            .enumerate()
            .filter_map(|(place, (_, passed))| passed.distance(served, jitter).map(|distance| (distance, place)));
        let (_, place) = distances.min()?;
        let (_, passed) = lines.remove(place)?;
        if lines.is_empty() {
            self.lines.remove(key);
        }
        self.length -= 1;
        Some(passed)
    }

    /// Forgets lines that came before `time`, milliseconds.
    pub fn forget_before(&mut self, time: i64) {
        while self.order.front().is_some_and(|(_, _, came)| *came < time) {
            self.evict();
        }
    }

    /// Forgets the oldest, if it is still there.
    fn evict(&mut self) {
        let Some((sequence, key, _)) = self.order.pop_front() else { return };
        let Some(lines) = self.lines.get_mut(&key) else { return };
        let Some(place) = place(lines, sequence) else { return };
        lines.remove(place);
        if lines.is_empty() {
            self.lines.remove(&key);
        }
        self.length -= 1;
        self.evicted += 1;
    }
}

/// Where the line `sequence` is; they stand in the order in which they came.
fn place(lines: &VecDeque<(u64, Passed)>, sequence: u64) -> Option<usize> {
    lines.binary_search_by_key(&sequence, |(other, _)| *other).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::penlog::request::RequestLine;

    fn passed(client: u8, start: i64) -> Passed {
        Passed {
            client: [192, 0, 2, client].into(),
            server: [10, 0, 0, 1].into(),
            start,
            end: start,
            request: RequestLine::new(b"GET / HTTP/1.1".to_vec()),
            status: None,
            body: None,
        }
    }

    fn take(book: &mut Book, time: i64, jitter: i64) -> Option<u8> {
        let request = RequestLine::new(b"GET / HTTP/1.1".to_vec());
        let key = request.key([10, 0, 0, 1].into());
        let served = Served { time, request, status: Some(200), body: None };
        let found = book.take(&key, &served, jitter)?;
        found.client.to_string().rsplit('.').next()?.parse().ok()
    }

    #[test]
    fn the_nearest_is_taken_and_once_only() {
        let mut book = Book::new(10);
        for (client, start) in [(1, 1000), (2, 5000), (3, 5001), (4, 9000)] {
            book.add(passed(client, start), start);
        }
        assert_eq!(take(&mut book, 5, 10_000), Some(2));
        assert_eq!(take(&mut book, 5, 10_000), Some(3));
        assert_eq!(take(&mut book, 5, 10_000), Some(4));
        assert_eq!(take(&mut book, 5, 2000), None);
        assert_eq!(take(&mut book, 5, 10_000), Some(1));
        assert!(book.is_empty());
        assert_eq!(take(&mut book, 5, 10_000), None);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_or_it_is_too_old() {
        let mut book = Book::new(3);
        for client in 1..=5 {
            book.add(passed(client, 1000 * i64::from(client)), i64::from(client));
        }
        assert_eq!((book.len(), book.evicted()), (3, 2));
        assert_eq!(take(&mut book, 4, 0), Some(4));
        book.forget_before(5);
        assert_eq!((book.len(), book.evicted()), (1, 3));
        assert_eq!(take(&mut book, 3, 0), None);
        assert_eq!(take(&mut book, 5, 0), Some(5));
    }

    #[test]
    fn the_places_of_used_lines_do_not_pile_up() {
        let mut book = Book::new(10);
        for time in 0..10_000 {
            book.add(passed(1, time * 1000), time);
            assert_eq!(take(&mut book, time, 0), Some(1));
        }
        assert!(book.order.len() <= 2 * 64 + 1, "{}", book.order.len());
        assert_eq!(book.evicted(), 0);
    }
}
