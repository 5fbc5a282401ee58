//! Commands and replies: as penctl, as nc, as a program.

use std::net::Shutdown;
use std::thread;
use std::time::Duration;

use pen_dsr::control::server::Limits;
use serde_json::json;

use super::*;

/// penctl(1) sends a line and reads until the end, without saying that it has no more to say.
#[test]
fn a_plain_command_is_answered_and_the_connection_closed() {
    let bench = Bench::new();
    for (line, reply) in [
        ("servers\n", "servers\n"),
        ("  server be1\tweight 3 \r\n", "server be1\tweight 3\n"),
        ("\n\r\n  \nservers\n", "servers\n"),
        ("größe\n", "größe\n"),
        ("fail no such server \"be9\"\n", "error: no such server \"be9\"\n"),
        ("servers\nexit\n", "servers\n"),
        ("servers\n{\"command\":\"exit\"}\n", "servers\n"),
    ] {
        let mut client = bench.connect();
        client.say(line);
        assert_eq!(client.rest(), reply, "{line:?}");
        let mut client = bench.connect_tcp();
        client.say(line);
        assert_eq!(client.rest(), reply, "{line:?} by TCP");
    }
    assert!(bench.seen.try_iter().all(|line| line != "exit"), "what follows the first command is not carried out");
}

#[test]
fn the_end_of_the_connection_ends_a_line_too() {
    let bench = Bench::new();
    for (sent, reply) in [
        ("servers", "servers\n"),
        ("{\"command\":\"servers\"}", "{\"ok\":true,\"result\":\"servers\",\"text\":\"servers\"}\n"),
        ("", ""),
        (" \n\n", ""),
    ] {
        let mut client = bench.connect();
        client.say(sent);
        client.finish();
        assert_eq!(client.rest(), reply, "{sent:?}");
    }
}

#[test]
fn commands_in_json_follow_each_other_on_one_connection() {
    let bench = Bench::new();
    let mut client = bench.connect();
    for n in 0..100 {
        let command = format!("server be{n} weight {n}");
        assert_eq!(client.ask(&command), json!({"ok": true, "result": command, "text": command}));
    }
    assert_eq!(
        client.ask("fail be9: no such server"),
        json!({"ok": false, "error": "be9: no such server", "code": 64, "name": "usage"})
    );
    client.say("\n  \n{\"command\":\"a\"}\n{\"command\":\"b\"}\r\n{\"command\":\"c\"}");
    client.finish();
    let texts: Vec<String> = (0..3).map(|_| client.json()["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, ["a", "b", "c"], "many at once are answered one by one");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_plain_command_after_json_is_the_last_one() {
    let bench = Bench::new();
    let mut client = bench.connect();
    assert_eq!(client.ask("a")["ok"], true);
    client.say("b\n{\"command\":\"c\"}\n");
    assert_eq!(client.rest(), "b\n");
}

#[test]
fn json_that_is_no_command_is_an_error_and_the_connection_stays() {
    let bench = Bench::new();
    let mut client = bench.connect();
    for line in [
        "{",
        "{}",
        "{{{{",
        "{\"command\":1}",
        "{\"command\":null}",
        "{\"command\":\"a\",\"b\":1}",
        "{\"command\":\"a\\nexit\"}",
        "{\"command\":\"\\u0000\"}",
        "{\"command\":\"\"}",
        "{\"command\":\"a\"} b",
    ] {
        client.say(format!("{line}\n"));
        let reply = client.json();
        assert_eq!((&reply["ok"], &reply["name"]), (&json!(false), &json!("usage")), "{line}: {reply}");
    }
    assert_eq!(client.ask("still there?")["ok"], true);
}

#[test]
fn only_the_unix_socket_is_trusted() {
    let bench = Bench::new();
    assert_eq!(bench.connect().ask("trusted")["result"], true);
    assert_eq!(bench.connect_tcp().ask("trusted")["result"], false);
}

#[test]
fn a_line_may_be_long_but_not_longer() {
    let bench = Bench::new();
    let longest = Limits::default().line;
    let mut client = bench.connect();
    client.say(format!("{}\n", "x".repeat(longest)));
    assert_eq!(client.rest().len(), longest + 1);

    for (first, more) in [("x", 1), ("x", 4_000_000), ("{", 1), ("  {", 4_000_000)] {
        // The rest of the line, and what follows it, does no harm to the reply.
        let line = format!("{first}{}\nexit\n", "x".repeat(longest - first.len() + more));
        let mut client = bench.connect();
        client.say(&line);
        let reply = client.rest();
        assert!(reply.contains("longer than 65536 bytes") && reply.ends_with('\n'), "{reply}");
        assert_eq!(first.contains('{'), reply.starts_with("{\"ok\":false"), "{reply}");
        assert!(first.contains('{') || reply.starts_with("error: "), "{reply}");
        let mut client = bench.connect_tcp();
        client.say(&line);
        assert_eq!(client.rest(), reply, "by TCP");
    }
    assert!(bench.seen.try_iter().all(|line| line != "exit"));
}

#[test]
fn a_line_may_come_in_pieces() {
    let bench = Bench::new();
    let mut client = bench.connect();
    for byte in "{\"command\":\"größe\"}\n".as_bytes() {
        client.say([*byte]);
        thread::yield_now();
    }
    assert_eq!(client.json()["text"], "größe");
}

#[test]
fn garbage_is_an_error_or_a_command_without_control_characters() {
    let bench = Bench::new();
    for garbage in
        [&b"serv\xffers\n"[..], b"servers\0\n", b"\x1b[2J\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n"]
    {
        let mut client = bench.connect();
        client.say(garbage);
        let reply = client.rest();
        assert!(reply.starts_with("error: ") && reply.ends_with('\n'), "{garbage:?}: {reply:?}");
    }
    // The executor looks at what arrives at it.
    let mut random = 1u64;
    for round in 0..200 {
        let bytes: Vec<u8> = (0..round * 7)
            .map(|_| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let byte = (random >> 56) as u8;
                // Some of it meets what the reader looks for.
                if random >> 50 & 31 == 0 { b"\n{}\"\\ \r"[usize::from(byte) % 7] } else { byte }
            })
            .collect();
        let mut client = bench.connect();
        client.say(&bytes);
        client.finish();
        let mut reply = Vec::new();
        client.0.read_to_end(&mut reply).unwrap();
        assert!(reply.is_empty() || reply.ends_with(b"\n"), "{bytes:?}: {reply:?}");
    }
    bench.assert_alive();
}

/// A browser that is made to send something to a port on its host brings its own first line.
#[test]
fn what_speaks_http_is_shown_out_before_its_body() {
    let bench = Bench::new();
    let mut client = bench.connect_tcp();
    client.say("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nexit\n");
    client.rest();
    assert_eq!(bench.seen.try_iter().collect::<Vec<_>>(), ["POST / HTTP/1.1"]);
}

#[test]
fn a_large_reply_arrives_whole() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.say("large 5000000\n");
    thread::sleep(Duration::from_millis(50)); // the buffers are full by now, most likely
    assert_eq!(client.rest().len(), 5_000_001);
    assert_eq!(bench.connect_tcp().ask("large 5000000")["result"].as_str().unwrap().len(), 5_000_000);
}

