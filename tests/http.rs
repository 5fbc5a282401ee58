//! What holds for all bytes that claim to be HTTP, on random ones; and the fuzz target's corpus as an ordinary test.

#[path = "common/http.rs"]
mod invariants;

use std::fs;
use std::path::{Path, PathBuf};

use pen_dsr::proxy::http::Asked;
use proptest::prelude::*;

/// Whole messages, and what attackers make of them; `Q`: a request, `A`: a response.
const SEEDS: &[(char, &str)] = &[
    ('Q', "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ('Q', "GET /x?y HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\nX: y\r\nTE: trailers\r\n\r\n"),
    ('Q', "GET / HTTP/1.0\r\n\r\n\r\nGET http://b:80 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"),
    ('Q', "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"),
    ('Q', "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (
        'Q',
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\nHost: b\r\n\r\n",
    ),
    ('Q', "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG"),
    ('Q', "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n"),
    ('Q', "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\nhello\r\n0\r\n\r\n"),
    ('Q', "GET / HTTP/1.1\nHost: a\r\n folded\r\nContent_Length: 5\r\nContent-Length : 5\r\n\r\n"),
    ('Q', "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ('Q', "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX-Forwarded-For: 1\r\nForwarded: for=1\r\n\r\n"),
    ('A', "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"),
    (
        'A',
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ),
    ('A', "HTTP/1.0 200\r\nServer: x\r\n\r\nuntil the end"),
    ('A', "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n\0\x01"),
    ('A', "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
    ('A', "HTTP/1.1 304 x\r\nContent-Length: 5\r\nKeep-Alive: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"),
    ('A', "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\nX: a\rb\r\n\r\n"),
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/http")
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let seed = |(number, (kind, text)): (usize, &(char, &str))| {
        let mode = if *kind == 'A' { 1 + (number as u8 % 8) * 2 } else { 0 };
        (format!("seed-{number:02}"), invariants::input(mode, number as u8, 0, text.as_bytes()))
    };
    SEEDS.iter().enumerate().map(seed).collect()
}

#[test]
fn the_seeds_are_in_the_corpus() {
    if std::env::var_os("GOLDEN_WRITE").is_some() {
        fs::create_dir_all(corpus()).expect("fuzz/corpus/http can be made");
        for (name, input) in seeds() {
            fs::write(corpus().join(name), input).expect("fuzz/corpus/http is writable");
        }
    }
    for (name, input) in seeds() {
        let file = fs::read(corpus().join(&name)).unwrap_or_default();
        assert!(file == input, "{name} is not what the table says: GOLDEN_WRITE=1 cargo test --test http");
    }
}

#[test]
fn every_file_of_the_corpus_still_passes() {
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus()).expect("fuzz/corpus/http is there").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    for file in &files {
        println!("{}", file.display());
        invariants::run(&fs::read(file).expect("a readable file"));
    }
    assert!(files.len() >= SEEDS.len(), "{} files", files.len());
}

#[test]
fn it_does_not_matter_where_a_message_is_cut() {
    let http10 = Asked { http10: true, ..Asked::default() };
    let upgrade = Asked { upgrade: true, ..Asked::default() };
    for (kind, text) in SEEDS {
        let kinds = if *kind == 'A' { vec![Some(Asked::default()), Some(http10), Some(upgrade)] } else { vec![None] };
        for asked in kinds {
            let whole = invariants::read(text.as_bytes(), &[], asked);
            for first in 0..=text.len() {
                assert_eq!(invariants::read(text.as_bytes(), &[first], asked), whole, "{text:?} cut at {first}");
                for second in first..=text.len() {
                    assert_eq!(invariants::read(text.as_bytes(), &[first, second], asked), whole, "{text:?}");
                }
            }
        }
    }
}

/// Pieces that messages are made of, well and badly.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let texts: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /x HTTP/1.1\r\n",
        "GET http://b/ HTTP/1.1\r\n",
        "PUT * HTTP/1.0\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 204 x\r\n",
        "HTTP/1.1 100 x\r\n",
        "HTTP/1.1 101 x\r\n",
        "Host: a\r\n",
        "Content-Length: 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Connection: close, te\r\n",
        "Connection: keep-alive\r\n",
        "Upgrade: x\r\n",
        "Connection: upgrade\r\n",
        "X-Forwarded-For: 1\r\n",
        "X_Forwarded_For: 1\r\n",
        "TE: x\r\n",
        "X: y\r\n",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\r",
        " ",
        "\t",
        ":",
        "\0",
        ",",
        "5\r\nhello\r\n",
        "5;x\r\n",
        "hello",
        "0\r\n\r\n",
        "0\r\nX: y\r\n\r\n",
        "5",
        "0",
        "a",
    ];
    prop::collection::vec(prop::sample::select(texts), 1..24).prop_map(|texts| texts.concat().into_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn messages_made_of_pieces(mode in 0..16u8, cut: u8, stride: u8, bytes in pieces()) {
        invariants::run(&invariants::input(mode, cut, stride, &bytes));
    }

    #[test]
    fn messages_that_start_well(mode in 0..8u8, cut: u8, stride: u8, bytes in pieces()) {
        let start = if mode % 2 == 0 {
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        } else {
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        };
        invariants::run(&invariants::input(mode & !2, cut, stride, &[start.as_bytes(), &bytes].concat()));
    }

    #[test]
    fn noise(mode: u8, cut: u8, stride: u8, bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        invariants::run(&invariants::input(mode, cut, stride, &bytes));
    }

    #[test]
    fn a_byte_changed(seed in prop::sample::select(SEEDS), at: prop::sample::Index, byte: u8, mode in 0..16u8, stride: u8) {
        let mut bytes = seed.1.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let mode = if seed.0 == 'A' { mode | 1 } else { mode & !1 };
        invariants::run(&invariants::input(mode, 0, stride, &bytes));
    }
}
