//! `docs/pen-dsr.example.toml` has every key, and says the defaults that there are.

use std::collections::BTreeSet;

use crate::call::{Folder, load, load_text};
use pen_dsr::failure::Failure;

const EXAMPLE: &str = include_str!("../../docs/pen-dsr.example.toml");

#[test]
fn the_example_is_what_holds_without_it() {
    let mut example = load_text(EXAMPLE).unwrap();
    let address = example.balance.backends[1].address.take();
    assert_eq!(address, "10.0.0.12".parse().ok());
    assert_eq!(example, load(&["-i", "eth0", "10.0.0.100", "10.0.0.11", "be2.example"]));
}

#[test]
fn pen_dsr_check_accepts_the_example() {
    let folder = Folder::new();
    folder.file("pen-dsr.toml", EXAMPLE);
    let answer = folder.pen_dsr(&["check", "-c", "pen-dsr.toml"]);
    assert_eq!(answer.code, Some(0), "{}", answer.complained);
    assert!(answer.said.starts_with("eth0: 1 virtual address, 2 backends\n"), "{}", answer.said);
    assert!(!answer.said.contains("warning"), "{}", answer.said);
}

/// Lines of the example that hold a key, with their table, whether they are commented out, and that key.
fn keys() -> Vec<(&'static str, bool, &'static str)> {
    let mut table = "";
    let mut keys = Vec::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix('#').unwrap_or(line);
        if bare.starts_with('[') {
            table = bare.trim_matches(['[', ']']);
        } else if let Some((key, _)) = bare.split_once(" = ")
            && !key.contains(' ')
        {
            keys.push((table, bare != line, key));
        }
    }
    keys
}

/// The keys that a table knows, as the message about one that it does not know lists them.
fn known(table: &str) -> BTreeSet<String> {
    let head = match table {
        "" => String::new(),
        "vip" | "backend" => format!("[[{table}]]\n"),
        table => format!("[{table}]\n"),
    };
    let refused = load_text(&format!("{head}qqqqqqqqqqqq = 1\n")).expect_err("no such key");
    let (_, list) = refused.message.rsplit_once("these are known: ").expect("it lists them");
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_has_every_key() {
    let tables = ["balance", "vip", "backend", "health", "timeouts", "tarpit"];
    for table in ["", "balance", "vip", "backend", "health", "timeouts", "tarpit"] {
        let mut shown: BTreeSet<String> =
            keys().iter().filter(|(of, ..)| *of == table).map(|(.., key)| (*key).to_owned()).collect();
        if table.is_empty() {
            shown.extend(tables.map(str::to_owned));
            shown.insert("acl".to_owned());
        }
        assert_eq!(shown, known(table), "[{table}]");
    }
}

#[test]
fn what_is_commented_out_can_be_taken() {
    // In order: the lists that others refer to, then the kinds of checks that their keys belong to.
    let lists = ["#1 = [", "#2 = ["];
    let mut tried = 0;
    for line in EXAMPLE.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")) {
        let kind = ["http", "udp", "dns"].into_iter().find(|kind| line.contains(&format!("# of {kind}")));
        let mut text = String::new();
        for other in EXAMPLE.lines() {
            let list = lists.iter().any(|list| other.starts_with(list));
            // The tarpit is a table of its own: its keys come with it, and a list for it.
            let tarpit = line.starts_with("#[tarpit]") || line.starts_with("#acl = ") || line.starts_with("#rate = ");
            // What stays needs a place for the names, too.
            let names = line.starts_with("#xdp-pin") && other.starts_with("#flow-file");
            let with_it = names
                || (tarpit
                    && (other.starts_with("#[tarpit]") || other.starts_with("#acl") || other.starts_with("#rate")));
            text += if other == line || list || with_it { other.trim_start_matches('#') } else { other };
            text.push('\n');
            if other == "[acl]" {
                text += "3 = [\"permit 10.99.0.0/16\"]\n";
            }
        }
        if let Some(kind) = kind {
            if kind == "udp" {
                text = text.replace("#port = ", "port = ");
            }
            text = text.replace("check = \"link\"", &format!("check = \"{kind}\""));
            if kind == "dns" {
                text = text.replace("#name = ", "name = ");
            }
        } else if line.starts_with("#port") {
            text = text.replace("check = \"link\"", "check = \"tcp\"");
        }
        // A second arm, and a MAC of its own, are for ports of netmap.
        if line.starts_with("#out = ") || line.starts_with("#mac = ") {
            text = text.replace("interface = \"eth0\"", "interface = \"vale0:lb\"");
        }
        let loaded: Result<_, Failure> = load_text(&text);
        assert!(loaded.is_ok(), "{line}: {}", loaded.unwrap_err());
        tried += 1;
    }
    assert!(tried > 20, "{tried} lines");
}
