//! Runs each test in a sandbox of its own (scripts/sandbox), on the segment that scripts/lab makes there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crate::driver;
pub use crate::process::{Process, wait_until};
use crate::sandbox::{self, script, text};
use crate::scratch::Scratch;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;

/// The program that is tested.
pub const PEN_DSR: &str = env!("CARGO_BIN_EXE_pen-dsr");
/// The virtual addresses of the lab.
pub const VIP4: &str = "10.0.0.100";
pub const VIP6: &str = "fd00::100";
/// The client's addresses end in these.
pub const CLIENTS: [u8; 8] = [1, 3, 4, 5, 6, 7, 8, 9];
/// The three backends of most tests.
pub const BACKENDS: [&str; 3] = ["10.0.0.11", "10.0.0.12", "10.0.0.13"];

/// Nothing in the lab takes this long, unless it does not work.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `body` on a segment made with `options` (see scripts/lab). `needs` are the commands that it uses.
pub fn lab(name: &str, options: &[&str], needs: &[&str], body: impl FnOnce(&Lab)) {
    if let Some(missing) = needs.iter().find(|command| !on_path(command)) {
        return skipped(name, &format!("{missing} is not installed"));
    }
    if !sandbox::is_inside() {
        let left_out = driver::missing().map_or_else(|| sandbox::enter(name), |why| Err(why.to_owned()));
        return left_out.unwrap_or_else(|why| skipped(name, &why));
    }
    let up = script("lab").arg("up").args(options).output().expect("scripts/lab runs");
    assert!(up.status.success(), "scripts/lab up: {}", text(&up));
    // A short name, as a Unix socket's path has 107 bytes at most. Process numbers are alike in all sandboxes.
    let scratch = Scratch::new("pen-dsr-lab");
    let lab = Lab { directory: scratch.0.clone(), _scratch: scratch };
    body(&lab);
}

/// Says that the test `name` is left out, and why.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED {}: {why}", driver::with(name));
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

fn on_path(command: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).any(|dir| dir.join(command).exists())
}

/// The words that start pen-dsr on eth0 by the driver that is tested.
pub fn pen_dsr() -> Vec<&'static str> {
    [&[PEN_DSR, "-i", "eth0"][..], &driver::words()].concat()
}

/// The segment, and a directory for the test's files.
pub struct Lab {
    pub directory: PathBuf,
    _scratch: Scratch,
}

impl Lab {
    fn command(&self, host: &str, words: &[&str]) -> Command {
        let mut command = script("lab");
        command.arg("exec").arg(host).args(words).stdin(Stdio::null());
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
        let output = self.command(host, words).output().expect("scripts/lab runs");
        (output.status, text(&output))
    }

