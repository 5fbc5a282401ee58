//! `pen-dsr simulate`: what a change does to the clients, before it is made. No network, no clients: the slots say it.

use std::collections::BTreeSet;
use std::io::Write;

use crate::config::{Config, Edit, Lookup, Which};
use crate::control::command::{Act, Command};
use crate::failure::{Failure, Sysexit};
use crate::lb::Generation;
use crate::lb::maglev::Member;

/// Clients that are tried where slots cannot be compared, as the hash or their number is another one.
const SAMPLE: u64 = 200_000;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Of the configuration.
    Edit(Edit),
    /// A backend takes no new clients any more: it is down, or drained.
    Out { backend: Which, drained: bool },
    /// It does again.
    Back(Which),
}

impl Step {
    /// `down NAME`, `up NAME`, or a command.
    fn parse(text: &str) -> Result<Step, Failure> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["down", name] => return Ok(Step::Out { backend: Which::new(name), drained: false }),
            ["up", name] => return Ok(Step::Back(Which::new(name))),
            _ => {}
        }
        match Command::parse(text)? {
            Command::Configure(edit) => Ok(Step::Edit(edit)),
            Command::Act(Act::Drain(backend)) => Ok(Step::Out { backend, drained: true }),
            Command::Act(Act::Undrain(backend)) => Ok(Step::Back(backend)),
            _ => Err(Failure::usage(format!(
                "{:?} changes nothing for clients: write remove be2, weight be1 3, add be4, down be2, up be2, drain be2, hash ...",
                text.trim()
            ))),
        }
    }
}

/// Who is chosen for whom, and by what names.
struct State {
    config: Config,
    out: BTreeSet<String>,
    generation: Generation,
}

impl State {
    fn new(config: Config, out: BTreeSet<String>) -> State {
        let member = |b: &crate::config::BackendConfig| {
            let share = if b.maintenance || out.contains(&b.name) { 0 } else { 100 };
            Member { share, ..Member::up(&b.name, b.weight) }
        };
        let members: Vec<Member> = config.balance.backends.iter().map(member).collect();
        let generation = config.balance.generation(&members);
        State { config, out, generation }
    }

    fn after(&self, step: &Step) -> Result<State, Failure> {
        let (mut config, mut out) = (self.config.clone(), self.out.clone());
        let name =
            |which: &Which| which.find(&self.config.balance).map(|at| self.config.balance.backends[at].name.clone());
        match step {
            Step::Edit(edit) => config = config.edited(edit, Lookup::Nothing)?.0,
            Step::Out { backend, .. } => _ = out.insert(name(backend)?),
            Step::Back(backend) => _ = out.remove(&name(backend)?),
        }
        Ok(State::new(config, out))
    }

    fn name(&self, member: Option<usize>) -> Option<&str> {
        self.config.balance.backends.get(member?).map(|backend| backend.name.as_str())
    }

    /// Percent of the slots of the backend `name`.
    fn share(&self, name: &str) -> f64 {
        let slots = &self.generation.slots;
        let own = (0..slots.size()).filter(|&slot| self.name(slots.member(slot)) == Some(name)).count();
        100.0 * own as f64 / slots.size() as f64
    }

    /// Percent that the backend `name` should have by its weight.
    fn ideal(&self, name: &str) -> f64 {
        let weight = |b: &crate::config::BackendConfig| {
            if b.maintenance || self.out.contains(&b.name) { 0.0 } else { f64::from(b.weight) }
        };
        let backends = &self.config.balance.backends;
        let all: f64 = backends.iter().map(weight).sum();
        let own = backends.iter().find(|b| b.name == name).map_or(0.0, weight);
        if all > 0.0 { 100.0 * own / all } else { 0.0 }
    }

    /// Whom the remainder of a division would give the client with this hash, each backend as often as its weight.
    fn by_remainder(&self, hash: u64) -> Option<&str> {
        let taking = || self.config.balance.backends.iter().filter(|b| !b.maintenance && !self.out.contains(&b.name));
        let all: u64 = taking().map(|b| u64::from(b.weight)).sum();
        let mut place = hash.checked_rem(all)?;
        taking().find_map(|b| {
            let weight = u64::from(b.weight);
            if place < weight {
                return Some(b.name.as_str());
            }
            place -= weight;
            None
        })
    }
}

/// Shares of clients, percent.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Moved {
    /// Have another backend than before.
    all: f64,
    /// Cannot be kept by any method: what backends have less than before.
    least: f64,
    /// Would move if the remainder of a division chose.
    by_remainder: f64,
    /// Are all clients counted, or a sample?
    exact: bool,
}

fn compare(before: &State, after: &State) -> Moved {
    let (old, new) = (&before.generation, &after.generation);
    let exact = old.hash == new.hash && old.slots.size() == new.slots.size();
    let who = |state: &State, generation: &Generation, slot: usize| {
        state.name(generation.slots.member(slot)).map(str::to_owned)
    };
    let all = if exact {
        let size = old.slots.size();
        let moved = (0..size).filter(|&slot| who(before, old, slot) != who(after, new, slot)).count();
        100.0 * moved as f64 / size as f64
    } else {
        let client = |n: u64| std::net::IpAddr::V4((mix(n) as u32).into());
        let port = |n: u64| (mix(n) >> 48) as u16;
        let chosen =
            |state: &State, n| state.name(state.generation.choose(client(n), port(n)).backend).map(str::to_owned);
        let moved = (0..SAMPLE).filter(|&n| chosen(before, n) != chosen(after, n)).count();
        100.0 * moved as f64 / SAMPLE as f64
    };
    let names = before.config.balance.backends.iter().map(|b| b.name.as_str());
    let least = names.map(|name| (before.share(name) - after.share(name)).max(0.0)).sum();
    let other = (0..SAMPLE).filter(|&n| before.by_remainder(mix(n)) != after.by_remainder(mix(n))).count();
    Moved { all, least, by_remainder: 100.0 * other as f64 / SAMPLE as f64, exact }
}

