//! The command language: Pen's penctl(1), as far as it means something here, and what pen-dsr adds.
//! One command a line, words between blanks; a path is the rest of its line.

mod help;
mod of_proxy;

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::proxy::Method;
use crate::config::{
    BackendConfig, Change, Edit, Endpoint, ProxyEdit, TlsEdit, WhenEmpty, Which, WhichVip, limits, nearest,
    parse_backend, parse_client, parse_rules, parse_server_address, parse_station,
};
use crate::failure::Failure;

use help::{COMMANDS, NO_EFFECT};
pub use help::{help, without_proxy};

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Changes the configuration; also in command files and with `-O`.
    Configure(Edit),
    /// Asks.
    Query(Query),
    /// Does something.
    Act(Act),
    /// A command of Pen's that means nothing here. Accepted, so that Pen's files can be read.
    NoEffect {
        /// The command.
        word: String,
        /// Why it has none, and what has instead.
        reason: &'static str,
    },
}

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `servers`: every backend with its settings.
    Servers,
    /// `server N`: one of them.
    Server(Which),
    /// `status`: everything that is known.
    Status,
    /// `mode`: how backends are chosen.
    Mode,
    /// `pid`: the number of the process.
    Pid,
    /// `recent [N]`: the clients of the last so many seconds (300).
    Recent(Duration),
    /// `flows [NAME]`: how many are remembered, of all backends or of one.
    Flows(Option<Which>),
    /// `explain CLIENT[:port]`: who serves that client, and why.
    Explain(Endpoint),
    /// `table`: digest and share per backend.
    Table,
    /// `control`: where commands are taken.
    Control,
    /// `log`: where the log goes.
    Log,
    /// `listen`: the virtual addresses.
    Listen,
    /// `debug`: the level of the log.
    Debug,
    /// `acl [N]`: the rules of a list, or of all.
    Acl(Option<u8>),
    /// `client_acl`: which list clients have to pass.
    ClientAcl,
    /// `control_acl`: which list those have to pass who give commands over TCP.
    ControlAcl,
    /// `tarpit_acl`: which list names the tarpit.
    TarpitAcl,
    /// `write [FILE]`: the configuration as a TOML file, as the answer or into a file.
    Write(Option<PathBuf>),
    /// `help [COMMAND]`: the text is [`help()`]'s.
    Help(Option<String>),
}

/// Something to be done, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// `drain NAME`: no new flows, those that there are go on.
    Drain(Which),
    /// `undrain NAME`: takes that back.
    Undrain(Which),
    /// `server N blacklist T`: out of service for so long.
    Blacklist {
        /// Which backend.
        backend: Which,
        /// For how long.
        time: Duration,
    },
    /// `takeover`: become the one that answers for the VIPs.
    Takeover,
    /// `standby`: fall silent. In a command file: start silent.
    Standby,
    /// `reload`: read the configuration again, as after HUP.
    Reload,
    /// `exit`: end; only where `-X` allows it.
    Exit,
    /// `statistics`: to the log, as after USR1.
    Statistics,
}

/// `recent` without a number, as in Pen.
const RECENT: u32 = 300;
/// The longest time that `recent` looks back, in seconds.
const RECENT_RANGE: RangeInclusive<u32> = 1..=86_400;

impl Command {
    /// Reads one line.
    ///
    /// # Errors
    /// Usage: the command is not known, or its words are wrong; how it should be.
    pub fn parse(line: &str) -> Result<Command, Failure> {
        let line = line.trim();
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((&first, rest)) = words.split_first() else {
            return Err(Failure::usage("no command; help lists them"));
        };
        let negated = first == "no";
        let (word, rest) = match rest.split_first() {
            Some((&word, rest)) if negated => (word, rest),
            _ if negated => return Err(Failure::usage("no what? help lists the commands")),
            _ => (first, rest),
        };
        let parser = Parser { word, words: rest, line };
        let found = if negated { parser.negated() } else { parser.plain() };
        match found {
            Some(command) => command,
            None => parser.without_effect(negated),
        }
    }