    /// Starts a command on `host`; ended when the returned value is dropped. Its output goes to a log file.
    pub fn start(&self, host: &str, words: &[&str]) -> Process {
        let name = Path::new(words[0]).file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        let log = (0..).map(|n| self.directory.join(format!("{host}-{name}-{n}.log"))).find(|path| !path.exists());
        let log = log.expect("a free name");
        let file = fs::File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let child = self.command(host, words).stdout(file).stderr(both).spawn().expect("scripts/lab runs");
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

    /// Starts pen-dsr on `lb` and waits until the log says so often "is up".
    pub fn balancer(&self, arguments: &[&str], backends_up: usize) -> Process {
        self.balancer_on("lb", arguments, backends_up)
    }

    /// The same on another `host`.
    pub fn balancer_on(&self, host: &str, arguments: &[&str], backends_up: usize) -> Process {
        let mut words = pen_dsr();
        if !arguments.contains(&"--flow-entries") {
            // To make and to look through a million takes its time in a program that is not optimized.
            words.extend(["--flow-entries", "65536"]);
        }
        words.extend(arguments);
        let process = self.start(host, &words);
        process.wait_for("the balancer", |log| log.contains("flow table:"));
        process.wait_for("the balancer's backends", |log| log.matches("is up").count() >= backends_up);
        // The VIPs are announced a moment after the start.
        thread::sleep(Duration::from_millis(300));
        process
    }

    /// The path of a file of the test's, as text for a command line.
    pub fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    /// What the balancer whose control socket is the test's file `socket` answers to `command`; it has to be content.
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

    /// What the command `servers` says of `backend`: the word behind `field`, such as `state`. `-`: it is not listed.
    pub fn server(&self, socket: &str, backend: &str, field: &str) -> String {
        let servers = self.ctl(socket, "servers");
        let line = servers.lines().find(|line| line.split_whitespace().nth(1) == Some(backend)).unwrap_or_default();
        let word = line.split_whitespace().skip_while(|word| *word != field).nth(1);
        word.unwrap_or("-").to_owned()
    }

    /// Starts nginx on `host`: / says the host's name, /big is a file of `big` bytes. The access log has one line per
    /// request: the client's address and the path.
    pub fn nginx(&self, host: &str, big: &[u8]) -> Process {
        let root = self.directory.join(host);
        fs::create_dir_all(&root).expect("a root directory");
        fs::write(root.join("big"), big).expect("a big file");
        let root = root.display();
        let config = format!(
            "user root; daemon off; worker_processes 1; pid {root}/pid; error_log {root}/error.log;
             events {{ worker_connections 512; }}
             http {{
               log_format short '$remote_addr $request_uri'; access_log {root}/access short;
               client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
               uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
               server {{ listen 80; listen [::]:80; root {root}; location = / {{ return 200 '{host}'; }} }}
             }}"
        );
        let path = self.directory.join(format!("{host}.conf"));
        fs::write(&path, config).expect("a configuration");
        let process = self.start(host, &["nginx", "-c", &path.display().to_string()]);
        self.wait_listening(host, "tcp", 80);
        process
    }

    /// Starts a name server on `host`, a backend, which says that who.test is at 192.0.2. and the backend's number.
    pub fn dnsmasq(&self, host: &str) -> Process {
        let record = format!("--host-record=who.test,192.0.2.{}", &host[2..]);
        let words = [
            "dnsmasq",
            "--no-daemon",
            "-C",
            "/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
            "--user=root",
            &record,
        ];
        let process = self.start(host, &words);
        self.wait_listening(host, "udp", 53);
        process
    }

    /// The lines of the access log of nginx on `host`.
    pub fn access(&self, host: &str) -> Vec<String> {
        let log = fs::read_to_string(self.directory.join(host).join("access")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Waits until something on `host` listens on `port`.
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

    /// Who answers an HTTP request from `source` to `url`; what curl says when nobody does.
    pub fn curl(&self, source: &str, url: &str) -> Result<String, String> {
        let words = ["curl", "-sS", "-g", "-m", "5", "--interface", source, url];
        let (status, output) = self.try_run("client", &words);
        if status.success() { Ok(output.trim().to_owned()) } else { Err(output) }
    }

    /// A counter of `host`'s eth0, such as rx_bytes.
    pub fn counter(&self, host: &str, name: &str) -> u64 {
        // Not from /sys, which shows the namespace that mounted it.
        let table = self.run(host, &["cat", "/proc/net/dev"]);
        let line = table.lines().find_map(|line| line.trim().strip_prefix("eth0:")).expect("eth0");
        let column = match name {
            "rx_bytes" => 0,
            "rx_packets" => 1,
            "tx_bytes" => 8,
            "tx_packets" => 9,
            other => panic!("no counter {other}"),
        };
        line.split_whitespace().nth(column).and_then(|n| n.parse().ok()).expect("a number")
    }
}

impl Process {
    /// The balancer's statistics, as it prints them on USR1.
    pub fn statistics(&self) -> String {
        let before = self.output().len();
        self.signal(Signal::SIGUSR1);
        self.wait_for("statistics", |log| {
            let new = log.get(before..).unwrap_or_default();
            new.contains("lost by the port") && new.matches("of the slots").count() > 0 && new.ends_with('\n')
        });
        thread::sleep(Duration::from_millis(50));
        self.output().split_off(before)
    }
}

/// The number that stands in `text` right behind `label`.
pub fn number_after(text: &str, label: &str) -> u64 {
    let at = text.find(label).unwrap_or_else(|| panic!("no {label:?} in:\n{text}")) + label.len();
    let digits: String = text[at..].chars().skip_while(|c| *c == ' ').take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number behind {label:?} in:\n{text}"))
}
