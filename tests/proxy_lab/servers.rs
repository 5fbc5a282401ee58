//! Servers of the lab.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::harness::{Lab, Process};

impl Lab {
    /// Starts nginx on `host`, port 80: `/` says the host's name, `/big` is 5 MB, `/put/` takes files by PUT, `/little` is
    /// too small for them, `/ws` is passed to port 8081, `/post` answers 200. Its log is the test's file `HOST.access`: the client's address, the
    /// request, X-Forwarded-For, X-Forwarded-Proto, Forwarded, and the connection's number.
    pub fn nginx(&self, host: &str) -> Process {
        self.nginx_with(host, "", "listen 80; listen [::]:80;")
    }

    /// The same with other lines for http and server, which has port 80 all the same.
    pub fn nginx_with(&self, host: &str, http: &str, server: &str) -> Process {
        fs::create_dir_all(self.directory.join(host).join("put")).expect("a root directory");
        let big: Vec<u8> = (0..5_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
        let log = "$remote_addr \"$request\" $status xff=$http_x_forwarded_for xfp=$http_x_forwarded_proto \
                   fwd=$http_forwarded conn=$connection";
        let http =
            format!("client_max_body_size 100m; keepalive_requests 100000; server_names_hash_bucket_size 128; {http}");
        let server = format!(
            "{server} default_type text/plain;
             location /little {{ client_max_body_size 1k; }}
             location = /post {{ return 200 'thanks'; }}
             location /put/ {{ dav_methods PUT DELETE; }}
             location /ws {{ proxy_pass http://127.0.0.1:8081; proxy_http_version 1.1;
               proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }}"
        );
        self.start_nginx(host, &big, log, &http, &server)
    }

    /// A TCP server on `host` that does `serve` with each connection, in a thread of its own.
    pub fn serve(&self, host: &str, port: u16, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) {
        self.inside(host, move || {
            let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
            thread::spawn(move || {
                while let Ok((stream, _)) = listener.accept() {
                    let serve = serve.clone();
                    thread::spawn(move || serve(stream));
                }
            });
        })
        .join()
        .unwrap();
    }
}

/// Says everything again, until the client has ended.
pub fn echo(mut stream: TcpStream) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = [0; 65536];
    while let Ok(n) = stream.read(&mut buffer)
        && n > 0
        && stream.write_all(&buffer[..n]).is_ok()
    {}
}

/// Accepts an upgrade, and then says everything again.
pub fn upgraded_echo(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    assert!(String::from_utf8_lossy(&head).to_lowercase().contains("upgrade: websocket"));
    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n").unwrap();
    echo(stream);
}
