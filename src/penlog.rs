//! The tools beside the proxy: `penlog`, `penlogd` and `mergelogs`, by which the logs of the web servers behind it name
//! their clients instead of the balancer. Options and words are those of Pen's tools of these names.
//!
//! ```text
//! web server's log -> penlog  --UDP--> penlogd -> one log, with the clients' addresses
//!                     balancer --UDP-->
//! web servers' logs, balancer's log -> mergelogs -> one log
//! ```
//!
//! - [`mod@line`]: what a line of a web server, or of the balancer, says. [`request`]: when two of them are about the same.
//! - [`book`]: the balancer's lines that wait for theirs. [`waiting`]: the web servers' that wait for one.
//! - [`sender`], [`collector`], [`merge`]: the three tools.

pub mod book;
pub mod collector;
pub mod line;
pub mod merge;
pub mod request;
pub mod sender;
pub mod waiting;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::failure::{Failure, Sysexit};

/// The names, as programs and as subcommands.
pub const NAMES: [&str; 3] = ["penlog", "penlogd", "mergelogs"];

/// A call of one of the tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    name: &'static str,
    /// The words behind its name.
    words: Vec<OsString>,
}

/// Is this a call of one of the tools: by its name (`penlogd 10000`), or by a subcommand that comes first (`pen-dsr penlogd
/// 10000`)? Their options are their own, so that the balancer's cannot stand in front.
pub fn called(words: &[OsString]) -> Option<Call> {
    let program = Path::new(words.first()?).file_name()?;
    let named = |word: &std::ffi::OsStr| NAMES.into_iter().find(|name| word == *name);
    if let Some(name) = named(program) {
        return Some(Call { name, words: words[1..].to_vec() });
    }
    let name = named(words.get(1)?)?;
    Some(Call { name, words: words[2..].to_vec() })
}

impl Call {
    /// Does what is asked, and says what goes wrong.
    pub fn run(&self) -> ExitCode {
        let result = match self.name {
            "penlog" => self.parsed().map(|args| sender::run(&args)),
            "penlogd" => self.parsed().map(|args| collector::run(&args)),
            _ => self.parsed().map(|args| merge::run(&args)),
        };
        match result {
            Ok(Ok(())) => ExitCode::SUCCESS,
            Ok(Err(failure)) => {
                eprintln!("{}: {failure}", self.name);
                failure.exit_code()
            }
            Err(e) => {
                let _ = e.print();
                let asked = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
                if asked { ExitCode::SUCCESS } else { ExitCode::from(Sysexit::Usage as u8) }
            }
        }
    }

    fn parsed<A: Parser>(&self) -> Result<A, clap::Error> {
        A::try_parse_from(std::iter::once(OsString::from(self.name)).chain(self.words.iter().cloned()))
    }
}

/// The failure of a call with one of the balancer's options in front of the tool's name.
pub fn comes_first(name: &str) -> Failure {
    Failure::usage(format!("{name} has options of its own: its name comes first, pen-dsr {name} ..."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_is_called_by_its_name_or_as_the_first_word() {
        let call = |line: &str| called(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let words = vec![OsString::from("-f"), OsString::from("10000")];
        let expected = Some(Call { name: "penlogd", words });
        assert_eq!(call("/usr/local/bin/penlogd -f 10000"), expected);
        assert_eq!(call("./pen-dsr penlogd -f 10000"), expected);
        assert_eq!(call("pen-dsr -d penlogd 10000"), None);
        assert_eq!(call("pen-dsr check"), None);
        assert_eq!(called(&[]), None);
    }

    #[test]
    fn the_command_lines_make_sense_to_clap() {
        use clap::CommandFactory;
        sender::Arguments::command().debug_assert();
        collector::Arguments::command().debug_assert();
        merge::Arguments::command().debug_assert();
    }
}