#[test]
fn a_balancer_that_does_not_answer_is_busy() {
    let bench = Bench::within(Limits { answer: Duration::from_millis(50), ..Limits::default() });
    let mut client = bench.connect();
    client.say("never\n");
    let reply = client.rest();
    assert!(reply.starts_with("error: the balancer is busy") && reply.contains("may still"), "{reply}");
    let mut client = bench.connect();
    let reply = client.ask("never");
    assert_eq!((&reply["ok"], &reply["code"]), (&json!(false), &json!(69)), "{reply}");
    // The executor may be slow itself, then.
    let answered = (0..1000).any(|n| {
        let reply = client.ask(&format!("a{n}"));
        assert!(
            reply["text"] == format!("a{n}") || reply["code"] == 69,
            "a late answer is not taken for this one's: {reply}"
        );
        reply["ok"] == true
    });
    assert!(answered, "it is answered when the balancer answers");
}

#[test]
fn a_balancer_that_does_not_even_look_has_done_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let address = ControlAddress::Unix(directory.path().join("socket"));
    let limits = Limits { connections: 2, answer: Duration::from_millis(50), ..Limits::default() };
    let listeners = Listeners::open(&[address], None).unwrap();
    let (_server, requests) = listeners.serve(Arc::default(), limits).unwrap();
    let mut client = unix(&directory.path().join("socket"));
    for expected in ["may still", "may still", "nothing was done"] {
        let error = client.ask("a")["error"].to_string();
        assert!(error.contains("busy") && error.contains(expected), "{error}");
    }
    assert_eq!(requests.try_iter().count(), 2);
}

#[test]
fn a_command_that_is_forgotten_is_an_error() {
    let bench = Bench::new();
    let mut client = bench.connect();
    client.say("forget\n");
    assert_eq!(client.rest(), "error: the balancer is ending\n");
}

#[test]
fn who_says_nothing_is_let_go() {
    let bench = Bench::within(Limits { idle: Duration::from_millis(50), ..Limits::default() });
    assert_eq!(bench.connect().rest(), "", "no line was begun: there is nothing to reply to");
    // Who has said nothing within those 50 ms, as other processes had the processor, tries anew.
    let late = |begun: &str| {
        let mut replies = (0..1000).map(|_| {
            let mut client = bench.connect();
            client.say(begun);
            client.rest()
        });
        replies.find(|reply| !reply.is_empty()).expect("a reply to who has begun a line")
    };
    assert!(late("serv").starts_with("error: the line has not ended"));
    let reply: serde_json::Value = serde_json::from_str(&late(" {\"comm")).unwrap();
    assert!(reply["error"].as_str().unwrap().contains("has not ended"), "{reply}");
}

#[test]
fn clients_that_leave_in_the_middle_hurt_nobody() {
    let bench = Bench::new();
    for _ in 0..10 {
        bench.connect().say("serv");
        bench.connect().say("{\"command\":");
        bench.connect().say("servers\n");
        bench.connect().say("{\"command\":\"a\"}\n{\"command\":\"b\"}\n{\"command\":\"c\"}\n");
        // Gone before its reply fits into the buffers.
        bench.connect().say("large 5000000\n");
        drop(bench.connect());
        let mut client = bench.connect_tcp();
        client.say("large 5000000\n");
        let _ = client.0.get_ref().shutdown(Shutdown::Both);
        // Who comes last is accepted last: all the others have been.
        bench.assert_alive();
        bench.await_silence();
    }
}