    /// Does it touch files of the machine? Who gives commands over TCP should not be able to.
    pub fn touches_files(&self) -> bool {
        match self {
            Command::Configure(Edit::Include(_) | Edit::Log(Some(_))) | Command::Query(Query::Write(Some(_))) => true,
            Command::Configure(Edit::Proxy(edit)) => edit.touches_files(),
            // Clients would be given what a Unix socket of this machine leads to.
            Command::Configure(Edit::Add(server) | Edit::Emergency(Some(server))) => server.path.is_some(),
            Command::Configure(Edit::Server { changes, .. }) => {
                changes.iter().any(|change| matches!(change, Change::Address(server) if server.path.is_some()))
            }
            _ => false,
        }
    }
}

/// A line, and how far it has been read.
struct Parser<'a> {
    /// The command.
    word: &'a str,
    /// What follows it.
    words: &'a [&'a str],
    line: &'a str,
}

impl<'a> Parser<'a> {
    /// A command that does not begin with `no`; `None` if it is none of ours.
    fn plain(&self) -> Option<Result<Command, Failure>> {
        let edit = |edit: Result<Edit, Failure>| edit.map(Command::Configure);
        let query = |query: Result<Query, Failure>| query.map(Command::Query);
        let act = |act: Result<Act, Failure>| act.map(Command::Act);
        Some(match self.word {
            "acl" => self.acl(),
            "client_acl" if self.words.is_empty() => query(Ok(Query::ClientAcl)),
            "client_acl" => edit(self.client_acl()),
            "control_acl" => self.asked_or_set(Query::ControlAcl, limits::ACL, |n| Edit::ControlAcl(Some(n as u8))),
            "tarpit_acl" => self.asked_or_set(Query::TarpitAcl, limits::ACL, |n| Edit::TarpitAcl(Some(n as u8))),
            "tarpit_rate" => edit(self.number(limits::TARPIT_RATE).map(Edit::TarpitRate)),
            "server" => self.server(),
            "weight" if !self.words.is_empty() => edit(self.weight()),
            "weight" | "prio" | "selection" => edit(self.selection()),
            "add" => edit(self.one_word().and_then(parse_backend).map(Edit::Add)),
            "remove" => edit(self.which().map(Edit::Remove)),
            "maintenance" => edit(self.maintenance()),
            "emergency" => edit(self.one_word().and_then(parse_backend).map(|backend| Edit::Emergency(Some(backend)))),
            "hash" => edit(self.nothing_else(Edit::Hash(true))),
            "roundrobin" => edit(self.nothing_else(Edit::RoundRobin(true))),
            "check" => edit(self.check()),
            "check_interval" => edit(self.number(limits::CHECK_INTERVAL).map(|n| Edit::CheckInterval(milliseconds(n)))),
            "check_timeout" => edit(self.number(limits::CHECK_TIMEOUT).map(|n| Edit::CheckTimeout(milliseconds(n)))),
            "rise" => edit(self.number(limits::IN_A_ROW).map(Edit::Rise)),
            "fall" => edit(self.number(limits::IN_A_ROW).map(Edit::Fall)),
            "source" => edit(self.one_word().and_then(|word| self.address(word)).map(Edit::Source)),
            "abuse" => {
                edit(self.one_word().and_then(parse_backend).map(|server| proxy(ProxyEdit::Abuse(Some(server)))))
            }
            "panic" => edit(self.number(limits::PERCENT).map(|percent| Edit::Panic(percent as u8))),
            "slow_start" => edit(self.number(limits::SLOW_START).map(|n| Edit::SlowStart(seconds(n)))),
            "predecessor" => edit(self.number(limits::PREDECESSOR).map(|n| Edit::Predecessor(seconds(n)))),
            "when_empty" => edit(self.when_empty()),
            "debug" => self.asked_or_set(Query::Debug, limits::DEBUG, |n| Edit::Debug(n as u8)),
            "dsr_if" => edit(self.one_word().map(|name| Edit::Interface(name.to_owned()))),
            "include" => edit(self.path().map(Edit::Include)),
            "log" if !self.words.is_empty() => edit(self.path().map(|path| Edit::Log(Some(path)))),
            "log" => query(Ok(Query::Log)),
            "servers" => query(self.nothing_else(Query::Servers)),
            "status" => query(self.nothing_else(Query::Status)),
            "mode" => query(self.nothing_else(Query::Mode)),
            "pid" => query(self.nothing_else(Query::Pid)),
            "recent" if self.words.is_empty() => query(Ok(Query::Recent(seconds(RECENT)))),
            "recent" => query(self.number(RECENT_RANGE).map(|n| Query::Recent(seconds(n)))),
            "flows" if self.words.is_empty() => query(Ok(Query::Flows(None))),
            "flows" => query(self.which().map(|backend| Query::Flows(Some(backend)))),
            "explain" => query(self.one_word().and_then(parse_client).map(Query::Explain)),
            "table" => query(self.nothing_else(Query::Table)),
            "control" => query(self.nothing_else(Query::Control)),
            "listen" if self.words.is_empty() => query(Ok(Query::Listen)),
            "write" if self.words.is_empty() => query(Ok(Query::Write(None))),
            "write" => query(self.path().map(|path| Query::Write(Some(path)))),
            "help" if self.words.is_empty() => query(Ok(Query::Help(None))),
            "help" => query(self.one_word().map(|word| Query::Help(Some(word.to_owned())))),
            "drain" => act(self.which().map(Act::Drain)),
            "undrain" => act(self.which().map(Act::Undrain)),
            "takeover" => act(self.nothing_else(Act::Takeover)),
            "standby" => act(self.nothing_else(Act::Standby)),
            "reload" => act(self.nothing_else(Act::Reload)),
            "exit" => act(self.nothing_else(Act::Exit)),
            "statistics" => act(self.nothing_else(Act::Statistics)),
            _ => return self.of_proxy().map(edit),
        })
    }

