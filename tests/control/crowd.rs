//! Many clients at once, and the end of the server among them.

use super::*;

#[test]
fn fifty_clients_at_once_each_get_their_own_answer() {
    let bench = Bench::new();
    thread::scope(|scope| {
        for n in 0..50 {
            let bench = &bench;
            scope.spawn(move || {
                let command = format!("server be{n} weight {n}");
                // There is room for 32; the others hear it and come again.
                for _ in 0..HANG.as_millis() / 10 {
                    let mut client = bench.connect();
                    client.say(format!("{command}\n"));
                    let reply = client.rest();
                    if reply == format!("{command}\n") {
                        return;
                    }
                    assert!(reply.starts_with("error: too many connections"), "{reply}");
                    thread::sleep(Duration::from_millis(10));
                }
                panic!("{command}: never answered");
            });
        }
    });
    bench.await_silence();
}

#[test]
fn more_connections_than_there_is_room_for_are_told_so() {
    let bench = Bench::new();
    let mut clients: Vec<_> = (0..Limits::default().connections).map(|_| bench.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask("a")["ok"], true);
    }
    assert_eq!(bench.server().connections(), 32);
    for n in 1..=3 {
        let mut client = bench.connect();
        client.say("servers\n");
        let reply = client.rest();
        assert!(reply.starts_with("error: too many connections") && reply.ends_with('\n'), "{reply}");
        assert_eq!(bench.server().turned_away(), n);
    }
    let failure = pen_dsr::control::client::ask(&bench.server().addresses()[0], "servers").unwrap_err();
    assert!(failure.message.contains("too many connections"), "the client understands it: {failure}");
    clients.pop();
    await_that("a place is free", || bench.server().connections() < 32);
    bench.assert_alive();
    assert!(clients.iter_mut().all(|client| client.ask("b")["ok"] == true), "the others did not notice");
}

#[test]
fn tcp_cannot_keep_the_owner_out() {
    let bench = Bench::new();
    let limits = Limits::default();
    let mut clients: Vec<_> = (0..limits.connections - limits.reserved).map(|_| bench.connect_tcp()).collect();
    assert!(clients.iter_mut().all(|client| client.ask("a")["ok"] == true));
    let mut one_more = bench.connect_tcp();
    assert!(one_more.rest().starts_with("error: too many connections"));
    bench.assert_alive();
}

#[test]
fn the_command_that_ends_the_balancer_is_answered() {
    for _ in 0..50 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let (server, requests) = Server::listen(&[ControlAddress::Unix(path.clone())], None, Arc::default()).unwrap();
        let mut client = unix(&path);
        client.say("exit\n");
        let request = requests.recv_timeout(HANG).unwrap();
        request.answer(Ok(Answer::plain("bye")));
        drop(requests);
        drop(server);
        // The process may be gone by now: the answer has to be there.
        client.0.get_ref().set_nonblocking(true).unwrap();
        let mut bytes = [0; 16];
        let n = client.0.read(&mut bytes).unwrap();
        assert_eq!(bytes[..n], *b"bye\n");
    }
}

#[test]
fn who_waits_when_the_server_ends_hears_it() {
    let mut bench = Bench::new();
    let (mut waiting, mut idle, mut begun) = (bench.connect(), bench.connect(), bench.connect_tcp());
    assert_eq!(idle.ask("a")["ok"], true);
    begun.say("serv");
    waiting.say("never\n");
    bench.await_line("never");
    await_that("all are connected", || bench.server().connections() == 3);
    bench.server = None;
    assert_eq!(waiting.rest(), "error: the balancer is ending\n");
    assert_eq!(idle.rest(), "");
    // What was begun is a line that nobody carries out any more.
    assert_eq!(begun.rest(), "error: the balancer is ending\n");
}

#[test]
fn half_a_line_is_no_command_when_the_server_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (server, requests) = Server::listen(&[ControlAddress::Unix(path.clone())], None, Arc::default()).unwrap();
    let mut clients: Vec<_> = (0..20).map(|_| unix(&path)).collect();
    for client in &mut clients {
        client.say("server be1 weight 3");
    }
    await_that("all are connected", || server.connections() == clients.len());
    drop(server);
    assert!(clients.iter_mut().all(|client| client.rest() == "error: the balancer is ending\n"));
    assert_eq!(requests.try_iter().count(), 0);
}

#[test]
fn who_asks_when_nobody_carries_commands_out_any_more_hears_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (_server, requests) = Server::listen(&[ControlAddress::Unix(path.clone())], None, Arc::default()).unwrap();
    drop(requests);
    assert_eq!(unix(&path).ask("a")["error"], "the balancer is ending");
}
