//! `pen-dsr simulate`: what a change does to the clients, before it is made. No network, no clients: the slots say it.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;

use crate::config::{BackendConfig, Config, Edit, Lookup, Which};
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

/// Who is chosen for whom.
struct State {
    config: Config,
    out: BTreeSet<String>,
    generation: Generation,
    /// Slots of the backends, in the order of the list.
    slots: Vec<usize>,
}

impl State {
    fn new(config: Config, out: BTreeSet<String>) -> State {
        let member = |b: &BackendConfig| {
            let share = if b.maintenance || out.contains(&b.name) { 0 } else { 100 };
            Member { share, ..Member::up(&b.name, b.weight) }
        };
        let members: Vec<Member> = config.balance.backends.iter().map(member).collect();
        let generation = config.balance.generation(&members);
        let slots = generation.slots.shares(members.len());
        State { config, out, generation, slots }
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

    fn backends(&self) -> &[BackendConfig] {
        &self.config.balance.backends
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.backends().iter().position(|backend| backend.name == name)
    }

    /// The weight that counts; that of a backend that is out does not.
    fn weight(&self, backend: &BackendConfig) -> u64 {
        if backend.maintenance || self.out.contains(&backend.name) { 0 } else { u64::from(backend.weight) }
    }

    /// Percent of the slots of the backend `name`.
    fn share(&self, name: &str) -> f64 {
        let own = self.place(name).map_or(0, |place| self.slots[place]);
        100.0 * own as f64 / self.generation.slots.size() as f64
    }

    /// Percent that the backend `name` should have by its weight.
    fn ideal(&self, name: &str) -> f64 {
        let all: u64 = self.backends().iter().map(|backend| self.weight(backend)).sum();
        let own = self.place(name).map_or(0, |place| self.weight(&self.backends()[place]));
        if all > 0 { 100.0 * own as f64 / all as f64 } else { 0.0 }
    }

    /// The list that the remainder of a division would choose from: each backend as often as its weight, by the sum of
    /// the weights up to its end.
    fn by_weight(&self) -> Vec<u64> {
        let sum = |sum: &mut u64, backend| {
            *sum += self.weight(backend);
            Some(*sum)
        };
        self.backends().iter().scan(0, sum).collect()
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
    // Backends by their places in the list after the change.
    let places: Vec<Option<usize>> = before.backends().iter().map(|backend| after.place(&backend.name)).collect();
    let stays = |was: Option<usize>, is: Option<usize>| match was {
        Some(was) => is.is_some() && places[was] == is,
        None => is.is_none(),
    };
    let percent = |moved: usize, of: usize| 100.0 * moved as f64 / of as f64;
    let all = if exact {
        let size = old.slots.size();
        percent((0..size).filter(|&slot| !stays(old.slots.member(slot), new.slots.member(slot))).count(), size)
    } else {
        let chosen = |generation: &Generation, n: u64| {
            let client = IpAddr::V4((mix(n) as u32).into());
            generation.choose(client, (mix(n) >> 48) as u16).backend
        };
        percent((0..SAMPLE).filter(|&n| !stays(chosen(old, n), chosen(new, n))).count(), SAMPLE as usize)
    };
    // Where nobody served, that is a backend like another: those clients cannot stay there either.
    let nobody = |state: &State| {
        percent(state.generation.slots.size() - state.slots.iter().sum::<usize>(), state.generation.slots.size())
    };
    let lost = |was: f64, is: f64| (was - is).max(0.0);
    let of_backends = before.backends().iter().map(|b| lost(before.share(&b.name), after.share(&b.name)));
    let least = of_backends.sum::<f64>() + lost(nobody(before), nobody(after));
    let remainder = |sums: &[u64], n: u64| {
        let place = mix(n).checked_rem(*sums.last()?)?;
        Some(sums.partition_point(|&sum| sum <= place))
    };
    let (were, are) = (before.by_weight(), after.by_weight());
    let other = (0..SAMPLE).filter(|&n| !stays(remainder(&were, n), remainder(&are, n))).count();
    Moved { all, least, by_remainder: percent(other, SAMPLE as usize), exact }
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
    if after.slots.iter().all(|&slots| slots == 0) {
        writeln!(out, "  nobody is left to serve them")?;
    }
    let mut all: Vec<&str> = before.backends().iter().map(|b| b.name.as_str()).collect();
    all.extend(after.backends().iter().map(|b| b.name.as_str()).filter(|name| before.place(name).is_none()));
    let width = all.iter().map(|name| name.len()).max().unwrap_or(0).max(7);
    writeln!(
        out,
        "  {:width$}  {:>8}  {:>9} {:>9}  {:>9} {:>9}  {:>6}",
        "backend", "weight", "before %", "ideal %", "after %", "ideal %", "off by"
    )?;
    for name in all {
        let (was, is) = (before.share(name), after.share(name));
        let ideal = after.ideal(name);
        writeln!(
            out,
            "  {name:width$}  {:>8}  {was:>9.3} {:>9.3}  {is:>9.3} {ideal:>9.3}  {:>+6.3}",
            weight(before, after, name),
            before.ideal(name),
            is - ideal
        )?;
    }
    Ok(())
}

/// The weight of the backend `name`: as it is, or as it was and is. `-`: it is not there; `out`: it takes no clients.
fn weight(before: &State, after: &State, name: &str) -> String {
    let of = |state: &State| match state.place(name).map(|place| &state.backends()[place]) {
        None => "-".to_owned(),
        Some(backend) if backend.weight > 0 && state.weight(backend) == 0 => "out".to_owned(),
        Some(backend) => backend.weight.to_string(),
    };
    let (was, is) = (of(before), of(after));
    if was == is { is } else { format!("{was}>{is}") }
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
    fn who_was_served_by_nobody_has_to_move() {
        let before = State::new(config(&[1, 1]), ["be1", "be2"].map(str::to_owned).into());
        let m = compare(&before, &before.after(&Step::parse("up be2").unwrap()).unwrap());
        assert_eq!((m.all, m.least, m.by_remainder), (100.0, 100.0, 100.0));
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
