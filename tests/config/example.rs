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
        "vip" | "backend" | "listen" => format!("[[{table}]]\n"),
        "listen.tls" | "listen.backend-tls" => format!("[[listen]]\naddress = \"80\"\n[{table}]\n"),
        "listen.tls.name" => format!("[[listen]]\naddress = \"80\"\n[[{table}]]\n"),
        table => format!("[{table}]\n"),
    };
    let refused = load_text(&format!("{head}qqqqqqqqqqqq = 1\n")).expect_err("no such key");
    let (_, list) = refused.message.rsplit_once("these are known: ").expect("it lists them");
    list.split(", ").map(str::to_owned).collect()
}

#[test]
fn the_example_has_every_key() {
    let tables = [
        "",
        "balance",
        "vip",
        "backend",
        "listen",
        "listen.tls",
        "listen.tls.name",
        "listen.backend-tls",
        "proxy",
        "proxy.selection",
        "proxy.limits",
        "proxy.timeouts",
        "proxy.tcp",
        "proxy.access-log",
        "health",
        "timeouts",
        "tarpit",
    ];
    for table in tables {
        let mut shown: BTreeSet<String> =
            keys().iter().filter(|(of, ..)| *of == table).map(|(.., key)| (*key).to_owned()).collect();
        // The tables in it.
        let inner = tables.iter().filter_map(|inner| match inner.rsplit_once('.') {
            Some((outer, name)) if outer == table => Some(name.to_owned()),
            None if table.is_empty() && !inner.is_empty() => Some((*inner).to_owned()),
            _ => None,
        });
        shown.extend(inner);
        if table.is_empty() {
            shown.insert("acl".to_owned());
        }
        assert_eq!(shown, known(table), "[{table}]");
    }
}

#[test]
fn what_is_commented_out_can_be_taken() {
    // In order: the lists that others refer to, then the kinds of checks that their keys belong to.
    let lists = ["#1 = [", "#2 = ["];
    // Tables that are commented out as a whole, each key with all of the others.
    let groups = ["[[listen", "[listen", "[proxy.access-log]"];
    let group = |at: usize| -> Option<&str> {
        let mut before = EXAMPLE.lines().take(at + 1).collect::<Vec<_>>().into_iter().rev();
        let head = before.find(|line| line.trim_start_matches('#').starts_with('['))?.strip_prefix('#')?;
        groups.iter().find(|group| head.starts_with(*group)).map(|group| group.trim_matches(['[', ']']))
    };
    let of_groups: Vec<Option<&str>> = (0..EXAMPLE.lines().count()).map(group).collect();
    let mut tried = 0;
    let commented = |(_, line): &(usize, &str)| line.starts_with('#') && !line.starts_with("# ") && *line != "#";
    for (at, line) in EXAMPLE.lines().enumerate().filter(commented) {
        let whole = of_groups[at];
        let kind =
            ["http", "udp", "dns"].into_iter().find(|kind| whole.is_none() && line.contains(&format!("# of {kind}")));
        let mut text = String::new();
        for (number, (other, of)) in EXAMPLE.lines().zip(&of_groups).enumerate() {
            if whole.is_some() && *of == whole {
                text += other.strip_prefix('#').filter(|bare| !bare.starts_with(' ')).unwrap_or(other);
                text.push('\n');
                continue;
            }
            let list = lists.iter().any(|list| other.starts_with(list));
            // The tarpit is a table of its own: its keys come with it, and a list for it.
            let tarpit = line.starts_with("#[tarpit]") || line.starts_with("#acl = ") || line.starts_with("#rate = ");
            // What stays needs a place for the names, too.
            let names = line.starts_with("#xdp-pin") && other.starts_with("#flow-file");
            let with_it = names
                || (tarpit
                    && (other.starts_with("#[tarpit]") || other.starts_with("#acl") || other.starts_with("#rate")));
            text += if number == at || list || with_it { other.trim_start_matches('#') } else { other };
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
                text = text.replace("#name = \"www.example.org\"   # of dns", "name = \"www.example.org\"   # of dns");
            }
        } else if line == "#[[backend]]" || line.starts_with("#path = \"/run") {
            // A server at a Unix socket, beside a listener instead of the VIP.
            text = "[[listen]]\naddress = \"80\"\n[[backend]]\npath = \"/run/app.sock\"\n".to_owned();
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