    /// A command behind `no`.
    fn negated(&self) -> Option<Result<Command, Failure>> {
        let edit = match self.word {
            "acl" => self.number(limits::ACL).map(|n| Edit::ClearAcl(n as u8)),
            "client_acl" => self.vip(self.words).map(|vip| Edit::ClientAcl { acl: None, vip }),
            "control_acl" => self.nothing_else(Edit::ControlAcl(None)),
            "tarpit_acl" => self.nothing_else(Edit::TarpitAcl(None)),
            "emergency" => self.nothing_else(Edit::Emergency(None)),
            "hash" => self.nothing_else(Edit::Hash(false)),
            "roundrobin" => self.nothing_else(Edit::RoundRobin(false)),
            "weight" => self.nothing_else(proxy(ProxyEdit::Unselect(Method::Weight))),
            "prio" => self.nothing_else(proxy(ProxyEdit::Unselect(Method::Prio))),
            "stubborn" => self.nothing_else(proxy(ProxyEdit::Stubborn(false))),
            "tcp_nodelay" => self.nothing_else(proxy(ProxyEdit::Nodelay(false))),
            "tcp_fastclose" => self.nothing_else(proxy(ProxyEdit::Fastclose(false))),
            "http" => self.nothing_else(proxy(ProxyEdit::Http(false))),
            "transparent" => self.nothing_else(proxy(ProxyEdit::Transparent(false))),
            "abuse" => self.nothing_else(proxy(ProxyEdit::Abuse(None))),
            "ssl_session_cache" => self.nothing_else(proxy(ProxyEdit::Tls(TlsEdit::Sessions(false)))),
            "maintenance" => self.which().map(|backend| Edit::Maintenance { backend, on: false }),
            "log" => self.nothing_else(Edit::Log(None)),
            _ => return None,
        };
        Some(edit.map(Command::Configure))
    }

