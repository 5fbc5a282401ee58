//! OpenSSH through the proxy: a session that rests, that outlives a reload and drains, and files that it copies.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Lab, MINUTES, PATIENCE, Process, SECONDS, lab, skipped_for_want_of_users, wait_until};

/// How long a session says nothing.
const REST: Duration = Duration::from_secs(3);

/// A pair of keys, the files `name` and `name.pub`; the public one.
fn key(lab: &Lab, name: &str) -> String {
    lab.run("client", &["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &lab.path(name)]);
    lab.read(&format!("{name}.pub")).trim().to_owned()
}

/// Starts sshd on `host` at port 22; its root lets the holder of the key `user` in.
fn sshd(lab: &Lab, host: &str) -> Process {
    let config = format!(
        "Port 22\nHostKey {}\nPidFile none\nUsePAM no\nUseDNS no\nStrictModes no\nPermitRootLogin prohibit-password\n\
         AuthorizedKeysFile {}\nSubsystem sftp internal-sftp\nPrintMotd no\nPrintLastLog no\n",
        lab.path("host"),
        lab.path("user.pub")
    );
    let file = lab.file("sshd_config", config);
    // It wants a folder in /run, and its full path.
    let script =
        format!("mount -t tmpfs run /run && mkdir -m 755 /run/sshd && exec $(command -v sshd) -D -e -f {file}");
    let process = lab.start(host, &["unshare", "--mount", "sh", "-euc", &script]);
    lab.wait_listening(host, "tcp", 22);
    process
}

/// The configuration of the client: `proxy` is the server behind the proxy.
fn ssh_config(lab: &Lab, host_key: &str) -> String {
    let known = lab.file("known_hosts", format!("[10.1.0.254]:2222 {host_key}\n"));
    fs::set_permissions(lab.path("user"), fs::Permissions::from_mode(0o600)).unwrap();
    lab.file(
        "ssh_config",
        format!(
            "Host proxy\n  HostName 10.1.0.254\n  Port 2222\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {known}\n  GlobalKnownHostsFile none\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
             ConnectTimeout 45\n",
            lab.path("user")
        ),
    )
}

/// Somebody at a terminal.
struct Session {
    ssh: Child,
    keyboard: ChildStdin,
    screen: Receiver<String>,
}

impl Session {
    /// Begins one, with a terminal on the server.
    fn begin(lab: &Lab, config: &str) -> Session {
        let program = "stty -echo -onlcr; echo ready; while read -r word; do echo \"you said $word\"; done; echo over";
        let mut command = lab.command("client", &["ssh", "-F", config, "-tt", "proxy", program]);
        let mut ssh = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (keyboard, shown) = (ssh.stdin.take().unwrap(), BufReader::new(ssh.stdout.take().unwrap()));
        let (tell, screen) = channel();
        thread::spawn(move || shown.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        let session = Session { ssh, keyboard, screen };
        assert_eq!(session.line(), "ready");
        session
    }

    /// What is on the screen next.
    fn line(&self) -> String {
        self.screen.recv_timeout(PATIENCE).expect("a line").trim().to_owned()
    }

    /// Some lines there and back.
    fn talk(&mut self, about: &str) {
        for n in 0..20 {
            self.keyboard.write_all(format!("{about} {n}\n").as_bytes()).unwrap();
            assert_eq!(self.line(), format!("you said {about} {n}"));
        }
    }

    /// Ends it (control D).
    fn end(mut self) {
        self.keyboard.write_all(b"\x04").unwrap();
        assert_eq!(self.line(), "over");
        drop(self.keyboard);
        assert!(self.ssh.wait().unwrap().success());
    }
}

#[test]
fn an_ssh_session_rests_outlives_a_reload_and_is_drained_and_files_arrive_whole() {
    let name = "shell::an_ssh_session_rests_outlives_a_reload_and_is_drained_and_files_arrive_whole";
    lab(name, &["ssh", "scp", "ssh-keygen", "sshd"], |lab| {
        if skipped_for_want_of_users(name) {
            return;
        }
        key(lab, "user");
        let host_key = key(lab, "host");
        let _servers = (sshd(lab, "s1"), sshd(lab, "s2"));
        let toml = |server: &str| {
            lab.file(
                "pen.toml",
                format!(
                    "[[backend]]\nhost = \"{server}\"\n[[listen]]\naddress = \"10.1.0.254:2222\"\nbackend-port = 22\n\
                     [proxy.tcp]\nkeepalive = 1\n[proxy.timeouts]\nconnect = 45\ndrain = 600\n"
                ),
            )
        };
        let mut proxy = lab.proxy(&["-c", &toml("10.2.0.11")]);
        let config = ssh_config(lab, &host_key);

        // Files, by sftp and by a command, there and back.
        let big: Vec<u8> = (0..8_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 17) as u8).collect();
        let (file, there, back) = (lab.file("big", &big), lab.path("there"), lab.path("back"));
        lab.run("client", &["timeout", MINUTES, "scp", "-F", &config, &file, &format!("proxy:{there}")]);
        assert!(fs::read(&there).unwrap() == big);
        lab.run("client", &["timeout", MINUTES, "scp", "-F", &config, &format!("proxy:{there}"), &back]);
        assert!(fs::read(&back).unwrap() == big);
        for script in ["ssh -F $1 proxy \"cat $2\" >$3", "ssh -F $1 proxy \"cat >$3\" <$2"] {
            fs::remove_file(&back).unwrap();
            lab.run("client", &["timeout", MINUTES, "sh", "-euc", script, "sh", &config, &file, &back]);
            assert!(fs::read(&back).unwrap() == big, "{script}");
        }

        let mut session = Session::begin(lab, &config);
        session.talk("first");
        thread::sleep(REST);
        session.talk("after a rest");
        // Its server is no longer in the file: new sessions go elsewhere, this one stays.
        toml("10.2.0.12");
        proxy.signal(Signal::SIGHUP);
        wait_until("the reload", || lab.ctl("ctl", "servers").contains("10.2.0.12"));
        session.talk("after a reload");
        let mut other = Session::begin(lab, &config);
        other.talk("another");
        proxy.signal(Signal::SIGTERM);
        proxy.wait_for("the end to begin", |log| log.contains("no more connections are accepted"));
        session.talk("while it ends");
        thread::sleep(REST);
        session.talk("still");
        other.talk("still");
        // Nobody new is let in.
        let (status, said) = lab.try_run("client", &["timeout", SECONDS, "ssh", "-F", &config, "proxy", "true"]);
        assert!(!status.success() && said.contains("refused"), "{said}");
        assert!(proxy.try_end().is_none());
        session.end();
        other.end();
        assert!(proxy.end().success(), "{}", proxy.output());
    });
}
