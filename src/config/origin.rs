//! Where a setting was written, so that what is wrong with it is reported there.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::failure::{Failure, Sysexit};

/// A file that was read, and where its lines begin.
#[derive(Debug)]
pub(crate) struct Source {
    name: String,
    text: String,
    lines: Vec<usize>,
}

impl Source {
    pub(crate) fn new(path: &Path, text: String) -> Arc<Source> {
        let starts = text.bytes().enumerate().filter(|&(_, b)| b == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        Arc::new(Source { name: path.display().to_string(), text, lines })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The place of a span of bytes in it.
    pub(crate) fn place(self: &Arc<Source>, span: Range<usize>) -> Place {
        Place::File { source: Arc::clone(self), at: span.start.min(self.text.len()) }
    }
}

/// Where something was written.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// At a byte of a file.
    File { source: Arc<Source>, at: usize },
    /// In a command: where that stands (a file and a line, or `-O`), and its text.
    Command { at: String, text: String, code: Sysexit },
}

/// Longest piece of a file or command that is repeated in a message, in characters.
const SHOWN: usize = 100;

impl fmt::Display for Place {
    /// `FILE:LINE:COLUMN: what is written there`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { source, at } => {
                let line = source.lines.partition_point(|start| start <= at) - 1;
                let start = source.lines.get(line).copied().unwrap_or(0);
                let column = source.text.get(start..*at).map_or(1, |before| before.chars().count() + 1);
                let text = source.text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
                write!(f, "{}:{}:{column}: `{}`", source.name, line + 1, shortened(text))
            }
            Place::Command { at, text, .. } => write!(f, "{at}: `{}`", shortened(text)),
        }
    }
}

/// One line of what somebody wrote, fit for a message: not too long, nothing that would move a cursor.
fn shortened(text: &str) -> String {
    let text = text.trim();
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().take(SHOWN).map(clean).collect();
    if text.chars().nth(SHOWN).is_some() {
        short.push_str("...");
    }
    short
}

impl Place {
    /// `failure`, said to be here. What is wrong in a file is not the command line's fault.
    pub(crate) fn blame(&self, failure: Failure) -> Failure {
        let code = match (failure.code, self) {
            (Sysexit::Usage, Place::File { .. }) => Sysexit::Config,
            (Sysexit::Usage, Place::Command { code, .. }) => *code,
            (code, _) => code,
        };
        Failure::new(code, format!("{self}: {}", failure.message))
    }
}

/// Where each setting was written. Settings that are not known here came from words and options.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    places: HashMap<String, Place>,
}

impl Origins {
    /// `setting` (`backend be1 weight`) was written there.
    pub(crate) fn note(&mut self, setting: impl Into<String>, place: Place) {
        self.places.insert(setting.into(), place);
    }

    /// `setting` has been given anew by a word or an option.
    pub(crate) fn forget(&mut self, setting: &str) {
        self.places.remove(setting);
    }

    /// `problem` as a failure, at the place where its setting was written, or the whole that it belongs to.
    pub(crate) fn blame(&self, problem: Problem) -> Failure {
        let failure = Failure::new(problem.code, problem.message);
        let mut setting = problem.setting.as_str();
        loop {
            if let Some(place) = self.places.get(setting) {
                return place.blame(failure);
            }
            match setting.rfind(' ') {
                Some(end) => setting = &setting[..end],
                None => return failure,
            }
        }
    }
}

/// What is wrong with a setting.
#[derive(Debug)]
pub(crate) struct Problem {
    /// Which: `backend be1 weight`, `health timeout`, `vip 10.0.0.100:80`.
    pub(crate) setting: String,
    pub(crate) code: Sysexit,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(setting: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { setting: setting.into(), code: Sysexit::Usage, message: message.into() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        Failure::new(problem.code, problem.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_line_and_a_column_counted_in_characters() {
        let source = Source::new(Path::new("x.toml"), "a = 1\n# é\n  é = 'b' # c\n".to_owned());
        assert_eq!(source.place(0..1).to_string(), "x.toml:1:1: `a = 1`");
        let at = source.text().find("'b'").unwrap();
        assert_eq!(source.place(at..at + 3).to_string(), "x.toml:3:7: `é = 'b' # c`");
        let end = source.text().len();
        assert_eq!(source.place(end..end).to_string(), "x.toml:4:1: ``");
        assert_eq!(source.place(end + 9..end + 9).to_string(), "x.toml:4:1: ``");
    }

    #[test]
    fn a_problem_is_reported_where_its_setting_or_what_that_belongs_to_was_written() {
        let source = Source::new(Path::new("x.toml"), "one\ntwo\n".to_owned());
        let mut origins = Origins::default();
        origins.note("backend be1", source.place(0..3));
        origins.note("backend be1 weight", source.place(4..7));
        let said = |setting: &str, origins: &Origins| origins.blame(Problem::new(setting, "no")).message;
        assert_eq!(said("backend be1 weight", &origins), "x.toml:2:1: `two`: no");
        assert_eq!(said("backend be1 mac", &origins), "x.toml:1:1: `one`: no");
        assert_eq!(said("backend be2 mac", &origins), "no");
        origins.forget("backend be1 weight");
        assert_eq!(origins.blame(Problem::new("backend be1 weight", "no")).code, Sysexit::Config);
        assert_eq!(origins.blame(Problem::new("backend be2", "no")).code, Sysexit::Usage);
    }

    #[test]
    fn what_is_repeated_of_a_file_is_short_and_harmless() {
        let source = Source::new(Path::new("x"), format!("\x1b[2J{}", "y".repeat(500)));
        let shown = source.place(0..1).to_string();
        assert!(shown.len() < 150 && !shown.contains('\x1b') && shown.ends_with("...`"), "{shown}");
    }
}
