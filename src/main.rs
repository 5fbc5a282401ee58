//! Arguments, configuration, run; and what is said when that fails.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use pen_dsr::config::cli::{Cli, Command};
use pen_dsr::config::{self, Lookup};
use pen_dsr::failure::{Failure, Sysexit};
use pen_dsr::{explain, logging, os, replay, run};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
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

fn perform(cli: &Cli) -> Result<(), Failure> {
    match &cli.command {
        None => {
            let balance = config::balance(&cli.balance, &cli.process, &cli.words, Lookup::Names)?;
            logging::start(&cli.process)?;
            run::run(balance, &cli.process)
        }
        Some(Command::Explain { words }) => {
            os::end_on_broken_pipe();
            let (clients, configuration) = split(words, &cli.words);
            let balance = config::balance(&cli.balance, &cli.process, configuration, Lookup::Nothing)?;
            let tables = balance.all_up();
            for client in clients {
                println!("{}", explain::explain(&balance, &tables, config::parse_client(client)?)?);
            }
            Ok(())
        }
        Some(Command::Replay { words, write }) => {
            os::end_on_broken_pipe();
            let (captures, configuration) = split(words, &cli.words);
            let balance = config::balance(&cli.balance, &cli.process, configuration, Lookup::Nothing)?;
            let mut out = std::io::stdout().lock();
            captures.iter().try_for_each(|capture| {
                replay::replay(balance.clone(), cli.process.vip_mac, Path::new(capture), write.as_deref(), &mut out)
            })
        }
    }
}

/// What a subcommand works on, and the configuration: in front of the subcommand, or behind its first word.
fn split<'a>(words: &'a [String], in_front: &'a [String]) -> (&'a [String], &'a [String]) {
    if in_front.is_empty() { words.split_at(words.len().min(1)) } else { (words, in_front) }
}