/// A number that looks random, another one for each `n` (SplitMix64).
fn mix(n: u64) -> u64 {
    let mut z = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Prints to `out` what each of `changes` does to the clients of `config`, one after the other.
///
/// # Errors
/// A change that is none, or that cannot be made; `out` cannot be written.
pub fn run(config: Config, changes: &[String], out: &mut impl Write) -> Result<(), Failure> {
    let written = |e: std::io::Error| Failure::new(Sysexit::OsErr, format!("standard output: {e}"));
    let steps: Vec<Step> = changes.iter().map(|change| Step::parse(change)).collect::<Result<_, _>>()?;
    let mut before = State::new(config, BTreeSet::new());
    for (step, text) in steps.iter().zip(changes) {
        let after = before.after(step)?;
        report(step, text.trim(), &before, &after, out).map_err(written)?;
        before = after;
    }
    Ok(())
}

fn report(step: &Step, text: &str, before: &State, after: &State, out: &mut impl Write) -> std::io::Result<()> {
    let moved = compare(before, after);
    let clients = if moved.exact { "of all clients".to_owned() } else { format!("of {SAMPLE} clients tried") };
    writeln!(out, "{text}")?;
    writeln!(out, "  {:.2} % {clients} are served by another backend from then on", moved.all)?;
    writeln!(
        out,
        "  {:.2} % is the least that any method has to move; {:.2} % move without need; the remainder of a division would move {:.2} %",
        moved.least,
        (moved.all - moved.least).max(0.0),
        moved.by_remainder
    )?;
    writeln!(out, "  {}", connections(step))?;
    let names = |state: &State| state.config.balance.backends.iter().map(|b| b.name.clone()).collect::<Vec<_>>();
    let mut all = names(before);
    all.extend(names(after).into_iter().filter(|name| !names(before).contains(name)));
    let width = all.iter().map(String::len).max().unwrap_or(0).max(7);
    writeln!(
        out,
        "  {:width$}  {:>9} {:>9}  {:>9} {:>9}  {:>6}",
        "backend", "before %", "ideal %", "after %", "ideal %", "off by"
    )?;
    for name in all {
        let (was, is) = (before.share(&name), after.share(&name));
        let ideal = after.ideal(&name);
        writeln!(
            out,
            "  {name:width$}  {was:>9.3} {:>9.3}  {is:>9.3} {ideal:>9.3}  {:>+6.3}",
            before.ideal(&name),
            is - ideal
        )?;
    }
    Ok(())
}

/// What becomes of the connections that there are.
fn connections(step: &Step) -> &'static str {
    match step {
        Step::Out { drained: false, .. } => {
            "connections: those of the backend that is down break; all others stay where they are, as they are remembered"
        }
        Step::Edit(Edit::Maintenance { on: true, .. }) => {
            "connections: those of the backend in maintenance break; all others stay where they are, as they are remembered"
        }
        Step::Edit(_) | Step::Out { drained: true, .. } | Step::Back(_) => {
            "connections that there are stay where they are, as they are remembered: only new ones go by the new table"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendConfig, VipConfig};

    fn config(weights: &[u32]) -> Config {
        let mut config = Config::default();
        config.balance.vips = vec![VipConfig::new("10.0.0.100".parse().unwrap(), 0)];
        for (n, &weight) in weights.iter().enumerate() {
            let address = Some([10, 0, 0, 11 + n as u8].into());
            config.balance.backends.push(BackendConfig {
                weight,
                address,
                ..BackendConfig::named(&format!("be{}", n + 1))
            });
        }
        config
    }

    fn moved(config: Config, change: &str) -> Moved {
        let before = State::new(config, BTreeSet::new());
        let after = before.after(&Step::parse(change).unwrap()).unwrap();
        compare(&before, &after)
    }

    #[test]
    fn one_that_goes_down_moves_its_own_clients_and_nobody_else() {
        let m = moved(config(&[1; 10]), "down be3");
        assert!(m.exact && (m.all - 10.0).abs() < 0.1 && m.all == m.least, "{m:?}");
        assert!(m.by_remainder > 80.0, "{m:?}");
    }

    #[test]
    fn other_changes_move_little_more_than_they_must() {
        for (change, least) in [("remove be2", 10.0), ("add 10.0.0.99", 100.0 / 11.0), ("weight be1 3", 15.0)] {
            let m = moved(config(&[1; 10]), change);
            assert!((m.least - least).abs() < 0.7 && m.all - m.least < 1.5, "{change}: {m:?}");
        }
        let m = moved(config(&[1; 10]), "maintenance be1");
        assert_eq!(m.all, m.least);
    }

    #[test]
    fn another_hash_moves_nearly_everybody_and_is_tried_on_many() {
        let m = moved(config(&[1; 4]), "no hash");
        assert!(!m.exact && (m.all - 75.0).abs() < 1.0, "{m:?}");
    }

    #[test]
    fn changes_come_one_after_the_other_and_what_is_none_is_refused() {
        let mut out = Vec::new();
        let changes = ["down be2", "up be2", "remove be1"].map(str::to_owned);
        run(config(&[1, 1, 2]), &changes, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches("are served by another backend").count(), 3, "{text}");
        for (wrong, word) in [("servers", "changes nothing"), ("remove be9", "be9"), ("fly be1", "no command")] {
            let failure = run(config(&[1, 1]), &[wrong.to_owned()], &mut Vec::new()).unwrap_err();
            assert!(failure.message.contains(word), "{wrong}: {failure}");
        }
    }
}
