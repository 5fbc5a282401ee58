//! `bhyve/lab test` on four guests that are made up (`guest/tools` beside this): every claim holds when all is well,
//! and does not when what it claims is broken.

use std::fs;
use std::thread;

use crate::bhyve_lab::line::Guest;
use crate::{path, shell_script, text};

/// What is broken, in which case of `lab test`, and a claim that has to notice.
const FAULTS: [(&str, &str, &str); 16] = [
    ("bpf", "replies", "it has netmap(4) open"),
    ("silence", "serve", "all clients get an answer, from the backend that explain names"),
    ("one-backend", "serve", "both backends take part"),
    ("echo", "serve", "a datagram of each client returns"),
    ("balancer-address", "serve", "be1 has seen its clients by their own addresses, TCP and UDP, and nobody else"),
    ("ping", "fragments", "pings are answered"),
    ("fragments", "fragments", "a datagram in fragments returns"),
    ("damaged", "replies", "ten megabytes come whole"),
    ("replies-cross", "replies", "the balancer has read less than a tenth of them"),
    ("host", "host", "its own TCP service answers"),
    ("fails-nothing-over", "backend", "the other one serves everybody"),
    ("no-reload", "reload", "a backend that is no longer listed gets nobody"),
    ("broken-connection", "restart", "the download is still going on"),
    ("options", "replies", "the interface has the flags and options that it had"),
    ("end", "replies", "TERM ends it"),
    ("vip-stays", "replies", "the VIP no longer answers"),
];

/// Exit code and output of `lab test CASE...` in a world with `fault`.
fn lab_test(fault: &str, cases: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let world = folder.path().display().to_string();
    fs::write(folder.path().join("fault"), fault).expect("a file");
    let start =
        |name: &&str| Guest::start("/bin/sh", folder.path().into(), name, &[("WORLD", world.as_str()), ("NAME", name)]);
    let _guests: Vec<Guest> = ["client", "lb", "be1", "be2"].iter().map(start).collect();
    let words = [&["test"], cases].concat();
    let output = shell_script("/bin/sh", "lab", &words)
        .env("PEN_DSR_LAB_TRANSPORT", format!("fifo:{world}"))
        .env("PEN_DSR_LAB_FILES", path("tests/bhyve_lab/guest"))
        .output()
        .expect("a shell");
    (output.status.code(), text(&output))
}

#[test]
fn every_claim_holds_when_all_is_well() {
    let (code, said) = lab_test("none", &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("NOT ok") && said.lines().filter(|line| line.starts_with("ok ")).count() > 45, "{said}");
    assert!(said.contains(" claims held, 0 did not."), "{said}");
    // A claim that no run without faults makes is misspelt here.
    for (_, _, claim) in FAULTS {
        assert!(said.lines().any(|line| line.strip_prefix("ok      ") == Some(claim)), "{claim}\n{said}");
    }
}

#[test]
fn a_claim_does_not_hold_when_what_it_claims_is_broken() {
    let runs = FAULTS.map(|(fault, case, claim)| (fault, claim, thread::spawn(move || lab_test(fault, &[case]))));
    for (fault, claim, run) in runs {
        let (code, said) = run.join().expect("the run ends");
        assert_eq!(code, Some(1), "{fault}: {said}");
        assert!(said.lines().any(|line| line.strip_prefix("NOT ok  ") == Some(claim)), "{fault}: {said}");
    }
}
