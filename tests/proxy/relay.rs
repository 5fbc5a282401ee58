//! Bytes go both ways as they come, and so do ends and resets.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::harness::{PATIENCE, config, free_address, serve, start};
use crate::process::{wait_to_see, wait_until};

/// Bytes that no other place has.
fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 ^ seed).collect()
}

#[test]
fn what_the_client_says_arrives_and_is_answered() {
    let (server, _) = serve(|mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(b"world").unwrap();
        assert_eq!(&bytes, b"hello");
    });
    let proxy = start(&config(&[server]));
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "world");
}

#[test]
fn each_direction_ends_by_itself_and_bulk_is_whole() {
    const LENGTH: usize = 24 << 20;
    for splice in [false, true] {
        let (server, _) = serve(|mut stream| {
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            assert!(all == pattern(LENGTH, 1));
            // Only now, when the client has ended long ago.
            stream.write_all(&pattern(LENGTH, 2)).unwrap();
        });
        let mut config = config(&[server]);
        config.proxy.tcp.splice = splice;
        let proxy = start(&config);
        let mut client = proxy.connect();
        client.write_all(&pattern(LENGTH, 1)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), LENGTH);
        assert!(all == pattern(LENGTH, 2));
    }
}

#[test]
fn bytes_are_counted_while_the_connection_stays() {
    let (server, _) = serve(|mut stream| {
        let mut bytes = [0; 5];
        stream.read_exact(&mut bytes).unwrap();
        stream.write_all(&pattern(1000, 1)).unwrap();
        let _ = stream.read(&mut bytes);
    });
    let proxy = start(&config(&[server]));
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 1000]).unwrap();
    let server = &proxy.proxy.plan().servers[0];
    let count = || [&server.sent, &server.received].map(|bytes| bytes.load(std::sync::atomic::Ordering::Relaxed));
    wait_to_see("both ways", count, |bytes| *bytes == [5, 1000]);
}

#[test]
fn a_server_that_refuses_is_passed_over_and_left_out() {
    let (server, count) = serve(|mut stream| stream.write_all(b"here").unwrap());
    let mut config = config(&[free_address(), server]);
    config.proxy.selection.track = false;
    let proxy = start(&config);
    for _ in 0..10 {
        let mut answer = String::new();
        proxy.connect().read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "here");
    }
    assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), 10);
    let failed = proxy.proxy.plan().servers[0].failed.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(failed, 1);
}

#[test]
fn with_nobody_to_serve_it_a_client_is_turned_away_at_once() {
    let proxy = start(&config(&[free_address()]));
    let mut client = proxy.connect();
    let mut bytes = Vec::new();
    // The end, or a reset: no timeout.
    match client.read_to_end(&mut bytes) {
        Ok(0) => {}
        Ok(n) => panic!("{n} bytes from nobody"),
        Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn a_reset_is_passed_on_after_what_came_before_it() {
    let (server, _) = serve(|mut stream| {
        stream.write_all(&pattern(100_000, 3)).unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    });
    let proxy = start(&config(&[server]));
    let mut client = proxy.connect();
    let mut all = vec![0; 100_000];
    client.read_exact(&mut all).unwrap();
    assert!(all == pattern(100_000, 3));
    client.write_all(b"x").unwrap();
    let e = client.read(&mut [0; 10]).unwrap_err();
    assert_eq!(e.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn idle_connections_are_ready_before_they_are_wanted_and_made_up_for() {
    let (server, count) = serve(|mut stream| {
        let mut bytes = [0; 5];
        if stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
    });
    let mut config = config(&[server]);
    config.proxy.limits.idlers = 3;
    let proxy = start(&config);
    let made = |n| {
        wait_to_see("connections", || count.load(std::sync::atomic::Ordering::Relaxed), |&made| made == n);
    };
    made(3);
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "hello");
    made(4);
}

#[test]
fn fastclose_lets_a_client_go_whose_server_has_closed_and_without_it_each_side_ends_by_itself() {
    for fastclose in [false, true] {
        let (tell, told) = channel();
        let (server, _) = serve(move |mut stream| {
            let mut question = [0; 5];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(b"bye").unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
            let mut rest = Vec::new();
            // A reset says the same as an end here: that nothing more comes.
            let _ = stream.read_to_end(&mut rest);
            tell.send(rest).unwrap();
        });
        let mut config = config(&[server]);
        config.proxy.tcp.fastclose = fastclose;
        let proxy = start(&config);
        let mut client = proxy.connect();
        client.write_all(b"hello").unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"bye");
        if fastclose {
            // The client has closed nothing.
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"");
            wait_until("nobody at the server", || proxy.proxy.plan().servers[0].connections() == 0);
            wait_until("a client that is told", || client.write_all(b"more").is_err());
        } else {
            client.write_all(b"more").unwrap();
            assert_eq!(proxy.proxy.plan().servers[0].connections(), 1);
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(told.recv_timeout(PATIENCE).unwrap(), b"more");
        }
    }
}

#[test]
fn fastclose_cuts_off_nothing_that_the_server_has_sent_though_the_client_is_slow_and_sends_on() {
    const LENGTH: usize = 3 << 20;
    let (over, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let (server, _) = serve(move |mut stream| {
        let mut question = [0; 5];
        stream.read_exact(&mut question).unwrap();
        stream.write_all(&pattern(LENGTH, 4)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // What else the client sends stays unread, all the way.
        let _ = wait.lock().unwrap().recv_timeout(PATIENCE);
    });
    let mut config = config(&[server]);
    config.proxy.tcp.fastclose = true;
    let proxy = start(&config);
    let mut client = proxy.connect();
    client.write_all(b"hello").unwrap();
    let mut sender = client.try_clone().unwrap();
    let sending = std::thread::spawn(move || while sender.write_all(&[7; 65536]).is_ok() {});
    let (mut all, mut part) = (Vec::new(), [0; 50_000]);
    while let Ok(length) = client.read(&mut part)
        && length > 0
    {
        all.extend_from_slice(&part[..length]);
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(all.len(), LENGTH);
    assert!(all == pattern(LENGTH, 4));
    let _ = client.shutdown(Shutdown::Both);
    sending.join().unwrap();
    drop(over);
}
