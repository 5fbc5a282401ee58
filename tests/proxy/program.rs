//! The program itself as a proxy, in a process of its own, with a configuration file and a control socket.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::process::{Process, wait_until};
use crate::scratch::Scratch;

/// Lines of a configuration file: nothing depends on how slow the machine is.
pub const PATIENT: &str = "\
[proxy.timeouts]
connect = 45
request = 600
response = 600
client-fin = 600
blacklist = 600
reuse = 600
";
/// The program that is tested.
pub const PEN_DSR: &str = env!("CARGO_BIN_EXE_pen-dsr");

/// The program, running; ended with this value.
pub struct Program {
    pub process: Process,
    folder: PathBuf,
}

impl Program {
    /// Starts it with the configuration `toml`, its files in the folder of `scratch`, and waits until it serves.
    pub fn start(scratch: &Scratch, toml: &str) -> Program {
        Program::limited(scratch, toml, None)
    }

    /// The same, with so many file descriptors (`ulimit -n`).
    pub fn limited(scratch: &Scratch, toml: &str, descriptors: Option<u32>) -> Program {
        // Some start side by side.
        let mut folders = (0..).map(|n| scratch.0.join(n.to_string()));
        let folder = folders.find(|path| fs::create_dir(path).is_ok()).expect("a free name");
        fs::write(folder.join("pen-dsr.toml"), toml).expect("a configuration");
        let log = scratch.0.join(format!("program-{}.log", folder.file_name().unwrap_or_default().display()));
        let file = fs::File::create(&log).expect("a log file");
        let both = file.try_clone().expect("a second handle");
        let limit = descriptors.map_or_else(String::new, |n| format!("ulimit -n {n} && "));
        let child = Command::new("sh")
            .args(["-c", &format!("{limit}exec \"$@\""), "sh", PEN_DSR, "-c"])
            .arg(folder.join("pen-dsr.toml"))
            .arg("-C")
            .arg(folder.join("ctl"))
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(both)
            .spawn()
            .expect("pen-dsr starts");
        let mut program = Program { process: Process::new(child, log), folder };
        wait_until("the program", || {
            assert!(program.process.try_end().is_none(), "it does not start:\n{}", program.process.output());
            program.try_ctl("status").is_ok()
        });
        program
    }

    /// What it answers to `command`.
    pub fn ctl(&self, command: &str) -> String {
        self.try_ctl(command).unwrap_or_else(|answer| panic!("{command}: {answer}"))
    }

    /// The same; `Err`: it is not content with that.
    pub fn try_ctl(&self, command: &str) -> Result<String, String> {
        let output = Command::new(PEN_DSR)
            .args(["ctl", "-C"])
            .arg(self.folder.join("ctl"))
            .args(command.split_whitespace())
            .stdin(Stdio::null())
            .output()
            .expect("pen-dsr runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        if output.status.success() { Ok(said) } else { Err(said) }
    }

    /// The memory that it has now, bytes (proc(5), VmRSS).
    pub fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok());
        kilobytes.expect("VmRSS") << 10
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.pid())).map_or(0, Iterator::count)
    }
}

/// The lines of a configuration file for a listener.
pub fn listen(address: impl AsRef<str>, more: &str) -> String {
    format!("[[listen]]\naddress = {:?}\n{more}\n", address.as_ref())
}

/// The lines for a server, called by `name`.
pub fn server(name: &str, address: SocketAddr) -> String {
    let (host, port) = (address.ip(), address.port());
    format!("[[backend]]\nhost = \"{host}\"\nport = {port}\nname = {name:?}\n")
}

/// The lines for a server at the Unix socket `path`.
pub fn server_at(name: &str, path: &Path) -> String {
    format!("[[backend]]\npath = {path:?}\nname = {name:?}\n")
}

/// A certificate of its own and its key in `folder`, for the name `localhost`: the lines that make a listener show it.
pub fn certificate(folder: &Path) -> (String, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let path = folder.join("site.pem");
    fs::write(&path, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).expect("a file");
    (format!("[listen.tls]\ncertificate = {path:?}\n"), made)
}

/// TLS over `stream`, with a server that shows that certificate.
pub fn by_tls(
    stream: TcpStream,
    made: &rcgen::CertifiedKey<rcgen::KeyPair>,
) -> rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a certificate");
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
    let connection = rustls::ClientConnection::new(Arc::new(config), name).expect("settings that fit");
    rustls::StreamOwned::new(connection, stream)
}
