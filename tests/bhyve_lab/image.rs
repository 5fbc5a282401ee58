//! An image that is not what was published is refused, on any system; and `down` touches no folder but its own.

use std::fs;
use std::path::Path;

use crate::{shell_script, text};

const CONTENT: &[u8] = b"no disk at all\n";
/// sha512sum of it.
const SUM: &str = concat!(
    "d8d0e606db77f21dc203a835be6760d1b328c4fa7c2f3a78148fc33073879a15",
    "e2c24b574ea8d7cbfa3e2794957feac6e31389fd202a6979f72eaaacbace2250"
);
const EX_USAGE: i32 = 64;
const EX_DATAERR: i32 = 65;
const EX_NOINPUT: i32 = 66;

fn verify(folder: &Path, image: &str, words: &[&str]) -> (Option<i32>, String) {
    let mut all = vec!["verify", "--image", image];
    all.extend(words);
    let output = shell_script("/bin/sh", "lab", &all).current_dir(folder).output().expect("a shell");
    (output.status.code(), text(&output))
}

#[test]
fn an_image_is_used_only_if_it_is_the_published_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    fs::write(folder.join("a.raw.xz"), CONTENT).expect("a file");
    fs::write(folder.join("a-zfs.raw.xz"), CONTENT).expect("a file");
    let other = SUM.replace('1', "2");
    fs::write(folder.join("list"), format!("SHA512 (b.raw.xz) = {other}\nSHA512 (a.raw.xz) = {SUM}\n"))
        .expect("a file");
    fs::write(folder.join("gnu"), format!("{other}  b.raw.xz\n{SUM}  a.raw.xz\n")).expect("a file");
    fs::write(folder.join("wrong"), format!("SHA512 (a.raw.xz) = {other}\n")).expect("a file");
    fs::write(folder.join("others"), format!("SHA512 (aXraw.xz) = {SUM}\n")).expect("a file");
    let capitals = SUM.to_uppercase();
    for words in [["--sha512", SUM], ["--sha512", &capitals], ["--checksums", "list"], ["--checksums", "gnu"]] {
        let (code, said) = verify(folder, "a.raw.xz", &words);
        assert_eq!(code, Some(0), "{words:?}: {said}");
        assert!(said.contains("is as published"), "{said}");
    }
    for (image, words, code, reason) in [
        ("a.raw.xz", vec!["--sha512", other.as_str()], EX_DATAERR, "is not what was published"),
        ("a.raw.xz", vec!["--checksums", "wrong"], EX_DATAERR, "is not what was published"),
        ("a.raw.xz", vec!["--checksums", "others"], EX_DATAERR, "has no line for a.raw.xz"),
        ("a.raw.xz", vec!["--sha512", "abc"], EX_DATAERR, "128 digits"),
        ("a.raw.xz", vec!["--sha512", "none"], EX_DATAERR, "is no SHA-512 checksum"),
        ("a.raw.xz", vec!["--checksums", "missing"], EX_NOINPUT, "cannot be read"),
        ("a.raw.xz", vec![], EX_USAGE, "needs --checksums"),
        ("b.raw.xz", vec!["--sha512", SUM], EX_NOINPUT, "b.raw.xz cannot be read"),
        ("a-zfs.raw.xz", vec!["--sha512", SUM], EX_DATAERR, "is a ZFS image"),
        ("a.qcow2", vec!["--sha512", SUM], EX_DATAERR, "neither .raw.xz nor .raw"),
    ] {
        let (found, said) = verify(folder, image, &words);
        assert_eq!(found, Some(code), "{image} {words:?}: {said}");
        assert!(said.contains(reason), "{image} {words:?}: {said}");
        assert!(!said.contains("is as published"), "{said}");
    }
}

#[test]
fn down_touches_no_folder_but_a_labs_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let kept = folder.path().join("kept");
    fs::write(&kept, "mine").expect("a file");
    let state = folder.path().display().to_string();
    let down = shell_script("/bin/sh", "lab", &["down", "--state", &state]).output().expect("a shell");
    assert_eq!(down.status.code(), Some(EX_DATAERR), "{}", text(&down));
    assert!(kept.exists());
    let none = folder.path().join("none").display().to_string();
    let down = shell_script("/bin/sh", "lab", &["down", "--state", &none]).output().expect("a shell");
    assert!(down.status.success() && text(&down).contains("nothing to take away"), "{}", text(&down));
}

#[test]
#[cfg(target_os = "linux")]
fn on_another_system_up_says_so_and_makes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = folder.path().join("state");
    let words = ["up", "--image", "a.raw", "--sha512", SUM, "--state", &state.display().to_string()];
    let up = shell_script("/bin/sh", "lab", &words).output().expect("a shell");
    assert_eq!(up.status.code(), Some(69), "{}", text(&up));
    assert!(text(&up).contains("needs FreeBSD") && !state.exists(), "{}", text(&up));
    let test = shell_script("/bin/sh", "lab", &["test", "--state", &state.display().to_string()]).output();
    let test = test.expect("a shell");
    assert_eq!(test.status.code(), Some(69), "{}", text(&test));
    assert!(text(&test).contains("there is no lab"), "{}", text(&test));
}
