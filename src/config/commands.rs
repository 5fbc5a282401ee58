//! Commands that are carried out while the configuration is read: in files (`-F`, `include`) and of `-O`.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::origin::{Origins, Place};
use super::{Config, Edit};
use crate::control::command::{Act, Command, without_proxy};
use crate::failure::{Failure, Sysexit};

/// Files that may include each other, one in the other.
const DEPTH: usize = 8;
/// The largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// What has to be told of commands, besides the configuration that they made.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// What was accepted and has no effect, and why.
    pub(crate) remarks: Vec<String>,
    /// Which command a setting is from.
    pub(crate) origins: Origins,
    /// Commands that were carried out.
    pub(crate) count: usize,
}

/// Carries out the commands in the file `path`, one a line; `#` begins a comment.
///
/// # Errors
/// The file cannot be read, or a command in it is wrong: which, and where it stands.
pub(crate) fn carry_out_file(path: &Path, config: &mut Config, notes: &mut Notes) -> Result<(), Failure> {
    nested(path, 1, config, notes)
}

/// Carries out `-O text`.
///
/// # Errors
/// The command is wrong.
pub(crate) fn carry_out(text: &str, config: &mut Config, notes: &mut Notes) -> Result<(), Failure> {
    let place = Place::Command { at: "-O".to_owned(), text: text.to_owned(), code: Sysexit::Usage };
    one(text, &place, None, 0, config, notes)
}

fn nested(path: &Path, depth: usize, config: &mut Config, notes: &mut Notes) -> Result<(), Failure> {
    let text = read("command file", path)?;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = format!("{}:{}", path.display(), number + 1);
        let place = Place::Command { at, text: line.to_owned(), code: Sysexit::Config };
        one(line, &place, path.parent(), depth, config, notes)?;
    }
    Ok(())
}

fn one(
    text: &str,
    place: &Place,
    folder: Option<&Path>,
    depth: usize,
    config: &mut Config,
    notes: &mut Notes,
) -> Result<(), Failure> {
    let refused = |what: &str| Err(place.blame(Failure::usage(what)));
    let edit = match Command::parse(text).map_err(|failure| place.blame(failure))? {
        Command::Configure(edit) => edit,
        Command::Act(Act::Standby) => Edit::Standby,
        Command::NoEffect { reason, .. } => {
            notes.remarks.push(format!("{place}: that has no effect: {reason}"));
            notes.count += 1;
            return Ok(());
        }
        Command::Act(_) => {
            return refused("that is for a pen-dsr that runs, not for its configuration: say it with pen-dsr ctl");
        }
        Command::Query(_) => {
            return refused(
                "that asks and configures nothing: leave it out, or ask a pen-dsr that runs with pen-dsr ctl",
            );
        }
    };
    if let Edit::Include(path) = &edit {
        if depth >= DEPTH {
            return refused(&format!("files include each other {DEPTH} deep at most; does one include itself?"));
        }
        // Beside the file that includes it, wherever the program was started.
        let path: PathBuf = folder.map_or_else(|| path.clone(), |folder| folder.join(path));
        return nested(&path, depth + 1, config, notes);
    }
    if let Edit::Proxy(of_proxy) = &edit
        && config.proxy.is_empty()
    {
        notes.remarks.push(format!("{place}: that has no effect: {}", without_proxy(of_proxy.word())));
        notes.count += 1;
        return Ok(());
    }
    edit.apply(config).map_err(|failure| place.blame(failure))?;
    notes.origins.note(edit.setting(config), place.clone());
    notes.count += 1;
    Ok(())
}

/// The text of a file that the configuration consists of.
///
/// # Errors
/// It cannot be read, is too large, or is no text.
pub(crate) fn read(what: &str, path: &Path) -> Result<String, Failure> {
    let failed = |code, why: String| Failure::new(code, format!("{what} {}: {why}", path.display()));
    let file = std::fs::File::open(path)
        .map_err(|e| failed(Sysexit::NoInput, format!("{e}; name a file that exists and may be read")))?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|e| failed(Sysexit::NoInput, e.to_string()))?;
    if bytes.len() as u64 > LARGEST {
        return Err(failed(Sysexit::Config, format!("larger than {} MiB; is it the right file?", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map_err(|e| {
        let line = e.as_bytes().iter().take(e.utf8_error().valid_up_to()).filter(|&&b| b == b'\n').count() + 1;
        failed(Sysexit::Config, format!("line {line} is no UTF-8 text; is it the right file?"))
    })
}
