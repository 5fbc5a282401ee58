//! A capture through the whole of it: what the lab's client sent to the balancer, decided again from the file.

use std::path::PathBuf;
use std::process::Command;

use pcap_file::pcap::PcapReader;

const CONFIGURATION: [&str; 6] = [
    "10.0.0.100",
    "--vip",
    "fd00::100",
    "10.0.0.11@02:00:00:00:00:11",
    "10.0.0.12@02:00:00:00:00:12",
    "10.0.0.13@02:00:00:00:00:13",
];

fn capture() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/demo.pcap")
}

fn pen_dsr(words: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_pen-dsr")).args(CONFIGURATION).args(words).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn frames(path: &std::path::Path) -> Vec<Vec<u8>> {
    let mut reader = PcapReader::new(std::fs::File::open(path).expect("the file")).expect("a pcap file");
    std::iter::from_fn(|| reader.next_packet().map(|p| p.expect("a whole frame").data.into_owned())).collect()
}

#[test]
fn a_replayed_capture_is_decided_as_explain_says() {
    let replayed = pen_dsr(&["replay", &capture().display().to_string()]);
    let mut compared = 0;
    for line in replayed.lines().filter(|line| line.contains("-> backend ")) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (client, backend) = (words[2], words[words.iter().position(|w| *w == "backend").expect("a backend") + 1]);
        let explained = pen_dsr(&["explain", client]);
        assert!(explained.contains(&format!("-> {backend} ")), "{line}\n{explained}");
        compared += 1;
    }
    assert!(compared >= 50, "{compared} frames went to backends:\n{replayed}");
}

#[test]
fn what_is_written_differs_from_what_was_read_in_the_two_macs_only() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = directory.path().join("out.pcap");
    pen_dsr(&["replay", &capture().display().to_string(), "--write", &written.display().to_string()]);
    let read: Vec<Vec<u8>> = frames(&capture());
    let to_backends: Vec<Vec<u8>> =
        frames(&written).into_iter().filter(|f| f[..5] == [2, 0, 0, 0, 0] && f[5] >= 0x11 && f[5] <= 0x13).collect();
    assert!(to_backends.len() >= 50, "{} frames", to_backends.len());
    for frame in to_backends {
        assert_eq!(frame[6..12], [2, 0, 0, 0, 0, 2], "from the balancer");
        assert!(read.iter().any(|original| original[12..] == frame[12..]), "a frame that nobody sent");
    }
}
