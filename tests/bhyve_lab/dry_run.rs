//! `--dry-run` prints every command and runs none; `provision --print` the same on a guest.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::{path, shell_script, shells, text};

/// File, script and words: what is held against the file.
const RUNS: [(&str, &str, &[&str]); 7] = [
    (
        "up.txt",
        "lab",
        &[
            "up",
            "--dry-run",
            "--image",
            "FreeBSD-14.2-RELEASE-amd64.raw.xz",
            "--checksums",
            "CHECKSUM.SHA512-FreeBSD-14.2-RELEASE-amd64",
        ],
    ),
    (
        "up-options.txt",
        "lab",
        &[
            "up",
            "--dry-run",
            "--image",
            "my images/it's.raw",
            "--sha512",
            "00",
            "--firmware",
            "/usr/local/share/uefi-firmware/BHYVE_UEFI.fd",
            "--finished-checksums",
            "--memory",
            "256",
            "--state",
            "/lab/state",
            "--switch",
            "valeA",
            "--management",
            "valeB",
            "--nmdm",
            "0",
            "--binary",
            "/tmp/pen-dsr",
        ],
    ),
    ("test.txt", "lab", &["test", "--dry-run"]),
    ("down.txt", "lab", &["down", "--dry-run"]),
    ("provision-client.txt", "provision", &["--print", "client", "vtnet1", "vtnet0"]),
    ("provision-lb.txt", "provision", &["--print", "lb", "vtnet1", "vtnet0"]),
    ("provision-be1.txt", "provision", &["--print", "be1", "em1"]),
];

fn top() -> String {
    env!("CARGO_MANIFEST_DIR").to_owned()
}

#[test]
fn what_would_be_run_is_as_in_the_files_by_every_shell() {
    for (file, script, words) in RUNS {
        let expected = path("tests/bhyve_lab").join(file);
        for shell in shells() {
            let output = shell_script(shell, script, words).output().expect("a shell");
            assert!(output.status.success(), "{shell} {script} {words:?}: {}", text(&output));
            let said = text(&output).replace(&top(), "@TOP@");
            if std::env::var_os("GOLDEN_WRITE").is_some() {
                fs::write(&expected, &said).expect("tests/bhyve_lab is writable");
            }
            let held = fs::read_to_string(&expected).expect("the file is readable");
            for (number, (held, said)) in held.lines().zip(said.lines()).enumerate() {
                assert_eq!(
                    held,
                    said,
                    "{file}, line {}, by {shell}: if the change is meant, GOLDEN_WRITE=1 cargo test --test bhyve_lab",
                    number + 1
                );
            }
            assert_eq!(held.len(), said.len(), "{file}, by {shell}: as above");
        }
    }
}

#[test]
fn nothing_is_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = folder.path().join("ran");
    let stubs = folder.path().join("bin");
    fs::create_dir(&stubs).expect("a folder");
    for program in [
        "bhyve",
        "bhyveload",
        "bhyvectl",
        "mdconfig",
        "gpart",
        "mount",
        "umount",
        "makefs",
        "kldstat",
        "dd",
        "xz",
        "daemon",
        "cp",
        "mv",
        "rm",
        "mkdir",
        "sysctl",
        "df",
        "cu",
        "sha512",
        "sha512sum",
        "ifconfig",
        "hostname",
        "inetd",
        "service",
        "sysrc",
        "vagrant",
        "timeout",
    ] {
        let stub = stubs.join(program);
        fs::write(&stub, format!("#!/bin/sh\necho {program} \"$@\" >>{}\n", ran.display())).expect("a stub");
        fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).expect("a program");
    }
    let others = std::env::var("PATH").unwrap_or_default();
    for (_, script, words) in RUNS {
        let output = shell_script("/bin/sh", script, words)
            .env("PATH", format!("{}:{others}", stubs.display()))
            .output()
            .expect("a shell");
        assert!(output.status.success(), "{}", text(&output));
        assert!(!ran.exists(), "{script} {words:?} ran: {}", fs::read_to_string(&ran).unwrap_or_default());
    }
}

#[test]
fn wrong_words_are_said_and_end_with_64() {
    for (words, reason) in [
        (vec![], "what is to be done"),
        (vec!["sideways"], "there is no 'sideways'"),
        (vec!["up", "--dry-run"], "needs --image"),
        (vec!["up", "--dry-run", "--image", "a.raw"], "needs --checksums"),
        (vec!["up", "--image"], "--image needs a value"),
        (vec!["up", "--dry-run", "--image", "a.raw", "--sha512", "0", "--checksums", "x"], "either --sha512 or"),
        (vec!["down", "--state", "/tmp/$(reboot)"], "--state takes a path"),
        (vec!["down", "--state", "/tmp/../etc"], "--state takes a path"),
        (vec!["down", "be1"], "down takes no words"),
        (vec!["test", "--dry-run", "host", "none"], "there is no case 'none'"),
        (vec!["test", "--switch", "em0"], "takes the name of a VALE switch"),
        (vec!["test", "--switch", "vale0", "--management", "vale0"], "two switches"),
        (vec!["test", "--memory", "64"], "takes 192 to 65536"),
        (vec!["test", "--nmdm", "-1"], "takes a number"),
        (vec!["on", "--dry-run", "be9", "date"], "needs a guest: client lb be1 be2"),
        (vec!["on", "--dry-run", "be1"], "needs a guest and a command"),
        (vec!["test", "--dry"], "unknown option --dry"),
    ] {
        let output = shell_script("/bin/sh", "lab", &words).output().expect("a shell");
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", text(&output));
        assert!(text(&output).contains(reason), "{words:?}: {}", text(&output));
    }
}
