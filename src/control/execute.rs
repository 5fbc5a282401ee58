//! What commands do, while the balancer runs.

mod proxied;

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tracing::info;

use super::command::{Act, Command, Query, help, without_proxy};
use super::wire::{Answer, Reply, Request};
use crate::appliance::Appliance;
use crate::balancer::Balancer;
use crate::config::proxy::ListenConfig;
use crate::config::{Config, Edit, Which, acl_lines};
use crate::counters::Counters;
use crate::director::{Duty, Standing};
use crate::explain;
use crate::failure::{Failure, Sysexit};
use crate::proxy::plan::{Listener, Plan, still_counts};
use crate::stats;

/// What becomes of a request.
pub enum Outcome {
    /// It is done, or refused.
    Done(Reply),
    /// The configuration is to be read anew; the answer comes after that.
    Reload,
    /// The configuration is to be changed, for which a name may have to be looked up; the answer comes after that.
    Edit(Edit),
    /// The program ends.
    Exit(Answer),
}

/// Carries out one request.
pub fn execute(balancer: &mut Balancer, request: &Request) -> Outcome {
    let command = match Command::parse(&request.line) {
        Ok(command) => command,
        Err(failure) => return Outcome::Done(Err(failure)),
    };
    if command.touches_files() && !request.trusted {
        return Outcome::Done(Err(Failure::new(
            Sysexit::NoPerm,
            format!("{:?} touches files of this machine: give it over the Unix socket", request.line),
        )));
    }
    if !matches!(command, Command::Query(_)) {
        info!("command over {}: {}", if request.trusted { "the Unix socket" } else { "TCP" }, request.line);
    }
    let outcome = carry_out(balancer, command);
    if let Outcome::Done(Err(failure)) = &outcome {
        info!("refused: {failure}");
    }
    outcome
}

fn carry_out(balancer: &mut Balancer, command: Command) -> Outcome {
    match command {
        Command::Act(Act::Reload) => Outcome::Reload,
        Command::Act(Act::Exit) if balancer.config().process.allow_exit => Outcome::Exit(Answer::plain("bye")),
        Command::Act(Act::Exit) => {
            Outcome::Done(Err(Failure::new(Sysexit::NoPerm, "exit is not allowed here: start with -X to allow it")))
        }
        Command::Act(act) => Outcome::Done(perform(balancer, &act)),
        Command::Query(query) => Outcome::Done(answer(balancer, &query)),
        Command::Configure(Edit::Proxy(edit)) if balancer.config().proxy.is_empty() => {
            let word = edit.word();
            Outcome::Done(Ok(Answer::plain(format!("{word} has no effect: {}", without_proxy(word)))))
        }
        Command::Configure(edit) => Outcome::Edit(edit),
        Command::NoEffect { word, reason } => {
            Outcome::Done(Ok(Answer::plain(format!("{word} has no effect: {reason}"))))
        }
    }
}

/// What an edit has changed, as an answer.
pub fn edited(said: &str, changes: &[String]) -> Answer {
    Answer::new(format!("{said}\n"), json!({ "said": said, "changes": changes }))
}

/// What a reload has changed, as an answer; with what has become of certificates, which are read again each time.
///
/// # Errors
/// `Config` where one is not what it should be: all else has been taken in.
pub fn reloaded(changes: &[String], plan: Option<&Arc<Plan>>) -> Reply {
    let kept = plan.map_or(&[][..], |plan| &plan.kept);
    if let Some(failure) = kept.iter().find(|failure| failure.code == Sysexit::Config) {
        let what = format!(
            "reloaded, with {} changes, but for certificates, of which those from before still count: {failure}",
            changes.len()
        );
        return Err(Failure::new(Sysexit::Config, what));
    }
    // Another user than the one who has started may not read them; that is no fault of the file's.
    let mut notes: Vec<String> = kept.iter().map(still_counts).collect();
    notes.dedup();
    let by_tls = |listener: &Arc<Listener>| listener.tls.is_some() || listener.backend_tls.is_some();
    if kept.is_empty() && plan.is_some_and(|plan| plan.listeners.iter().any(by_tls)) {
        notes.push("certificates have been read again".to_owned());
    }
    let mut text = if changes.is_empty() { "nothing has changed\n".to_owned() } else { joined(changes) };
    text += &joined(&notes);
    Ok(Answer::new(text, json!({ "changes": changes, "notes": notes })))
}

