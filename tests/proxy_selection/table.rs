//! Reads and plays `table.txt`.

use std::time::{Duration, Instant};

use pen_dsr::config::proxy::{Method, Selection};
use pen_dsr::lb::{Seed, maglev};
use pen_dsr::proxy::select::{Choice, Client, Selector, Tried, View, Why};

use super::farm::{Farm, IDLE, Server, client, client_that_leaves};

/// A row, and where it stands.
pub struct Row {
    line: usize,
    options: String,
    servers: String,
    steps: String,
}

/// All rows.
pub fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (number, text) in include_str!("table.txt").lines().enumerate() {
        if text.trim().is_empty() || text.starts_with('#') {
            continue;
        }
        let mut columns = text.split('|').map(|column| column.trim().to_owned());
        let mut next = || columns.next().unwrap_or_else(|| panic!("line {}: a column is missing", number + 1));
        rows.push(Row { line: number + 1, options: next(), servers: next(), steps: next() });
    }
    rows
}

/// A game: what has been set up, and how far it has come.
struct Play {
    selection: Selection,
    farm: Farm,
    selector: Selector,
    /// How many servers there were at the beginning.
    count: usize,
    now: Instant,
}

impl Row {
    /// Plays it to its end.
    pub fn play(&self) {
        let mut play = self.set_up();
        for (number, step) in self.steps.split_whitespace().enumerate() {
            let place = format!("table.txt line {}, step {} ({step})", self.line, number + 1);
            play.step(step, &place);
        }
    }

    fn set_up(&self) -> Play {
        let mut selection = Selection { track: false, ..Selection::default() };
        let mut farm = Farm::default();
        for word in self.options.split_whitespace() {
            let (key, number) = word.split_once('=').map_or((word, 0), |(key, n)| (key, n.parse().expect(word)));
            match key {
                "track" => selection.track = true,
                "clients" => selection.clients = number,
                "tracking" => selection.tracking = Duration::from_secs(number.into()),
                "stubborn" => selection.stubborn = true,
                "port" => selection.hash_port = true,
                "emergency" => farm.emergency = true,
                "abuse" => farm.abuse = true,
                method => {
                    let named = |candidate: &&Method| candidate.to_string() == method;
                    selection.method = *Method::ALL.iter().find(named).unwrap_or_else(|| panic!("method {method}"));
                }
            }
        }
        for (n, word) in self.servers.split_whitespace().enumerate() {
            let (name, attributes) = word.split_once(':').unwrap_or((word, ""));
            farm.servers.push(Server { name: name.to_owned(), id: 100 + n as u32, view: view(attributes) });
        }
        let selector = Selector::new(selection, Seed::default(), maglev::DEFAULT_SIZE);
        selector.rebuild(&farm);
        let count = farm.servers.len();
        Play { selection, farm, selector, count, now: Instant::now() }
    }
}

/// What a server is by its attributes.
fn view(attributes: &str) -> View {
    let mut view = IDLE;
    for word in attributes.split(',').filter(|word| !word.is_empty()) {
        let (key, number) = word.split_once('=').map_or((word, 0), |(key, n)| (key, n.parse().expect(word)));
        match key {
            "down" => view.usable = false,
            "deny" => view.permits = false,
            "known" => view.known_only = true,
            "c" => view.connections = number,
            "soft" => view.soft = number,
            "hard" => view.hard = number,
            "w" => view.weight = number,
            "p" => view.prio = number,
            _ => panic!("attribute {word}"),
        }
    }
    view
}

impl Play {
    fn step(&mut self, step: &str, place: &str) {
        if let Some(seconds) = step.strip_prefix('+') {
            self.now += Duration::from_secs(seconds.parse().expect(place));
        } else if let Some(name) = step.strip_prefix("less_") {
            let index = self.farm.place(name).expect(place);
            self.farm.servers.remove(index);
        } else if step == "reload" {
            let mut next = Selector::new(self.selection, Seed::default(), maglev::DEFAULT_SIZE);
            next.adopt(&self.selector);
            self.selector = next;
        } else if let Some((who, wanted)) = step.split_once('>') {
            self.come(who, wanted, place);
        } else {
            let (name, attributes) = step.split_once(':').unwrap_or_else(|| panic!("{place}: what is that?"));
            let index = self.farm.place(name).expect(place);
            self.farm.servers[index].view = view(attributes);
        }
        self.selector.rebuild(&self.farm);
    }

    fn come(&mut self, who: &str, wanted: &str, place: &str) {
        let (denied, who) = who.strip_prefix('!').map_or((false, who), |who| (true, who));
        let (who, failed) = who.split_once('~').unwrap_or((who, ""));
        let client = self.client(who, place);
        let mut tried = Tried::new();
        for name in failed.chars() {
            tried.add(match name {
                'E' => Choice::Emergency,
                'A' => Choice::Abuse,
                name => Choice::Server(self.farm.place(&name.to_string()).expect(place)),
            });
        }
        let choice = self.selector.choose(&self.farm, &client, denied, &tried, self.now);
        let shown = match choice {
            Choice::Server(index) => self.farm.servers[index].name.clone(),
            Choice::Emergency => "emergency".to_owned(),
            Choice::Abuse => "abuse".to_owned(),
            Choice::Refuse(why) => shown(why).to_owned(),
        };
        assert_eq!(shown, wanted, "{place}");
        if let Choice::Server(index) = choice {
            self.selector.served(&client, self.farm.servers[index].id, self.now);
        }
    }

    fn client(&self, who: &str, place: &str) -> Client {
        let (other_port, who) = who.strip_prefix('@').map_or((false, who), |who| (true, who));
        let mut found = match who.as_bytes() {
            b"unix" => Client { address: None, port: 0 },
            [letter @ b'u'..=b'z'] => client(u32::from(*letter)),
            [digit @ b'0'..=b'3'] => {
                client_that_leaves(usize::from(digit - b'0'), self.selection.hash_port, self.count)
            }
            _ => panic!("{place}: who is {who}?"),
        };
        if other_port {
            found.port = 2000;
        }
        found
    }
}

fn shown(why: Why) -> &'static str {
    match why {
        Why::Denied => "denied",
        Why::Stubborn => "stubborn",
        Why::Failed => "failed",
        Why::Full => "full",
        Why::Forbidden => "forbidden",
        Why::Down => "down",
    }
}
