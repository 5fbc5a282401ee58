//! A lab: hosts that are network namespaces in a sandbox of a test's own, what runs on them, and a folder for the test's
//! files. What a test program has besides on its hosts is in its harness.

#![allow(dead_code)] // Each test crate uses a part.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::harness::skipped;
use crate::process::{Process, wait_until};
use crate::sandbox::{self, text};
use crate::scratch::Scratch;

/// The program that is tested.
pub const PEN_DSR: &str = env!("CARGO_BIN_EXE_pen-dsr");

/// Runs `body`, the test `name`, in a sandbox, with the hosts that `network` has made there. `needs` are the commands that
/// it uses. Says SKIPPED and why where one of them, or a sandbox, cannot be had, or if `missing` says so outside of it.
pub fn in_sandbox(
    name: &str,
    needs: &[&str],
    missing: impl FnOnce() -> Option<String>,
    network: &mut Command,
    body: impl FnOnce(&Lab),
) {
    if let Some(missing) = ["nsenter"].iter().chain(needs).find(|command| !on_path(command)) {
        return skipped(name, &format!("{missing} is not installed"));
    }
    if !sandbox::is_inside() {
        let left_out = missing().map_or_else(|| sandbox::enter(name), Err);
        return left_out.unwrap_or_else(|why| skipped(name, &why));
    }
    let made = network.output().expect("a shell runs");
    assert!(made.status.success(), "{network:?}: {}", text(&made));
    // A short name, as a Unix socket's path has 107 bytes at most. Process numbers are alike in all sandboxes.
    let scratch = Scratch::new("pen-dsr-lab");
    body(&Lab { directory: scratch.0.clone(), _scratch: scratch });
}

fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(command).exists())
}

/// Says that test `name` is left out, if the sandbox is a user namespace with one user only: there, programs that
/// change to another user cannot run.
pub fn skipped_for_want_of_users(name: &str) -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let users: u64 = map.split_whitespace().nth(2).and_then(|n| n.parse().ok()).unwrap_or(0);
    if users < 65535 {
        skipped(name, "this user namespace has one user only");
    }
    users < 65535
}

/// The hosts, and a directory for the test's files.
pub struct Lab {
    pub directory: PathBuf,
    _scratch: Scratch,
}

impl Lab {
    /// A command on `host`, not yet started. It is nsenter that becomes it: it has the number of the process that is started.
    pub fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{host}")).args(words).stdin(Stdio::null()).current_dir(&self.directory);
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

    /// What the pen-dsr whose control socket is the test's file `socket` answers to `command`; it has to be content.
    pub fn ctl(&self, socket: &str, command: &str) -> String {
        let (status, answer) = self.try_ctl(socket, command);
        assert!(status.success(), "{command}: {status}\n{answer}");
        answer
    }

    /// The same; its end and what it printed.
    pub fn try_ctl(&self, socket: &str, command: &str) -> (ExitStatus, String) {
        let output = Command::new(PEN_DSR)
            .args(["ctl", "-C", &self.path(socket)])
            .args(command.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("pen-dsr runs");
        (output.status, text(&output))
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
        let wanted = format!(":{port:04X} ");
        let file = format!("/proc/net/{protocol}");
        wait_until(&format!("{host} listening on {protocol} {port}"), || {
            let sockets = self.run(host, &["cat", &file, &format!("{file}6")]);
            // The second column is the local address; a listening TCP socket has state 0A, an open UDP socket 07.
            sockets.lines().any(|line| {
                let columns: Vec<&str> = line.split_whitespace().collect();
                columns.get(1).is_some_and(|local| format!("{local} ").ends_with(&wanted))
                    && columns.get(3).is_some_and(|state| *state == "0A" || *state == "07")
            })
        });
    }

    /// Starts nginx on `host`, with `big` as the file /big. Its log has a line for each request, as `log` says
    /// (`log_format`). `http` and `server` are more lines for those blocks; one of them has to make it listen at port 80.
    pub fn start_nginx(&self, host: &str, big: &[u8], log: &str, http: &str, server: &str) -> Process {
        let root = self.directory.join(host);
        fs::create_dir_all(&root).expect("a root directory");
        fs::write(root.join("big"), big).expect("a big file");
        let (root, access) = (root.display(), self.path(&format!("{host}.access")));
        let config = format!(
            "user root; daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log info;
             events {{ worker_connections 1024; }}
             http {{
               log_format short '{log}'; access_log {access} short;
               client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
               uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5; {http}
               server {{ root {root}; location = / {{ return 200 '{host}'; }} {server} }}
             }}"
        );
        let path = self.file(&format!("{host}.conf"), config);
        let process = self.start(host, &["nginx", "-c", &path]);
        self.wait_listening(host, "tcp", 80);
        process
    }

    /// The log of nginx on `host` so far, a line for each request.
    pub fn access(&self, host: &str) -> String {
        self.read(&format!("{host}.access"))
    }

    /// Starts a name server on `host`, which says that who.test is at 192.0.2. and the number in the host's name.
    pub fn dnsmasq(&self, host: &str) -> Process {
        let number = host.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let record = format!("--host-record=who.test,192.0.2.{number}");
        let words = [
            "dnsmasq",
            "--no-daemon",
            "-C",
            "/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
            "--user=root",
            "--log-queries",
            "--log-facility=-",
            &record,
        ];
        let process = self.start(host, &words);
        self.wait_listening(host, "udp", 53);
        process
    }
}
