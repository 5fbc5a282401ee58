//! Arguments, configuration, run; and what is said when that fails.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use pen_dsr::config::cli::{Cli, Command};
use pen_dsr::config::{self, Config, ControlAddress, Lookup};
use pen_dsr::control::client;
use pen_dsr::failure::{Failure, Sysexit};
use pen_dsr::{explain, logging, os, penlog, proxy, replay, run, simulate};
use tracing::warn;

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().collect();
    if let Some(call) = penlog::called(&words) {
        return call.run();
    }
    let cli = match Cli::try_parse_from(arguments(words)) {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return if e.use_stderr() { ExitCode::from(Sysexit::Usage as u8) } else { ExitCode::SUCCESS };
        }
    };
    match perform(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("pen-dsr: {failure}");
            failure.exit_code()
        }
    }
}

/// The arguments; called by the name penctl, those of Pen's client are made ours: `penctl [--json] CONTROL COMMAND...`.
fn arguments(words: Vec<OsString>) -> Vec<OsString> {
    let name = words.first().map(|name| Path::new(name).file_name().unwrap_or_default().to_owned());
    if name.is_none_or(|name| name != "penctl") {
        return helpful(words);
    }
    let mut ours: Vec<OsString> = ["pen-dsr", "ctl"].map(OsString::from).to_vec();
    let mut rest = words.into_iter().skip(1).peekable();
    while let Some(option) = rest.next_if(|word| word.as_encoded_bytes().starts_with(b"-")) {
        ours.push(option);
    }
    if let Some(control) = rest.next() {
        ours.extend([OsString::from("-C"), control]);
    }
    ours.extend(rest);
    ours
}

/// `-h` with nothing else, or behind the name of a subcommand alone, asks for help; otherwise it is Pen's hash.
fn helpful(mut words: Vec<OsString>) -> Vec<OsString> {
    let alone = match words.as_slice() {
        [_, option] => option == "-h",
        [_, subcommand, option] => {
            option == "-h" && ["check", "ctl", "explain", "replay", "simulate"].iter().any(|name| subcommand == name)
        }
        _ => false,
    };
    if alone && let Some(last) = words.last_mut() {
        *last = "--help".into();
    }
    words
}

fn perform(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        None => {
            let loaded = config::load_with_remarks(cli, Lookup::Names)?;
            let _log = logging::start(&loaded.config.process)?;
            for remark in &loaded.remarks {
                warn!("{remark}");
            }
            let cli = cli.clone();
            run::run(loaded.config, move || config::load_with_remarks(&cli, Lookup::Names))
        }
        Some(Command::Check { .. }) => {
            os::end_on_broken_pipe();
            check(cli)
        }
        Some(Command::Ctl { json, words }) => client::run(&control(cli)?, &words.join(" "), *json),
        Some(Command::Explain { words }) => {
            os::end_on_broken_pipe();
            let (clients, configuration) = split(cli, words);
            let balance = config::load_words(cli, configuration, Lookup::Nothing)?.config.balance;
            let tables = balance.all_up();
            let name = |index: usize| balance.backends.get(index).map_or("nobody", |backend| backend.name.as_str());
            for client in clients {
                println!("{}", explain::explain(&balance, &tables, name, config::parse_client(client)?)?);
            }
            Ok(())
        }
        Some(Command::Replay { words, write }) => {
            os::end_on_broken_pipe();
            let (captures, configuration) = split(cli, words);
            let Config { balance, process, .. } = config::load_words(cli, configuration, Lookup::Nothing)?.config;
            let mut out = std::io::stdout().lock();
            captures.iter().try_for_each(|capture| {
                replay::replay(balance.clone(), process.vip_mac, Path::new(capture), write.as_deref(), &mut out)
            })
        }
        Some(Command::Simulate { words }) => {
            os::end_on_broken_pipe();
            let config = config::load(cli, Lookup::Nothing)?;
            simulate::run(config, &changes(words), &mut std::io::stdout().lock())
        }
        Some(Command::Penlog { .. }) => Err(penlog::comes_first("penlog")),
        Some(Command::Penlogd { .. }) => Err(penlog::comes_first("penlogd")),
        Some(Command::Mergelogs { .. }) => Err(penlog::comes_first("mergelogs")),
    }
}

/// What a subcommand works on, and the words of the configuration: in front of the subcommand, or behind its first word
/// unless a file has the configuration.
fn split<'a>(cli: &'a Cli, words: &'a [String]) -> (&'a [String], &'a [String]) {
    let alone = cli.words.is_empty() && cli.sources.config.is_none();
    if alone { words.split_at(words.len().min(1)) } else { (words, &cli.words) }
}

/// Says whether the configuration is right, and what would be done with it.
fn check(cli: &Cli) -> Result<(), Failure> {
    let loaded = config::load_with_remarks(cli, Lookup::Names)?;
    if !loaded.config.balance.vips.is_empty() {
        loaded.config.process.port()?;
    }
    let of_files = proxy::rehearse(&loaded.config)?;
    for line in loaded.config.summary() {
        println!("{line}");
    }
    for remark in loaded.remarks.iter().chain(&of_files) {
        println!("warning: {remark}");
    }
    Ok(())
}

/// Where the running pen-dsr takes commands: as `-C` says, or the file of `-c`, or the usual place.
fn control(cli: &Cli) -> Result<ControlAddress, Failure> {
    if let Some(control) = cli.process.control.first() {
        return Ok(control.clone());
    }
    let of_file = match &cli.sources.config {
        Some(_) => config::load(cli, Lookup::Nothing)?.process.control.into_iter().next(),
        None => None,
    };
    of_file.map_or_else(client::default_address, Ok)
}

/// The changes that `words` are: one a word if they have blanks (in quotes), otherwise with commas between them.
fn changes(words: &[String]) -> Vec<String> {
    let quoted = words.iter().any(|word| word.trim().contains(' ')) && !words.iter().any(|word| word.contains(','));
    if quoted { words.to_vec() } else { words.join(" ").split(',').map(str::to_owned).collect() }
}
