//! Where bodies end, and which chunks are none.

use super::*;

const HEAD: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn chunked_bodies_pass_as_they_are() {
    for body in [
        "0\r\n\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        "005\r\nhello\r\n1\r\n \r\n000\r\n\r\n",
        "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        "5;a=b\r\nhello\r\n0;c\r\n\r\n",
        "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "2\r\n\r\n\r\n0\r\n\r\n",
        "0\r\nX-Checksum: 1\r\nY: \r\n\r\n",
    ] {
        let outcome = forward(format!("{HEAD}{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n"), &plain());
        assert_eq!((outcome.refusal, outcome.ended), (None, 2), "{body:?}");
        assert_eq!(outcome.text(), format!("{HEAD}{body}GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    }
}

#[test]
fn trailers_that_would_change_the_head_do_not_pass() {
    for name in [
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "Forwarded",
        "Connection",
        "x_forwarded_for",
        "Authorization",
        "TE",
        "Trailer",
    ] {
        let outcome = forward(format!("{HEAD}0\r\n{name}: x\r\nX: y\r\n\r\n"), &plain());
        assert_eq!((outcome.refusal, outcome.ended), (None, 1), "{name}");
        assert_eq!(outcome.text(), format!("{HEAD}0\r\nX: y\r\n\r\n"), "{name}");
    }
}

#[test]
fn chunks_that_are_none_are_not_forwarded() {
    for (body, passed, status) in [
        ("+5\r\nhello\r\n0\r\n\r\n", "", 400),
        ("-5\r\n", "", 400),
        ("0x5\r\nhello\r\n", "", 400),
        ("x\r\n", "", 400),
        ("\r\n", "", 400),
        ("\n", "", 400),
        (";a\r\n", "", 400),
        (" 5\r\n", "", 400),
        ("5 \r\nhello\r\n", "", 400),
        ("5\t\r\nhello\r\n", "", 400),
        ("5 5\r\nhello\r\n", "", 400),
        ("5\nhello\r\n", "", 400),
        ("5\rhello\r\n", "", 400),
        ("5\r\rhello\r\n", "", 400),
        ("5;a\nhello\r\n", "", 400),
        ("5;a\rb\r\nhello\r\n", "", 400),
        ("5;a=\"\n\"\r\nhello\r\n", "", 400),
        ("5;\0\r\nhello\r\n", "", 400),
        ("5_0\r\n", "", 400),
        ("5.0\r\n", "", 400),
        ("0000000000000005\r\nhello\r\n", "", 400),
        ("ffffffffffffffff\r\nhello\r\n", "", 400),
        ("10000000000000005\r\nhello\r\n", "", 400),
        ("5\r\nhello!\r\n0\r\n\r\n", "5\r\nhello", 400),
        ("5\r\nhello0\r\n\r\n", "5\r\nhello", 400),
        ("5\r\nhello\n0\r\n\r\n", "5\r\nhello", 400),
        ("5\r\nhello\rx", "5\r\nhello", 400),
        ("5\r\nhello\r\n\r\n", "5\r\nhello\r\n", 400),
        ("5\r\nhello\r\nx\r\n", "5\r\nhello\r\n", 400),
        ("0\r\n\n", "0\r\n", 400),
        ("0\r\nx\r\n\r\n", "0\r\n", 400),
        ("0\r\nX : y\r\n\r\n", "0\r\n", 400),
        ("0\r\nX: y\n\r\n", "0\r\n", 400),
        ("0\r\nX: y\r\n z\r\n\r\n", "0\r\nX: y\r\n", 400),
        ("0\r\nX: \0\r\n\r\n", "0\r\n", 400),
        ("0\r\n: y\r\n\r\n", "0\r\n", 400),
    ] {
        let outcome = forward(format!("{HEAD}{body}"), &plain());
        assert_eq!(outcome.refusal.map(|refusal| refusal.status), Some(status), "{body:?}");
        assert_eq!(outcome.text(), format!("{HEAD}{passed}"), "{body:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let outcome = forward(format!("{HEAD}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300)), &plain());
    assert_eq!((outcome.refusal.map(|refusal| refusal.status), outcome.text()), (Some(400), HEAD.to_string()));
    let outcome = forward(format!("{HEAD}5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(200)), &plain());
    assert_eq!((outcome.refusal, outcome.ended), (None, 1));
    for trailers in [format!("X: {}\r\n", "x".repeat(2048)), "X: y\r\n".repeat(400)] {
        let outcome = forward(format!("{HEAD}0\r\n{trailers}\r\n"), &plain());
        assert_eq!(outcome.refusal.map(|refusal| refusal.status), Some(431));
    }
}

#[test]
fn a_length_is_counted_down() {
    let input =
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0000000000000000003\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let outcome = forward(input, &plain());
    assert_eq!((outcome.refusal, outcome.ended, outcome.text()), (None, 2, input.to_string()));
    let outcome = forward("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\nabc", &plain());
    assert_eq!((outcome.refusal, outcome.ended), (None, 0));
}