fn perform(balancer: &mut Balancer, act: &Act) -> Reply {
    if *act == Act::Statistics {
        stats::all(balancer).iter().for_each(|line| info!("{line}"));
        return Ok(Answer::plain("written to the log"));
    }
    match balancer.appliance_mut() {
        Some(appliance) => direct(appliance, act),
        None => proxied::perform(balancer, act),
    }
}

/// Does what concerns Direct Server Return; the proxy follows.
fn direct(appliance: &mut Appliance, act: &Act) -> Reply {
    match act {
        Act::Drain(which) => set_duty(appliance, which, Duty::Draining),
        Act::Undrain(which) => set_duty(appliance, which, Duty::Active),
        Act::Blacklist { backend, time } => {
            let until = std::time::Instant::now() + *time;
            set_duty(appliance, backend, Duty::Blacklisted(until))
        }
        Act::Takeover => {
            appliance.direct(|director, now| director.take_over(now));
            Ok(Answer::plain("this balancer has the virtual addresses"))
        }
        Act::Standby => {
            appliance.direct(|director, now| director.go_silent(now));
            Ok(Answer::plain("standing by"))
        }
        // Those are not for here.
        Act::Reload | Act::Exit | Act::Statistics => Ok(Answer::plain("")),
    }
}

fn set_duty(appliance: &mut Appliance, which: &Which, duty: Duty) -> Reply {
    let standing = standing_of(appliance, which)?;
    // One that has just been opened counts.
    appliance.take_stock();
    let left = appliance.counters().flows.live(standing.number);
    if appliance.config().balance.backends.iter().any(|b| b.name == standing.name && b.maintenance) {
        let message =
            format!("{} is in maintenance: take it out with \"maintenance {} off\"", standing.name, standing.name);
        return Err(Failure::usage(message));
    }
    appliance.direct(|director, now| director.set_duty(&standing.name, duty, left, now));
    let standing = standing_of(appliance, which)?;
    let text = format!("{}: {}, {left} flows\n", standing.name, standing.condition.name());
    Ok(Answer::new(text, server_json(&appliance.counters(), &standing)))
}

fn standing_of(appliance: &Appliance, which: &Which) -> Result<Standing, Failure> {
    let balance = &appliance.config().balance;
    let name = &balance.backends[which.find(balance)?].name;
    let found = appliance.director().standings().into_iter().find(|standing| standing.name == *name);
    found.ok_or_else(|| Failure::usage(format!("backend {name} is not served yet")))
}

fn answer(balancer: &Balancer, query: &Query) -> Reply {
    if let Some(reply) = of_config(balancer.config(), query) {
        return reply;
    }
    let Some(appliance) = balancer.appliance() else { return proxied::answer(balancer, query) };
    if matches!(query, Query::Servers | Query::Server(_) | Query::Status | Query::Flows(_)) {
        appliance.glance_at_flows();
    }
    Ok(match query {
        Query::Servers => proxied::beside(balancer, servers(appliance, &appliance.director().standings())),
        Query::Server(which) => servers(appliance, &[standing_of(appliance, which)?]),
        Query::Status => proxied::beside(balancer, status(appliance)),
        Query::Mode => mode(balancer.config(), appliance.director().is_silent()),
        Query::Recent(within) => recent(appliance, *within)?,
        Query::Flows(which) => flows(appliance, which.as_ref())?,
        Query::Explain(client) => {
            let director = appliance.director();
            let name = |number: usize| director.seats().get(number).map_or("nobody", |seat| seat.key.as_str());
            Answer::plain(explain::explain(director.balance(), director.tables(), name, *client)?)
        }
        _ => table(appliance),
    })
}

