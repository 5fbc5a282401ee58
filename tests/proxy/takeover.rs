//! A second proxy takes the listeners of a first one over while clients come and go.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread::JoinHandle;

use pen_dsr::config::proxy::{Address, ListenConfig, TransportProtocol};

use crate::harness::{PATIENCE, config, free_address, patient, serve, start, uninterrupted};
use crate::process::wait_until;

/// Does `ask` again and again until `over`; how often it was done.
fn again(over: &Arc<AtomicBool>, ask: impl Fn() + Send + 'static) -> (JoinHandle<()>, Arc<AtomicUsize>) {
    let (over, done) = (Arc::clone(over), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&done);
    let thread = std::thread::spawn(move || {
        while !over.load(Relaxed) {
            ask();
            counted.fetch_add(1, Relaxed);
        }
    });
    (thread, done)
}

#[test]
fn nobody_is_refused_while_another_process_takes_over() {
    let serve = || {
        let (server, _) = serve(|mut stream| {
            let mut question = [0; 5];
            if stream.read_exact(&mut question).is_ok() {
                let _ = stream.write_all(&question);
            }
        });
        server
    };
    // The same address for datagrams, as soon as that is free, too.
    let (server, echo) = std::iter::repeat_with(serve)
        .find_map(|server| UdpSocket::bind(server).ok().map(|echo| (server, echo)))
        .unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 100];
        while let Ok((length, from)) = echo.recv_from(&mut buffer) {
            let _ = echo.send_to(&buffer[..length], from);
        }
    });
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&[server]);
    config.proxy.threads = 2;
    config.proxy.handover = Some(folder.path().join("handover"));
    let address = std::iter::repeat_with(free_address).find(|address| UdpSocket::bind(address).is_ok()).unwrap();
    config.proxy.listeners[0].address = Address::Ip(address);
    config.proxy.listeners.push(ListenConfig::new(Address::Ip(address), TransportProtocol::Udp));

    let first = start(&config);
    let over = Arc::new(AtomicBool::new(false));
    let connections = again(&over, move || {
        let mut stream = TcpStream::connect(address).unwrap();
        patient(&stream);
        stream.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"hello");
    });
    let ask = move |socket: &UdpSocket| {
        socket.send_to(b"hello", address).unwrap();
        assert_eq!(uninterrupted(|| socket.recv(&mut [0; 100])).unwrap(), 5);
    };
    let socket = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    let new_clients = again(&over, move || ask(&socket()));
    let known = socket();
    let known_client = again(&over, move || ask(&known));
    let all = [connections, new_clients, known_client];
    let progress = |what: &str| {
        let before = all.each_ref().map(|(_, done)| done.load(Relaxed));
        wait_until(what, || {
            all.iter().zip(before).all(|((thread, done), before)| {
                assert!(!thread.is_finished(), "{what}");
                done.load(Relaxed) > before + 20
            })
        });
    };
    progress("the first one serves");

    // As many loops, and more, and fewer.
    let mut elder = first;
    for threads in [2, 3, 1] {
        config.proxy.threads = threads;
        let younger = start(&config);
        elder.proxy.taken_over().recv_timeout(PATIENCE).unwrap();
        elder.proxy.drain();
        progress("somebody serves");
        wait_until("the elder one ends", || elder.proxy.is_over());
        elder = younger;
        progress("the younger one serves alone");
    }
    over.store(true, Relaxed);
    for (thread, _) in all {
        thread.join().unwrap();
    }
}
