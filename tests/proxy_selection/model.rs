//! A second opinion: the rules once more, as lists and filters, without a thought for speed. It shares no code with the
//! selector, and says which choices are right; only where chance decides there is more than one.

use std::cmp::Reverse;

use pen_dsr::config::proxy::{Method, Selection};
use pen_dsr::lb::Generation;
use pen_dsr::proxy::select::{Choice, Client, View, Why};

use super::farm::remainder;

/// How a server is for clients: one column of the table that rule 3 comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub name: &'static str,
    pub view: View,
    /// May it be a new client's first choice?
    pub first: bool,
    /// Does it serve a new client?
    pub new: bool,
    /// Does it serve one that was there before?
    pub known: bool,
}

/// All that is known when a client comes.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    pub selection: Selection,
    pub emergency: bool,
    pub abuse: bool,
    pub denied: bool,
    pub conditions: &'a [Condition],
    /// Each server's load, weight and priority number.
    pub loads: &'a [(u32, u32, u32)],
    /// Where it was, if it is known.
    pub known: Option<usize>,
    pub tried: &'a [usize],
    pub client: Client,
    /// Who was chosen last.
    pub last: Option<usize>,
    /// How Direct Server Return chooses.
    pub generation: &'a Generation,
}

/// What is right, and who was chosen last after that (`None`: the same as before).
pub struct Right {
    pub choices: Vec<Choice>,
    pub last: Option<usize>,
}

impl Case<'_> {
    pub fn right(&self) -> Right {
        let only = |choice| Right { choices: vec![choice], last: None };
        if self.denied {
            return only(if self.abuse { Choice::Abuse } else { Choice::Refuse(Why::Denied) });
        }
        let stubborn = self.selection.stubborn;
        if let Some(known) = self.known.filter(|_| self.selection.track) {
            if self.conditions[known].known && !self.tried.contains(&known) && (!stubborn || self.tried.is_empty()) {
                return only(Choice::Server(known));
            }
            if stubborn {
                return only(self.nobody());
            }
        }
        if stubborn {
            if !self.tried.is_empty() {
                return only(self.nobody());
            }
            let firsts = self.firsts();
            let verdict = |&n: &usize| if self.conditions[n].new { Choice::Server(n) } else { self.nobody() };
            let mut choices: Vec<Choice> = firsts.iter().map(verdict).collect();
            if choices.is_empty() {
                choices.push(self.nobody());
            }
            return Right { choices, last: self.moved(&firsts) };
        }
        let serving = self.all().filter(|n| self.conditions[*n].new && !self.tried.contains(n)).collect();
        let best = self.best(serving);
        if best.is_empty() {
            return only(self.nobody());
        }
        Right { choices: best.iter().map(|&n| Choice::Server(n)).collect(), last: self.moved(&best) }
    }

    fn all(&self) -> std::ops::Range<usize> {
        0..self.conditions.len()
    }

    /// Which of them may be the first choice of a new client.
    fn firsts(&self) -> Vec<usize> {
        match self.selection.method {
            Method::Hash => vec![self.place_by_hash()],
            Method::Consistent if self.slot_holder().is_some() => self.slot_holder().into_iter().collect(),
            _ => self.best(self.all().filter(|n| self.conditions[*n].first).collect()),
        }
    }

    /// Which of `those` the method may choose.
    fn best(&self, those: Vec<usize>) -> Vec<usize> {
        let count = self.conditions.len();
        let turn = |n: &usize| (n + count - self.last.map_or(0, |last| last + 1) % count) % count;
        // Sixteenths of a connection per weight; all weights of the test divide sixteen.
        let burden = |n: &usize| self.loads[*n].0 * 16 / self.loads[*n].1;
        let pick = |found: Option<usize>| found.into_iter().collect();
        match self.selection.method {
            Method::RoundRobin => pick(those.into_iter().min_by_key(turn)),
            Method::Weight => pick(those.into_iter().min_by_key(|n| (burden(n), turn(n)))),
            Method::LeastConnections => pick(those.into_iter().min_by_key(|n| (self.loads[*n].0, turn(n)))),
            Method::Prio => pick(those.into_iter().min_by_key(|n| (self.loads[*n].2, turn(n)))),
            Method::Hash => {
                let from = self.place_by_hash();
                pick(those.into_iter().min_by_key(|n| (n + count - from) % count))
            }
            Method::PowerOfTwo => {
                // The one that all others are better than is never the better of two.
                let mut sorted = those;
                sorted.sort_by_key(|n| Reverse(burden(n)));
                let alone_worst = sorted.len() > 1 && burden(&sorted[0]) > burden(&sorted[1]);
                sorted.into_iter().skip(usize::from(alone_worst)).collect()
            }
            Method::Consistent => match self.slot_holder().filter(|holder| those.contains(holder)) {
                Some(holder) => vec![holder],
                None => those,
            },
        }
    }

    fn moved(&self, chosen: &[usize]) -> Option<usize> {
        let turns = [Method::RoundRobin, Method::Weight, Method::LeastConnections, Method::Prio];
        turns.contains(&self.selection.method).then(|| chosen.first().copied()).flatten()
    }

    fn place_by_hash(&self) -> usize {
        remainder(&self.client, self.selection.hash_port, self.conditions.len())
    }

    fn slot_holder(&self) -> Option<usize> {
        self.generation.choose(self.client.address.expect("it has one"), self.client.port).backend
    }

    fn nobody(&self) -> Choice {
        let any_first = self.conditions.iter().any(|condition| condition.first);
        if self.selection.stubborn && any_first {
            return Choice::Refuse(Why::Stubborn);
        }
        if self.emergency {
            return Choice::Emergency;
        }
        let had = |name: &str| self.conditions.iter().any(|condition| condition.name == name);
        let is_tried = |n: &usize| self.tried.contains(n);
        let only_full = (0..self.conditions.len()).any(|n| !is_tried(&n) && self.conditions[n].first);
        Choice::Refuse(if self.tried.iter().any(|&n| self.conditions[n].name != "denied") && !only_full {
            Why::Failed
        } else if any_first {
            Why::Full
        } else if had("denied") {
            Why::Forbidden
        } else {
            Why::Down
        })
    }
}
