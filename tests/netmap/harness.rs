//! The machine that a test has for itself, and the programs that it runs there.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

pub use crate::process::{Process, wait_until};
use crate::scratch::Scratch;
use crate::{roles, system};

/// The program that is tested.
pub const PEN_DSR: &str = env!("CARGO_BIN_EXE_pen-dsr");
/// Nothing here takes this long, unless it does not work. The machine may be an emulated one.
pub const PATIENCE: Duration = Duration::from_secs(45);

static TURN: Mutex<()> = Mutex::new(());

/// Says that the test `name` is left out, and why.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED netmap::{name}: {why}");
}

/// Runs `body`, the test `name`, if the machine has netmap.
pub fn machine(name: &'static str, body: impl FnOnce(&Machine)) {
    roles::play_if_asked();
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(e) = OpenOptions::new().read(true).write(true).open("/dev/netmap") {
        let why = match e.kind() {
            ErrorKind::NotFound => "no /dev/netmap".to_owned(),
            _ => format!("/dev/netmap: {e}"),
        };
        return skipped(name, &why);
    }
    if !geteuid().is_root() {
        return skipped(name, "it takes root to make networks and to become other users");
    }
    let scratch = Scratch::new("pen-dsr-netmap");
    body(&Machine { name, directory: scratch.0.clone(), _scratch: scratch });
}

/// The machine, with a directory for the test's files.
pub struct Machine {
    pub name: &'static str,
    pub directory: PathBuf,
    _scratch: Scratch,
}

impl Machine {
    /// A word that no other test uses in the name of a port: at most nine bytes.
    pub fn word(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        format!("p{}{}", std::process::id() % 1_000_000, char::from(b'a' + (number % 26) as u8))
    }

    /// The path of a file of the test's, as text for a command line.
    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// Starts `command`, whose output goes to a log file of this name; ended when the returned value is dropped.
    pub fn start(&self, name: &str, mut command: Command) -> Process {
        let log = (0..).map(|n| self.directory.join(format!("{name}-{n}.log"))).find(|path| !path.exists());
        let log = log.expect("a free name");
        let file = File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
        Process::new(child.unwrap_or_else(|e| panic!("{command:?}: {e}")), log)
    }

    /// Starts pen-dsr with this command line, which takes commands at [`Machine::ask`]; it works when this returns.
    pub fn balancer(&self, line: &str) -> Process {
        self.balancer_by(Command::new(PEN_DSR), line)
    }

    /// The same by `command`, which has its own way to call pen-dsr.
    pub fn balancer_by(&self, mut command: Command, line: &str) -> Process {
        // A small flow table, which is quickly looked through where the machine is an emulated one.
        command.args(["-C", &self.path("control"), "--flow-entries", "16384"]).args(line.split_whitespace());
        let process = self.start("pen-dsr", command);
        wait_until("pen-dsr", || {
            assert!(!process.has_ended(), "pen-dsr {line}:\n{}", process.output());
            process.output().contains("commands are taken")
        });
        assert!(process.output().contains(": by netmap, "), "{}", process.output());
        process
    }

    /// What the balancer answers to `command`.
    pub fn ask(&self, command: &str) -> serde_json::Value {
        let mut ctl = Command::new(PEN_DSR);
        ctl.args(["ctl", "--json", "-C", &self.path("control")]).args(command.split_whitespace());
        let output = ctl.stdin(Stdio::null()).output().expect("pen-dsr runs");
        assert!(output.status.success(), "ctl {command}: {}", text(&output));
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("ctl {command}: {e}: {}", text(&output)))
    }

    /// A number of its statistics, such as `transmitted.frames`.
    pub fn count(&self, name: &str) -> u64 {
        let status = self.ask("status");
        let found = name.split('.').fold(&status["counters"], |at, word| &at[word]);
        found.as_u64().unwrap_or_else(|| panic!("no {name} in {status}"))
    }

    /// What it says of the backend `name`: `state`, `mac`.
    pub fn server(&self, name: &str, field: &str) -> String {
        let servers = self.ask("servers");
        let found = servers.as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
        found.and_then(|one| one[field].as_str()).unwrap_or_default().to_owned()
    }
}

impl Process {
    fn has_ended(&self) -> bool {
        // Not by waiting, which would need it for itself alone.
        matches!(kill(self.id(), None), Err(Errno::ESRCH)) || system::is_zombie(self.pid())
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.pid())
    }

    /// Sends a signal and waits for its end, and for that of the processes that it has started.
    pub fn end_by(&mut self, signal: Signal) -> ExitStatus {
        let children = system::children(self.pid());
        self.signal(signal);
        let status = self.end();
        for child in children {
            wait_until("the end of the keeper of the interface", || {
                matches!(kill(Pid::from_raw(child), None), Err(Errno::ESRCH)) || system::is_zombie(child)
            });
        }
        status
    }
}

/// Runs `command`; what it printed. It has to succeed.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}\n{}", output.status, text(&output));
    text(&output)
}

/// What a program printed.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