/// What the configuration alone answers.
fn of_config(config: &Config, query: &Query) -> Option<Reply> {
    let (balance, process) = (&config.balance, &config.process);
    Some(Ok(match query {
        Query::Pid => Answer::new(format!("{}\n", std::process::id()), json!(std::process::id())),
        Query::Control => plain_list(process.control.iter().map(ToString::to_string)),
        Query::Log => Answer::plain(match (&process.log_file, process.daemon) {
            (Some(path), _) => path.display().to_string(),
            (None, true) => "syslog".to_owned(),
            (None, false) => "standard error".to_owned(),
        }),
        Query::Listen => {
            let vips = balance.vips.iter().map(|vip| format!("{vip} ({})", vip.protocols));
            plain_list(vips.chain(config.proxy.listeners.iter().map(ListenConfig::setting)))
        }
        Query::Debug => Answer::new(format!("{}\n", process.debug), json!(process.debug)),
        Query::Acl(number) => {
            let numbers: Vec<u8> = number.map_or_else(|| balance.acls.keys().copied().collect(), |n| vec![n]);
            plain_list(numbers.into_iter().flat_map(|number| acl_lines(balance, number)))
        }
        Query::ClientAcl => list_number(balance.client_acl),
        Query::ControlAcl => list_number(balance.control_acl),
        Query::TarpitAcl => list_number(balance.tarpit.map(|tarpit| tarpit.acl)),
        Query::Write(None) => Answer::plain(config.to_toml()),
        Query::Write(Some(path)) => return Some(write(config, path)),
        Query::Help(word) => Answer::plain(help(word.as_deref())),
        _ => return None,
    }))
}

