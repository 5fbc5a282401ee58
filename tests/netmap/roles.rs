//! Other hosts' programs: this program again, in that host's network, with a role to play.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// What the role is, in the environment.
const ROLE: &str = "PEN_DSR_NETMAP_ROLE";
/// Before each line of a role's, so that it is told from the test runner's.
const MARK: &str = "> ";
const PATIENCE: Duration = Duration::from_secs(45);

/// The words that call this program in the role `words`, for the test `name`.
pub fn cast(command: &mut Command, name: &str, words: &[&str]) {
    command.arg(std::env::current_exe().expect("own path"));
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(ROLE, words.join(" "));
}

/// What a role has said.
pub fn lines(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_prefix(MARK)).map(str::to_owned).collect()
}

/// Plays a role and ends, if this program was called for that.
pub fn play_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let words: Vec<&str> = role.split_whitespace().collect();
    println!();
    match words[..] {
        ["serve", at, name] => serve(at, name),
        ["ask", target, bytes, ref sources @ ..] => {
            for source in sources {
                match ask(source, target, bytes.parse().expect("a number")) {
                    Ok(answer) => println!("{MARK}{source} {answer}"),
                    Err(e) => {
                        println!("{MARK}{source} to {target}: {e}");
                        std::process::exit(1);
                    }
                }
            }
        }
        _ => panic!("no role: {role}"),
    }
    std::process::exit(0)
}

fn pattern(bytes: usize) -> impl Iterator<Item = u8> {
    (0..bytes).map(|n| (n * 7 + n / 251) as u8)
}

/// A server at address and port `at`: says who it is and whom it talks to, then sends as many bytes as it is asked for.
fn serve(at: &str, name: &str) {
    let listener = TcpListener::bind(at).unwrap_or_else(|e| panic!("{at}: {e}"));
    println!("{MARK}listening");
    for stream in listener.incoming() {
        let name = name.to_owned();
        thread::spawn(move || stream.and_then(|stream| converse(stream, &name)));
    }
}

fn converse(mut stream: TcpStream, name: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    writeln!(stream, "{name} {}", stream.peer_addr()?.ip())?;
    stream.write_all(&pattern(line.trim().parse().unwrap_or(0)).collect::<Vec<u8>>())
}

/// Asks the server at `target` for `bytes`, from the address `source`; what it said first.
fn ask(source: &str, target: &str, bytes: usize) -> Result<String, std::io::Error> {
    let local: SocketAddr = format!("{source}:0").parse().expect("an address");
    let remote: SocketAddr = target.parse().expect("an address and a port");
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM, None)?;
    socket.bind(&local.into())?;
    socket.connect_timeout(&remote.into(), PATIENCE)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    writeln!(stream, "{bytes}")?;
    let mut reader = BufReader::new(stream);
    let mut said = String::new();
    reader.read_line(&mut said)?;
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest)?;
    if !rest.iter().copied().eq(pattern(bytes)) {
        return Err(std::io::Error::other(format!("{} bytes instead of {bytes}, or others", rest.len())));
    }
    Ok(said.trim().to_owned())
}
