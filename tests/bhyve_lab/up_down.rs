//! `bhyve/lab up` that breaks off at different places, and `down` after it, on a FreeBSD that is made up: its
//! commands are stubs that write down how they were called.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::{shell_script, text};

/// Stubs: name, and what they do beside writing themselves down. `$STATE` is the lab's folder.
const STUBS: [(&str, &str); 20] = [
    ("uname", "case $1 in -m) echo amd64 ;; *) echo FreeBSD ;; esac"),
    ("id", "echo 0"),
    ("ls", ""),
    ("kldstat", ""),
    ("sysctl", "echo 8589934592"),
    ("df", "printf 'head\\nx 1 1 99999999 1\\n'"),
    ("xz", ""),
    ("dd", "for word in \"$@\"; do case $word in of=*) echo disk >\"${word#of=}\" ;; esac; done"),
    ("mdconfig", "case $1 in -a) echo md7 ;; esac"),
    ("gpart", "printf '=> 3 9 md7 GPT\\n 3 1 md7p1 freebsd-boot\\n 4 8 md7p4 %s\\n' \"${PARTITION:-freebsd-ufs}\""),
    ("mount", "if [ $# -gt 0 ]; then mkdir -p \"$STATE/root/etc\" \"$STATE/root/boot\"; fi"),
    ("umount", "exit ${UMOUNT:-0}"),
    ("makefs", ""),
    ("bhyve", ""),
    ("bhyveload", "exit ${BHYVELOAD:-0}"),
    ("bhyvectl", ""),
    ("daemon", "echo 1 >\"$2\""),
    ("pwait", ""),
    ("pkill", ""),
    ("sha512", "echo \"$WANTED\""),
];

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).expect("a folder");
        for (name, does) in STUBS {
            let calls = folder.path().join("calls");
            let stub = format!("#!/bin/sh\necho {name} \"$@\" >>{}\n{does}\n", calls.display());
            fs::write(bin.join(name), stub).expect("a stub");
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a program");
        }
        fs::write(folder.path().join("a.raw.xz"), "image").expect("a file");
        fs::copy(bin.join("bhyve"), folder.path().join("pen-dsr")).expect("a program");
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code and output of `lab WORD`, with `environment` for the stubs; and how they were called.
    fn lab(&self, words: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let _ = fs::remove_file(self.path("calls"));
        let state = self.path("state").display().to_string();
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let output = shell_script("/bin/sh", "lab", words)
            .args(["--state", &state])
            .env("PATH", path)
            .env("STATE", &state)
            .env("WANTED", "0".repeat(128))
            .env("PEN_DSR_LAB_TRANSPORT", format!("fifo:{}", self.folder.path().display()))
            .envs(environment.iter().copied())
            .output()
            .expect("a shell");
        (output.status.code(), text(&output), fs::read_to_string(self.path("calls")).unwrap_or_default())
    }

    fn up(&self, environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
        let image = self.path("a.raw.xz").display().to_string();
        let binary = self.path("pen-dsr").display().to_string();
        let sum = "0".repeat(128);
        let words = ["up", "--image", &image, "--sha512", &sum, "--binary", &binary, "--boot-seconds", "1"];
        self.lab(&words, environment)
    }
}

fn calls<'a>(calls: &'a str, of: &str) -> Vec<&'a str> {
    calls.lines().filter(|line| line.split(' ').next() == Some(of)).collect()
}

#[test]
fn guests_that_do_not_answer_are_taken_away() {
    let host = Host::new();
    let (code, said, up) = host.up(&[]);
    assert_eq!(code, Some(75), "{said}");
    assert!(said.contains("client does not answer") && said.contains("bhyve/lab down takes away"), "{said}");
    assert_eq!((calls(&up, "bhyveload").len(), calls(&up, "daemon").len(), calls(&up, "makefs").len()), (4, 4, 4));
    assert_eq!((calls(&up, "mdconfig").len(), calls(&up, "umount").len()), (2, 1), "both undone at once\n{up}");
    let (code, said, _) = host.up(&[]);
    assert_eq!(code, Some(73), "{said}");
    assert!(said.contains("a lab is there"), "{said}");
    let (code, said, down) = host.lab(&["down"], &[]);
    assert_eq!(code, Some(0), "{said}");
    let ended: Vec<_> = ["be2", "be1", "lb", "client"]
        .iter()
        .flat_map(|name| ["force-poweroff", "destroy"].map(|how| format!("bhyvectl --vm=pen-dsr-{name} --{how}")))
        .collect();
    assert_eq!(calls(&down, "bhyvectl"), ended, "{down}");
    assert!(calls(&down, "umount").is_empty() && calls(&down, "mdconfig").is_empty(), "{down}");
    assert!(!host.path("state").exists());
}

#[test]
fn a_zfs_image_is_refused_and_its_disk_taken_away() {
    let host = Host::new();
    let (code, said, up) = host.up(&[("PARTITION", "freebsd-zfs")]);
    assert_eq!(code, Some(65), "{said}");
    assert!(said.contains("ZFS images are not supported") && calls(&up, "mount").is_empty(), "{said}");
    let (code, said, down) = host.lab(&["down"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(calls(&down, "mdconfig"), ["mdconfig -d -u md7"]);
    assert!(calls(&down, "bhyvectl").is_empty() && !host.path("state").exists(), "{down}");
}

#[test]
fn a_mount_that_was_left_is_undone_before_the_folder_goes() {
    let host = Host::new();
    let (code, said, _) = host.up(&[("UMOUNT", "1")]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said, down) = host.lab(&["down"], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(calls(&down, "umount"), [format!("umount -f {}/root", host.path("state").display())]);
    assert_eq!(calls(&down, "mdconfig"), ["mdconfig -d -u md7"]);
    assert!(!host.path("state").exists());
}

#[test]
fn a_guest_that_cannot_be_loaded_is_taken_away_alone() {
    let host = Host::new();
    let (code, said, up) = host.up(&[("BHYVELOAD", "1")]);
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains("bhyveload cannot load client") && calls(&up, "daemon").is_empty(), "{said}");
    let (code, _, down) = host.lab(&["down"], &[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        calls(&down, "bhyvectl"),
        ["bhyvectl --vm=pen-dsr-client --force-poweroff", "bhyvectl --vm=pen-dsr-client --destroy"]
    );
}

#[test]
fn an_image_that_is_not_the_published_one_starts_nothing() {
    let host = Host::new();
    let (code, said, up) = host.up(&[("WANTED", &"1".repeat(128))]);
    assert_eq!(code, Some(65), "{said}");
    assert!(calls(&up, "mdconfig").is_empty() && calls(&up, "xz").is_empty() && !host.path("state").exists(), "{up}");
}
