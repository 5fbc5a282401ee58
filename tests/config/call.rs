//! Calls of the binary, and of the library as the binary calls it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use clap::Parser;
use pen_dsr::config::cli::Cli;
use pen_dsr::config::{self, Config, Loaded, Lookup};
use pen_dsr::failure::Failure;
use tempfile::TempDir;

/// A folder of files for one test.
pub struct Folder(TempDir);

impl Folder {
    /// An empty one.
    pub fn new() -> Folder {
        Folder(TempDir::new().expect("a temporary folder"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A file in it.
    pub fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("it can be written");
        path
    }

    /// `pen-dsr WORDS`, in this folder.
    pub fn pen_dsr(&self, words: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pen-dsr"));
        Answer::of(command.args(words).current_dir(self.path()).output().expect("it starts"))
    }
}

/// What a call came to.
pub struct Answer {
    /// The exit code.
    pub code: Option<i32>,
    /// On standard output.
    pub said: String,
    /// On standard error.
    pub complained: String,
}

impl Answer {
    fn of(output: Output) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Answer { code: output.status.code(), said: text(&output.stdout), complained: text(&output.stderr) }
    }
}

/// The configuration that the words are, with its warnings. Names are not looked up.
pub fn loaded(words: &[&str]) -> Result<Loaded, Failure> {
    let cli = Cli::try_parse_from([&["pen-dsr"], words].concat()).expect("clap takes it");
    config::load_with_remarks(&cli, Lookup::Nothing)
}

/// The configuration that the words are. Names are not looked up.
pub fn load(words: &[&str]) -> Config {
    loaded(words).unwrap_or_else(|failure| panic!("{words:?}: {failure}")).config
}

/// The configuration that a file of this text is.
pub fn load_text(text: &str) -> Result<Config, Failure> {
    let folder = Folder::new();
    let path = folder.file("x.toml", text);
    loaded(&["-c", path.to_str().expect("a path of UTF-8")]).map(|loaded| loaded.config)
}
