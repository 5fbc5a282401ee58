//! A proxy, and servers for it.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use pen_dsr::config::proxy::{Address, ListenConfig, ProxyTimeouts, TransportProtocol};
use pen_dsr::config::{BackendConfig, Config};
use pen_dsr::proxy::Proxy;
use socket2::{Domain, Socket, Type};

/// How long anything may take before a test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// What none of these tests waits for, however long the machine stands still.
pub const NEVER: Duration = Duration::from_secs(600);

/// A running proxy; stopped with this.
pub struct Running {
    pub proxy: Proxy,
    pub address: SocketAddr,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.proxy.stop();
    }
}

/// An address of loopback that nobody listens on, unless he is told to.
pub fn free_address() -> SocketAddr {
    free_on(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// The same on the address `ip`, whose port is 0.
pub fn free_on(ip: SocketAddr) -> SocketAddr {
    let socket = Socket::new(Domain::for_address(ip), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&ip.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Kept by a socket that does not listen, nobody is given that port who asks for any, however long the test takes; who
    // asks for that one gets it. Other systems do not permit that.
    if cfg!(target_os = "linux") {
        std::mem::forget(socket);
    }
    address
}

/// A server called `name` at `address`.
pub fn backend(name: &str, address: SocketAddr) -> BackendConfig {
    BackendConfig { address: Some(address.ip()), port: address.port(), ..BackendConfig::named(name) }
}

/// One listener on loopback, for `servers`.
pub fn config(servers: &[SocketAddr]) -> Config {
    let mut config = Config::default();
    for (n, server) in servers.iter().enumerate() {
        config.balance.backends.push(backend(&format!("be{n}"), *server));
    }
    config.proxy.threads = 1;
    config.proxy.timeouts = patient_timeouts();
    config.proxy.listeners.push(ListenConfig::new(Address::Ip(free_address()), TransportProtocol::Tcp));
    config
}

/// With these nothing that the proxy does depends on how slow the machine is.
pub fn patient_timeouts() -> ProxyTimeouts {
    ProxyTimeouts {
        connect: PATIENCE,
        idle: Duration::from_secs(3600),
        request: NEVER,
        response: NEVER,
        client_fin: NEVER,
        blacklist: NEVER,
        reuse: NEVER,
        udp: NEVER,
        drain: PATIENCE,
    }
}

/// Starts it.
pub fn start(config: &Config) -> Running {
    let mut proxy = Proxy::prepare(config).unwrap();
    proxy.start(config).unwrap();
    let Address::Ip(address) = config.proxy.listeners[0].address else { panic!("no address") };
    Running { proxy, address }
}

impl Running {
    /// A client's connection.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        patient(&stream);
        stream
    }
}

/// Nothing on it hangs for ever.
pub fn patient(stream: &TcpStream) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
}

/// Does `call` again if a signal, or a stop of this process, has interrupted it: with a timeout the system does not.
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A server that does `serve` with each connection, in a thread of its own; says how many there were.
pub fn serve(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (count, serve) = (Arc::new(AtomicUsize::new(0)), Arc::new(serve));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            patient(&stream);
            counted.fetch_add(1, Ordering::Relaxed);
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    (address, count)
}
