//! The two ends of the serial line, `exchange` on the host and `guest/agent`, here with named pipes between them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::{path, shell_script, shells};

/// An agent with its line; ended when dropped.
pub struct Guest {
    agent: Child,
    folder: PathBuf,
    name: String,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

impl Guest {
    /// Starts an agent by `shell`, on the pipes `name.down` (to it) and `name.up` in `folder`.
    pub fn start(shell: &str, folder: PathBuf, name: &str, environment: &[(&str, &str)]) -> Self {
        let pipes = [format!("{name}.down"), format!("{name}.up")].map(|pipe| folder.join(pipe));
        for pipe in &pipes {
            let made = Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs");
            assert!(made.success());
        }
        let agent = Command::new(shell)
            .arg(path("bhyve/guest/agent"))
            .args(&pipes)
            // Killed in the end, it does not remove its own.
            .env("TMPDIR", &folder)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .spawn()
            .expect("a shell");
        let guest = Self { agent, folder, name: name.to_owned() };
        guest.await_open();
        guest
    }

    /// Waits until the agent has the pipe to it open: what comes from then on is not lost.
    fn await_open(&self) {
        let (down, began) = (self.pipe("down"), Instant::now());
        // Without a reader it cannot be opened so (fifo(7)).
        while fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(&down).is_err() {
            assert!(began.elapsed() < Duration::from_secs(45), "the agent does not open {down}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn pipe(&self, end: &str) -> String {
        self.folder.join(format!("{}.{end}", self.name)).display().to_string()
    }

    /// One request under `id`.
    fn exchange(&self, id: &str, seconds: u32, command: &str) -> Output {
        let words = [&self.pipe("up"), &self.pipe("down"), id, &seconds.to_string(), command];
        let exchange = shell_script("/bin/sh", "exchange", &words);
        let mut timed = Command::new("timeout");
        timed.arg("60").arg(exchange.get_program()).args(exchange.get_args()).output().expect("timeout runs")
    }

    /// Raw bytes towards the agent.
    fn disturb(&self, bytes: &[u8]) {
        let mut pipe = fs::OpenOptions::new().read(true).write(true).open(self.pipe("down")).expect("the pipe");
        pipe.write_all(bytes).expect("the pipe takes them");
    }
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_command_is_run_and_its_output_and_exit_code_return() {
    for shell in shells() {
        let folder = folder();
        let guest = Guest::start(shell, folder.path().into(), "be1", &[]);
        let answer =
            guest.exchange("1", 10, "echo \"one  two\"; printf '| %s\\n' '\\a $HOME' ; echo wrong >&2; exit 7");
        assert_eq!(String::from_utf8_lossy(&answer.stdout), "one  two\n| \\a $HOME\nwrong\n", "{shell}");
        assert_eq!(answer.status.code(), Some(7), "{shell}");
        let answer = guest.exchange("2", 10, "printf 'no end'");
        assert_eq!((answer.stdout, answer.status.code()), (b"no end\n".to_vec(), Some(0)), "{shell}");
        let answer = guest.exchange("3", 10, "true");
        assert_eq!((answer.stdout, answer.status.code()), (vec![], Some(0)), "{shell}");
        let answer = guest.exchange("4", 1, "sleep 5");
        assert_eq!(answer.status.code(), Some(124), "{shell}: it took too long");
        let answer = guest.exchange("5", 10, "awk 'BEGIN { for (i = 1; i <= 600; i++) print i }'");
        assert_eq!(answer.stdout.iter().filter(|byte| **byte == b'\n').count(), 500, "{shell}: no more than that");
        // What runs on behind a command does not hold its answer up.
        let answer = guest.exchange("6", 10, "nohup sleep 60 >/dev/null 2>&1 </dev/null & echo $!");
        assert!(answer.status.success(), "{shell}");
        let left = String::from_utf8_lossy(&answer.stdout).trim().to_owned();
        assert!(guest.exchange("7", 10, &format!("kill {left}")).status.success(), "{shell}: it was alive");
    }
}

#[test]
fn a_request_that_is_repeated_is_answered_again_and_not_run_again() {
    let folder = folder();
    let guest = Guest::start("/bin/sh", folder.path().into(), "be1", &[]);
    let count = folder.path().join("count");
    let command = format!("echo x >>{0}; wc -l <{0} | tr -d ' '", count.display());
    assert_eq!(guest.exchange("7", 10, &command).stdout, b"1\n");
    assert_eq!(guest.exchange("7", 10, &command).stdout, b"1\n", "the same request");
    assert_eq!(guest.exchange("8", 10, &command).stdout, b"2\n", "another one");
}

#[test]
fn what_comes_damaged_is_noticed_at_both_ends() {
    let folder = folder();
    let guest = Guest::start("/bin/sh", folder.path().into(), "be1", &[]);
    let proof = folder.path().join("proof");
    // A request whose sum is not its command's is not carried out, nor is noise; the line is usable after it.
    guest.disturb(format!("run 1 10 12345 touch {}\nlogin: \nrun", proof.display()).as_bytes());
    assert_eq!(guest.exchange("2", 10, "echo alive").status.code(), Some(75), "the answer to the noise comes first");
    let answers = (3..6).map(|id| guest.exchange(&id.to_string(), 10, "echo alive"));
    let good = answers.into_iter().find(|answer| answer.status.success()).expect("an answer in the end");
    assert_eq!(good.stdout, b"alive\n");
    assert!(!proof.exists());
    drop(guest);

    // An answer with a line changed on its way: by an agent that is made up.
    let pipes = ["up", "down"].map(|end| folder.path().join(format!("be2.{end}")));
    for pipe in &pipes {
        assert!(Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs").success());
    }
    // cksum(1) of "good\n" is 284454096.
    for (line, code) in [("good", Some(0)), ("gOod", Some(75))] {
        let script = format!(
            "exec 3<>{} 4<>{}; read -r _ <&3; read -r _ <&3; echo 'begin 1
| {line}
end 1 0 284454096' >&4; sleep 1",
            pipes[1].display(),
            pipes[0].display()
        );
        let mut liar = Command::new("/bin/sh").args(["-c", &script]).spawn().expect("a shell");
        let words = [pipes[0].display().to_string(), pipes[1].display().to_string()];
        let answer = shell_script("/bin/sh", "exchange", &[&words[0], &words[1], "1", "5", "true"]).output();
        assert_eq!(answer.expect("a shell").status.code(), code, "{line}");
        liar.wait().expect("it ends");
    }
}
