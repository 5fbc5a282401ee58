//! HTTP checks against a server over TCP.

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nServer: x\r\n";

fn http(body: Option<&str>) -> Check {
    Check::Http {
        port: None,
        path: "/health".to_owned(),
        host: Some("www.example.org".to_owned()),
        status: 200..=299,
        body: body.map(str::to_owned),
    }
}

/// A body that takes many segments, with `end` at its end.
fn long(size: usize, end: &str) -> String {
    format!("{HEAD}Content-Length: {}\r\n\r\n{}{end}", size + end.len(), ".".repeat(size))
}

#[test]
fn a_good_answer_is_enough_and_the_connection_is_gone() {
    for target in FAMILIES {
        for (answer, body) in [
            (format!("{HEAD}\r\n"), None),
            (format!("{HEAD}Content-Length: 9\r\n\r\nI'm well."), Some("well")),
            (format!("{HEAD}\r\nI'm well."), Some("well")),
            (
                format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n4\r\nI'm \r\n5\r\nwell.\r\n0\r\n\r\n"),
                Some("I'm well."),
            ),
            (long(30_000, "well"), Some("well")),
        ] {
            let mut server = Server::http(target, &answer);
            let run = ask(&http(body), target, &mut server);
            assert_eq!((run.result, run.took), (Ok(()), Duration::ZERO));
            assert!(server.request.starts_with(b"GET /health HTTP/1.1\r\nHost: www.example.org\r\n"));
            assert!(server.request.ends_with(b"\r\nConnection: close\r\n\r\n"));
            assert!(matches!(server.state(), tcp::State::Closed | tcp::State::Listen), "{:?}", server.state());
            let last = &run.sent.last().unwrap().1;
            assert_eq!(upper(last)[13], RST | ACK);
        }
    }
}

#[test]
fn a_single_lost_packet_fails_no_check() {
    for target in FAMILIES {
        survives_any_single_loss(&http(None), target, || Server::http(target, &format!("{HEAD}\r\n")));
        survives_any_single_loss(&http(Some("well")), target, || Server::http(target, &long(4000, "well")));
    }
}

#[test]
fn what_is_wrong_with_an_answer_is_told() {
    for target in FAMILIES {
        let at = at(target, PORT);
        let wanted = || "well".to_owned();
        for (answer, reason) in [
            (
                "HTTP/1.1 503 Service Unavailable\r\n\r\n".to_owned(),
                Reason::HttpStatus { at, status: 503, wanted: 200..=299 },
            ),
            (format!("{HEAD}Content-Length: 8\r\n\r\nI'm ill."), Reason::HttpBody { at, wanted: wanted() }),
            (format!("{HEAD}\r\nI'm ill."), Reason::HttpBody { at, wanted: wanted() }),
            (long(70_000, "well"), Reason::HttpBody { at, wanted: wanted() }),
            (format!("{HEAD}Content-Length: 9\r\n\r\nI'm"), Reason::HttpClosed { at, reset: false }),
            (HEAD.to_owned(), Reason::HttpClosed { at, reset: false }),
            (String::new(), Reason::HttpClosed { at, reset: false }),
            ("SSH-2.0-x\r\n".to_owned(), Reason::HttpMalformed { at, what: "no status line" }),
        ] {
            let run = ask(&http(Some("well")), target, &mut Server::http(target, &answer));
            assert_eq!(run.result, Err(reason), "{:.80}", answer);
            assert!(run.took < TIMEOUT, "known before the timeout");
        }
    }
}

#[test]
fn a_server_that_hangs_is_told_from_one_that_is_not_there() {
    for target in FAMILIES {
        let (at, within) = (at(target, PORT), TIMEOUT);
        let reason = |manner| {
            let mut server = Server::new(target, PORT, manner);
            let run = ask(&http(Some("well")), target, &mut server);
            assert!(!matches!(server.state(), tcp::State::Established | tcp::State::CloseWait), "told that it is over");
            (run.result.unwrap_err(), run.took)
        };
        assert_eq!(reason(Manner::Hang), (Reason::HttpHang { at, within }, TIMEOUT));
        assert_eq!(reason(Manner::Say(b"HTTP/1.1 200".to_vec())), (Reason::HttpSlow { at, within }, TIMEOUT));
        let slow = format!("{HEAD}Content-Length: 9\r\n\r\nI'm").into_bytes();
        assert_eq!(reason(Manner::Say(slow)), (Reason::HttpSlow { at, within }, TIMEOUT));
        assert_eq!(reason(Manner::Reset), (Reason::HttpClosed { at, reset: true }, Duration::ZERO));
        let silent = ask(&http(None), target, &mut silence);
        assert_eq!((silent.result, silent.took), (no_answer(target, PORT), TIMEOUT));
        let refused = ask(&http(None), target, &mut Server::new(target, 8080, Manner::Hang));
        assert_eq!((refused.result, refused.took), (Err(Reason::Refused { at }), Duration::ZERO));
    }
}

#[test]
fn an_open_connection_is_not_given_up_for_an_icmp_error() {
    for target in FAMILIES {
        let mut server = Server::http(target, &format!("{HEAD}\r\n"));
        let error = [if target.vip.is_ipv4() { 3 } else { 1 }, 3];
        let mut packets = 0;
        let mut backend = |packet: &[u8]| {
            packets += 1;
            let mut answers = server.receive(packet, Instant::now());
            // Behind the SYN+ACK.
            if packets == 1 {
                answers.push(icmp_error(target, target.vip, error, packet));
            }
            answers
        };
        assert_eq!(ask(&http(None), target, &mut backend).result, Ok(()));
    }
}
