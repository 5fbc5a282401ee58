//! One configuration from all its sources.

use std::net::IpAddr;

use super::cli::{Cli, Command};
use super::commands::{self, Notes};
use super::file::{self, Defaults};
use super::options::{self, Context};
use super::origin::{Problem, Source};
use super::{Config, Lookup};
use crate::failure::Failure;

/// A configuration, and what to tell about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The configuration, validated.
    pub config: Config,
    /// What was accepted but has no effect, or may not be meant: a line each. They are warnings.
    pub remarks: Vec<String>,
}

/// Reads the whole configuration of a call, all of its files anew: the TOML file, then words and options, which add to it
/// and count before it, then the command files, then the commands.
///
/// # Errors
/// What cannot be read, is wrong by itself (with file, line and column, if it is from a file), does not fit together, or
/// does not resolve. The message names it and says what to do.
pub fn load(cli: &Cli, lookup: Lookup) -> Result<Config, Failure> {
    load_with_remarks(cli, lookup).map(|loaded| loaded.config)
}

/// As [`load`], with its warnings.
///
/// # Errors
/// As [`load`].
pub fn load_with_remarks(cli: &Cli, lookup: Lookup) -> Result<Loaded, Failure> {
    match &cli.command {
        // Its words may stand before it, behind it, or both.
        Some(Command::Check { words }) => load_words(cli, &[&cli.words[..], words].concat(), lookup),
        _ => load_words(cli, &cli.words, lookup),
    }
}

/// As [`load`], with other words than those in front of the subcommand.
///
/// # Errors
/// As [`load`].
pub fn load_words(cli: &Cli, words: &[String], lookup: Lookup) -> Result<Loaded, Failure> {
    let mut config = Config::default();
    let mut notes = Notes::default();
    let mut protocols = cli.balance.protocols().unwrap_or_default();
    let mut first_is_vip = first_is_vip(cli, words);
    if let Some(path) = &cli.sources.config {
        let source = Source::new(path, commands::read("configuration file", path)?);
        let file = file::parse(&source)?;
        first_is_vip |= file.is_of_a_segment();
        let defaults = Defaults {
            protocols: cli.balance.protocols(),
            when_empty: cli.balance.when_empty.unwrap_or_default(),
            vips: !cli.balance.vip.is_empty() || (first_is_vip && !words.is_empty()),
            lookup,
        };
        protocols = file::apply(&file, &source, defaults, &mut config, &mut notes.origins)?;
    }
    let context = Context { protocols, first_is_vip, lookup };
    notes.remarks = options::apply(cli, words, context, &mut config, &mut notes.origins)?;
    for path in &cli.sources.commands {
        commands::carry_out_file(path, &mut config, &mut notes)?;
    }
    for text in &cli.sources.command {
        commands::carry_out(text, &mut config, &mut notes)?;
    }
    let blame = |problem: Problem| notes.origins.blame(problem);
    config.complete().map_err(blame)?;
    let of_names = config.look_up(lookup).map_err(blame)?;
    config.consistent().map_err(blame)?;
    let mut remarks = notes.remarks;
    remarks.extend(of_names);
    remarks.extend(config.remarks());
    Ok(Loaded { config, remarks })
}

/// Is the first word a virtual address, whatever the file says? With an interface or another virtual address it is, for
/// the subcommands that are about Direct Server Return, and if it is an address without a port: a listener has one.
fn first_is_vip(cli: &Cli, words: &[String]) -> bool {
    let about =
        matches!(&cli.command, Some(Command::Explain { .. } | Command::Replay { .. } | Command::Simulate { .. }));
    let by_command = cli.sources.command.iter().any(|command| command.split_whitespace().next() == Some("dsr_if"));
    let bare = |word: &String| word.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
    about
        || by_command
        || cli.process.interface.is_some()
        || !cli.balance.vip.is_empty()
        || words.first().is_some_and(bare)
}