    /// A command of Pen's that has no effect here; otherwise nobody's.
    fn without_effect(&self, negated: bool) -> Result<Command, Failure> {
        let known = |(word, _): &&(&str, &str)| *word == self.word && self.of_proxy().is_none();
        if let Some((_, reason)) = NO_EFFECT.iter().find(known) {
            let no = if negated { "no " } else { "" };
            return Ok(Command::NoEffect { word: format!("{no}{}", self.word), reason });
        }
        if let Some(usage) = help::usage(self.word) {
            // It is known, but not with `no`.
            return Err(Failure::usage(format!("there is no \"no {}\"; write {usage}", self.word)));
        }
        let known = COMMANDS.iter().map(|command| command.word);
        let near = nearest(self.word, known).map_or(String::new(), |near| format!("; {near:?} is one"));
        Err(Failure::usage(format!("there is no command {:?}{near}; help lists them", short(self.word))))
    }

    fn acl(&self) -> Result<Command, Failure> {
        match self.words {
            [] => Ok(Command::Query(Query::Acl(None))),
            [number] => self.list(number).map(|acl| Command::Query(Query::Acl(Some(acl)))),
            [number, rule @ ..] => {
                let acl = self.list(number)?;
                let rules = parse_rules(&rule.join(" "))?;
                Ok(Command::Configure(Edit::Permit { acl, rules }))
            }
        }
    }

    fn client_acl(&self) -> Result<Edit, Failure> {
        let (number, rest) = self.words.split_first().ok_or_else(|| self.wrong("no number"))?;
        Ok(Edit::ClientAcl { acl: Some(self.list(number)?), vip: self.vip(rest)? })
    }

    fn when_empty(&self) -> Result<Edit, Failure> {
        let (what, rest) = self.words.split_first().ok_or_else(|| self.wrong("drop or reject?"))?;
        let what: WhenEmpty = what.parse().map_err(|e: String| self.wrong(&e))?;
        Ok(Edit::WhenEmpty { what, vip: self.vip(rest)? })
    }

    fn maintenance(&self) -> Result<Edit, Failure> {
        let (name, on) = match self.words {
            [name] | [name, "on"] => (name, true),
            [name, "off"] => (name, false),
            _ => return Err(self.wrong("one backend, then on or off")),
        };
        Ok(Edit::Maintenance { backend: Which::new(name), on })
    }

    fn check(&self) -> Result<Edit, Failure> {
        self.one_word()?.parse().map(Edit::Check)
    }

    fn weight(&self) -> Result<Edit, Failure> {
        let [name, weight] = self.words else { return Err(self.wrong("a backend and its weight")) };
        let weight = Change::Weight(self.value("weight", weight, limits::WEIGHT)?);
        Ok(Edit::Server { backend: Which::new(name), changes: vec![weight] })
    }

    /// `server N|NAME [what value]...`
    fn server(&self) -> Result<Command, Failure> {
        let (name, mut rest) = self.words.split_first().ok_or_else(|| self.wrong("no server"))?;
        let backend = Which::new(name);
        if rest.is_empty() {
            return Ok(Command::Query(Query::Server(backend)));
        }
        if let ["blacklist", time] = rest {
            let time = self.value("time", time, limits::BLACKLIST).map(seconds)?;
            return Ok(Command::Act(Act::Blacklist { backend, time }));
        }
        let mut changes = Vec::new();
        while let Some((&what, behind)) = rest.split_first() {
            let (&value, behind) =
                behind.split_first().ok_or_else(|| self.wrong(&format!("{:?} without a value", short(what))))?;
            rest = behind;
            changes.push(self.change(what, value)?);
        }
        Ok(Command::Configure(Edit::Server { backend, changes }))
    }