fn joined(lines: &[String]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

fn plain_list(lines: impl Iterator<Item = String>) -> Answer {
    let lines: Vec<String> = lines.collect();
    Answer::new(joined(&lines), json!(lines))
}

fn list_number(number: Option<u8>) -> Answer {
    let text = number.map_or_else(|| "none\n".to_owned(), |number| format!("{number}\n"));
    Answer::new(text, json!(number))
}

fn server_json(counters: &Counters, standing: &Standing) -> Value {
    let traffic = counters.backends.get(standing.number);
    json!({
        "name": standing.name,
        "state": standing.condition.name(),
        "mac": standing.mac.map(|mac| mac.to_string()),
        "weight": standing.weight,
        "share": standing.share,
        "flows": counters.flows.live(standing.number),
        "frames": traffic.map(|traffic| traffic.frames.get()),
        "bytes": traffic.map(|traffic| traffic.bytes.get()),
        "reason": standing.reason.as_ref().map(ToString::to_string),
        "reason_name": standing.reason.as_ref().map(crate::health::Reason::name),
        "since": standing.since.map(|since| since.elapsed().as_secs()),
        "emergency": standing.emergency,
    })
}

/// The backends, numbered as in the configuration.
fn servers(appliance: &Appliance, standings: &[Standing]) -> Answer {
    let (balance, counters) = (&appliance.config().balance, appliance.counters());
    let mut text = String::new();
    for standing in standings {
        let place = balance.backends.iter().position(|backend| backend.name == standing.name);
        let config =
            place.map(|place| &balance.backends[place]).or(balance.emergency.as_ref().filter(|_| standing.emergency));
        let place = match place {
            Some(place) => place.to_string(),
            None if standing.emergency => "e".to_owned(),
            None => "-".to_owned(),
        };
        let address = config.and_then(|config| config.address).map_or("-".to_owned(), |address| address.to_string());
        let mac = standing.mac.map_or("-".to_owned(), |mac| mac.to_string());
        let _ = write!(
            text,
            "{place} {} addr {address} mac {mac} weight {} share {:.2} % flows {} state {}",
            standing.name,
            standing.weight,
            standing.share,
            counters.flows.live(standing.number),
            standing.condition.name()
        );
        match &standing.reason {
            Some(reason) => {
                let _ = writeln!(text, " ({reason})");
            }
            None => text.push('\n'),
        }
    }
    Answer::new(text, standings.iter().map(|standing| server_json(&counters, standing)).collect())
}

fn status(appliance: &Appliance) -> Answer {
    let (counters, director) = (appliance.counters(), appliance.director());
    let process = &appliance.config().process;
    let role = if director.is_silent() { "standing by" } else { "active" };
    let interface = process.ports();
    let head = format!("pen-dsr {} on {interface}, process {}, {role}", env!("CARGO_PKG_VERSION"), std::process::id());
    let lines: Vec<String> = std::iter::once(head).chain(stats::lines(&counters, director)).collect();
    let mut lines = lines;
    let heard = appliance.peer_heard().map(|heard| heard.elapsed().as_secs());
    if let Some(peer) = process.peer {
        let last = heard.map_or("not heard of yet".to_owned(), |seconds| format!("last heard of {seconds} s ago"));
        lines.insert(1, format!("peer {peer}: {last}, {} flows learnt from it", counters.flows.learnt.get()));
    }
    let servers = servers(appliance, &director.standings());
    let json = json!({
        "peer": process.peer.map(|peer| peer.to_string()),
        "peer_heard": heard,
        "flows_learnt": counters.flows.learnt.get(),
        "version": env!("CARGO_PKG_VERSION"),
        "interface": interface,
        "pid": std::process::id(),
        "role": role,
        "counters": stats::json(&counters),
        "servers": servers.json,
    });
    Answer::new(joined(&lines), json)
}

fn mode(config: &Config, silent: bool) -> Answer {
    let balance = &config.balance;
    let hash = if balance.hash_port { "no hash roundrobin" } else { "hash no roundrobin" };
    let role = if silent { "standby" } else { "active" };
    let text = format!("{hash} weight dsr {role} check {}\n", balance.health.check);
    let json = json!({
        "hash": if balance.hash_port { "address and port" } else { "address" },
        "role": role,
        "check": balance.health.check.to_string(),
        "seed": balance.seed.to_string(),
        "slots": balance.slots_wanted(),
    });
    Answer::new(text, json)
}

fn no_worker() -> Failure {
    Failure::new(Sysexit::Unavailable, "the interface is away, or its worker does not answer: see the log")
}

fn recent(appliance: &Appliance, within: Duration) -> Result<Answer, Failure> {
    let clients = appliance.recent(within).ok_or_else(no_worker)?;
    let seats = appliance.director().seats();
    let name = |number: usize| seats.get(number).map_or("", |seat| seat.key.as_str());
    let lines: Vec<String> = clients
        .iter()
        .map(|c| format!("{} {} s ago, at {}", c.client, c.seen.elapsed().as_secs(), name(c.backend)))
        .collect();
    let json: Value = clients
        .iter()
        .map(|c| json!({ "client": c.client, "seconds": c.seen.elapsed().as_secs(), "server": name(c.backend) }))
        .collect();
    Ok(Answer::new(joined(&lines), json))
}

fn flows(appliance: &Appliance, which: Option<&Which>) -> Result<Answer, Failure> {
    let all = appliance.counters();
    let counters = &all.flows;
    let standings = match which {
        Some(which) => vec![standing_of(appliance, which)?],
        None => appliance.director().standings(),
    };
    let mut lines: Vec<String> = standings
        .iter()
        .map(|s| format!("{}: {} flows, {}", s.name, counters.live(s.number), s.condition.name()))
        .collect();
    if which.is_none() {
        lines.push(format!("in all: {} remembered, those that are ending included", counters.total()));
    }
    let per_server: Value =
        standings.iter().map(|s| json!({ "name": s.name, "flows": counters.live(s.number) })).collect();
    let json = json!({
        "servers": per_server,
        "total": counters.total(),
        "opened": counters.opened.get(),
        "displaced": counters.displaced.get(),
        "evicted": counters.evicted.get(),
        "full": counters.full.get(),
    });
    Ok(Answer::new(joined(&lines), json))
}

/// The digest of the slot table, and what everybody has of it: two balancers with the same digest make the same choices.
fn table(appliance: &Appliance) -> Answer {
    let director = appliance.director();
    let digest = director.digest();
    let standings = director.standings();
    let mut lines = vec![format!(
        "digest {digest:016x}, {} slots, seed {}{}",
        appliance.config().balance.slots_wanted(),
        appliance.config().balance.seed,
        if director.has_previous() { "; the table before this one still decides about older flows" } else { "" }
    )];
    lines.extend(standings.iter().map(|s| format!("{} weight {} share {:.3} %", s.name, s.weight, s.share)));
    let shares: Value =
        standings.iter().map(|s| json!({ "name": s.name, "weight": s.weight, "share": s.share })).collect();
    let json = json!({
        "digest": format!("{digest:016x}"),
        "slots": appliance.config().balance.slots_wanted(),
        "previous": director.has_previous(),
        "servers": shares,
    });
    Answer::new(joined(&lines), json)
}

/// Writes the configuration, whole or not at all.
fn write(config: &Config, path: &Path) -> Result<Answer, Failure> {
    let failed = |e: std::io::Error| Failure::new(Sysexit::CantCreat, format!("{}: {e}", path.display()));
    let mut name = path.file_name().map(std::ffi::OsStr::to_os_string).unwrap_or_default();
    name.push(".new");
    let new = path.with_file_name(name);
    // It holds the seed, which is nobody else's business.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(config.to_toml().as_bytes()).map_err(failed)?;
    std::fs::rename(&new, path).map_err(failed)?;
    Ok(Answer::plain(format!("written to {}", path.display())))
}
