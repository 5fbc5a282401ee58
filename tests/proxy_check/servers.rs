//! Servers of a few lines, each in threads of its own until the test ends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// Any port of the loopback.
pub fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// A connection of either kind.
pub trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// Reads a request and answers `text`; what ends with `...` is never finished. In pieces, so that it is not read at once.
pub fn answer(text: &str) -> impl Fn(&mut dyn Connection) + Clone + Send + 'static {
    let (text, unfinished) = text.strip_suffix("...").map_or((text, false), |text| (text, true));
    let text = text.to_owned();
    move |stream| {
        if stream.read(&mut [0; 4096]).is_err() {
            return;
        }
        for piece in text.as_bytes().chunks(7001) {
            if stream.write_all(piece).is_err() {
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
        if unfinished {
            // Until the other side gives up.
            while stream.read(&mut [0; 64]).is_ok_and(|count| count > 0) {}
        }
    }
}

/// A TCP server that does `serve` with each connection.
pub fn tcp(serve: impl Fn(&mut dyn Connection) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind(loopback()).expect("a socket");
    let at = listener.local_addr().expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(&mut stream));
        }
    });
    at
}

/// The same at a Unix socket.
pub fn unix(path: &Path, serve: impl Fn(&mut dyn Connection) + Clone + Send + 'static) {
    let listener = UnixListener::bind(path).expect("a socket");
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || serve(&mut stream));
        }
    });
}

/// A UDP server that answers each datagram with what `reply` makes of it.
pub fn udp(mut reply: impl FnMut(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind(loopback()).expect("a socket");
    let at = socket.local_addr().expect("a socket");
    thread::spawn(move || {
        let mut bytes = [0; 2048];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            if let Some(answer) = reply(&bytes[..count]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    at
}
