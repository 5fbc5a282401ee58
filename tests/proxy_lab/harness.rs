//! Runs each test in a sandbox of its own (scripts/sandbox), in the network that network.sh makes there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

pub use crate::process::{Process, wait_until};
use crate::sandbox::{self, script, text};
use crate::scratch::Scratch;

/// The program that is tested.
pub const PEN_DSR: &str = env!("CARGO_BIN_EXE_pen-dsr");
/// Nothing in the lab takes this long, unless it does not work.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Where the proxy listens.
pub const PROXY4: &str = "10.1.0.254";
pub const PROXY6: &str = "fd01::fe";
/// The servers.
pub const S1: &str = "10.2.0.11";
pub const S2: &str = "10.2.0.12";

/// Runs `body` in the network. `needs` are the commands that it uses.
pub fn lab(name: &str, needs: &[&str], body: impl FnOnce(&Lab)) {
    if let Some(missing) = needs.iter().find(|command| !on_path(command)) {
        return skipped(name, &format!("{missing} is not installed"));
    }
    if !sandbox::is_inside() {
        return sandbox::enter(name).unwrap_or_else(|why| skipped(name, &why));
    }
    let made = Command::new("sh").args(["-c", include_str!("network.sh")]).output().expect("sh runs");
    assert!(made.status.success(), "network.sh: {}", text(&made));
    // A short name, as a Unix socket's path has 107 bytes at most.
    let scratch = Scratch::new("proxy-lab");
    let lab = Lab { directory: scratch.0.clone(), _scratch: scratch };
    body(&lab);
}

/// Says that the test `name` is left out, and why.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED proxy_lab::{name}: {why}");
}

fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(command).exists())
}

/// The network, and a directory for the test's files.
pub struct Lab {
    pub directory: PathBuf,
    _scratch: Scratch,
}

impl Lab {
    fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{host}")).args(words).stdin(Stdio::null()).current_dir(&self.directory);
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        command
    }

    /// Runs a command on `host` and returns what it printed; it has to succeed.
    pub fn run(&self, host: &str, words: &[&str]) -> String {
        let (status, output) = self.try_run(host, words);
        assert!(status.success(), "{host}: {words:?}: {status}\n{output}");
        output
    }

    /// Runs a command on `host`; its end and what it printed.
    pub fn try_run(&self, host: &str, words: &[&str]) -> (ExitStatus, String) {
        let output = self.command(host, words).output().expect("nsenter runs");
        (output.status, text(&output))
    }

    /// Starts a command on `host`; ended when the returned value is dropped. Its output goes to a log file.
    pub fn start(&self, host: &str, words: &[&str]) -> Process {
        let name = Path::new(words[0]).file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let log = (0..).map(|n| self.directory.join(format!("{host}-{name}-{n}.log"))).find(|path| !path.exists());
        let log = log.expect("a free name");
        let file = fs::File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let child = self.command(host, words).stdout(file).stderr(both).spawn().expect("nsenter runs");
        Process::new(child, log)
    }

    /// Runs `body` in the network of `host`, in a thread of its own.
    pub fn inside<T: Send + 'static>(
        &self,
        host: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = fs::File::open(Path::new("/run/netns").join(host)).expect("the host's namespace");
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("entering the host's network");
            body()
        })
    }

    /// Starts pen-dsr on `proxy` with `words` and a control socket, and waits until it serves.
    pub fn proxy(&self, words: &[&str]) -> Process {
        self.proxy_as("ctl", words)
    }

    /// The same; its control socket is the test's file `control`.
    pub fn proxy_as(&self, control: &str, words: &[&str]) -> Process {
        let path = self.path(control);
        let mut process = self.start("proxy", &[&[PEN_DSR, "-C", &path][..], words].concat());
        wait_until("the proxy", || {
            assert!(process.try_end().is_none(), "it does not start:\n{}", process.output());
            process.output().contains("commands are taken")
        });
        process
    }

    /// What the proxy whose control socket is the test's file `control` answers to `command`; it has to be content.
    pub fn ctl(&self, control: &str, command: &str) -> String {
        let output = Command::new(PEN_DSR)
            .args(["ctl", "-C", &self.path(control)])
            .args(command.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("pen-dsr runs");
        assert!(output.status.success(), "{command}: {}", text(&output));
        text(&output)
    }

    /// The path of a file of the test's, as text for a command line.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// Writes a file of the test's; its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.directory.join(name), content).expect("a file");
        self.path(name)
    }

    /// What is in a file of the test's so far.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.join(name)).unwrap_or_default()).into_owned()
    }

    /// Waits until something on `host` listens at `port` (`tcp` or `udp`).
    pub fn wait_listening(&self, host: &str, protocol: &str, port: u16) {
        let option = if protocol == "udp" { "-Hlnu" } else { "-Hlnt" };
        let found = format!(":{port} ");
        wait_until("a listening socket", || self.run(host, &["ss", option]).contains(&found));
    }

    /// `scripts/transparent WORD` on the proxy's host.
    pub fn transparent(&self, word: &str) {
        let command = script("transparent");
        let path = command.get_program().to_string_lossy().into_owned();
        self.run("proxy", &[&path, word]);
    }
}