    fn change(&self, what: &str, value: &str) -> Result<Change, Failure> {
        Ok(match what {
            "address" => {
                let host = parse_backend(value)?;
                let BackendConfig { name, path, address, mac, .. } = host.clone();
                if host != (BackendConfig { path, address, mac, ..BackendConfig::named(&name) }) {
                    return Err(self.wrong(&format!("{value:?} is more than HOST[@MAC]")));
                }
                Change::Address(host)
            }
            "mac" if value == "ask" => Change::Mac(None),
            "mac" => Change::Mac(Some(parse_station(value).map_err(|e| self.wrong(&format!("{e}; or write ask")))?)),
            "port" => Change::Port(self.value(what, value, limits::PORT)? as u16),
            "weight" => Change::Weight(self.value(what, value, limits::WEIGHT)?),
            "max" => Change::Soft(self.value(what, value, limits::PENS)?),
            "hard" => Change::Hard(self.value(what, value, limits::PENS)?),
            "prio" => Change::Prio(self.value(what, value, limits::PENS)?),
            "acl" if value == "none" => Change::Acl(None),
            "acl" => self.list(value).map(|acl| Change::Acl(Some(acl)))?,
            "blacklist" => return Err(self.wrong("blacklist goes alone, it is no setting: server N blacklist SECONDS")),
            other => {
                let known = ["address", "mac", "port", "weight", "max", "hard", "prio", "acl", "blacklist"];
                let near = nearest(other, known).map_or(String::new(), |near| format!("; {near:?} is one"));
                return Err(self.wrong(&format!("a server has no {:?}{near}", short(other))));
            }
        })
    }

    /// A command that asks without a number, and sets with one.
    fn asked_or_set(
        &self,
        query: Query,
        range: RangeInclusive<u32>,
        edit: impl Fn(u32) -> Edit,
    ) -> Result<Command, Failure> {
        if self.words.is_empty() {
            return Ok(Command::Query(query));
        }
        self.number(range).map(|number| Command::Configure(edit(number)))
    }

    fn nothing_else<T>(&self, command: T) -> Result<T, Failure> {
        match self.words {
            [] => Ok(command),
            [word, ..] => Err(self.wrong(&format!("{:?} is too much", short(word)))),
        }
    }

    fn one_word(&self) -> Result<&'a str, Failure> {
        match self.words {
            [word] => Ok(word),
            [] => Err(self.wrong("something is missing")),
            [_, word, ..] => Err(self.wrong(&format!("{:?} is too much", short(word)))),
        }
    }

    fn which(&self) -> Result<Which, Failure> {
        self.one_word().map(Which::new)
    }

    fn number(&self, range: RangeInclusive<u32>) -> Result<u32, Failure> {
        self.value("number", self.one_word()?, range)
    }

    fn list(&self, word: &str) -> Result<u8, Failure> {
        self.value("number of an access list", word, limits::ACL).map(|number| number as u8)
    }

    fn value(&self, what: &str, word: &str, range: RangeInclusive<u32>) -> Result<u32, Failure> {
        word.parse().ok().filter(|number| range.contains(number)).ok_or_else(|| {
            let (least, most) = (range.start(), range.end());
            self.wrong(&format!("the {what} {:?} is not one from {least} to {most}", short(word)))
        })
    }

    fn address(&self, word: &str) -> Result<IpAddr, Failure> {
        parse_server_address(word).map_err(|e| self.wrong(&e))
    }

    /// No word: every VIP, and listener. One: those that it names.
    fn vip(&self, words: &[&str]) -> Result<Option<WhichVip>, Failure> {
        match words {
            [] => Ok(None),
            [word] => WhichVip::parse(word).map(Some).map_err(|what| self.wrong(&what)),
            [_, word, ..] => Err(self.wrong(&format!("{:?} is too much", short(word)))),
        }
    }

    /// The rest of the line, blanks and all.
    fn path(&self) -> Result<PathBuf, Failure> {
        let rest = self.line.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim());
        if rest.is_empty() { Err(self.wrong("no file")) } else { Ok(PathBuf::from(rest)) }
    }

    /// `what` is wrong with this command, and how it should be.
    fn wrong(&self, what: &str) -> Failure {
        let usage = help::usage(self.word).unwrap_or("it otherwise");
        Failure::usage(format!("{}: {what}; write {usage}", short(self.word)))
    }
}

fn proxy(edit: ProxyEdit) -> Edit {
    Edit::Proxy(edit)
}

/// As much of a word as a message should repeat.
fn short(word: &str) -> String {
    word.chars().take(64).collect()
}

fn seconds(number: u32) -> Duration {
    Duration::from_secs(u64::from(number))
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(u64::from(number))
}

#[cfg(test)]
mod tests;
