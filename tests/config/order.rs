//! What counts before what, and what is added to what.

use std::time::Duration;

use clap::Parser;
use pen_dsr::config::cli::Cli;
use pen_dsr::config::{self, ControlAddress, Lookup, WhenEmpty};
use pen_dsr::failure::Sysexit;
use pen_dsr::lb::Protocols;
use pen_dsr::probe::Check;

use crate::call::{Folder, load, loaded};

const FILE: &str = r#"
interface = "eth0"
flow-entries = 5000
daemon = true
control = ["/run/a"]
[balance]
seed = "1"
protocol = "tcp"
slow-start = 5
[[vip]]
address = "10.0.0.100"
port = 80
when-empty = "reject"
[[vip]]
address = "10.0.0.100"
port = 53
protocol = "udp"
[[backend]]
host = "be1"
weight = 2
[health]
check = "http"
path = "/x"
host = "www"
"#;

#[test]
fn the_command_line_counts_before_the_file_and_commands_before_both() {
    let folder = Folder::new();
    let file = folder.file("x.toml", FILE);
    let commands = folder.file("commands", "server be1 weight 4\nslow_start 7\nadd be3\n");
    let (file, commands) = (file.to_str().unwrap(), commands.to_str().unwrap());

    let alone = load(&["-c", file]);
    assert_eq!(alone.process.interface.as_ref().map(ToString::to_string).as_deref(), Some("eth0"));
    assert_eq!(alone.process.flow_entries, 8192, "a power of two, upwards");
    assert_eq!((alone.balance.seed.0, alone.balance.slow_start), (1, Duration::from_secs(5)));
    assert!(matches!(&alone.balance.health.check, Check::Http { path, .. } if path == "/x"));
    let protocols: Vec<Protocols> = alone.balance.vips.iter().map(|vip| vip.protocols).collect();
    assert_eq!(protocols, [Protocols::Tcp, Protocols::Udp]);

    let words = ["-i", "eth1", "-c", file, "--seed", "2", "--slow-start", "6", "--check", "tcp:80", "-f", "-r"];
    let with_words = load(&[&words[..], &["10.0.0.101", "be2"]].concat());
    assert_eq!(with_words.process.interface.as_ref().map(ToString::to_string).as_deref(), Some("eth1"));
    assert!(!with_words.process.daemon && with_words.balance.hash_port);
    assert_eq!((with_words.balance.seed.0, with_words.balance.slow_start), (2, Duration::from_secs(6)));
    assert_eq!(with_words.balance.health.check, Check::Tcp { port: Some(80) });
    let names: Vec<&str> = with_words.balance.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["be1", "be2"], "the file's first");
    let vips: Vec<String> = with_words.balance.vips.iter().map(ToString::to_string).collect();
    assert_eq!(vips, ["10.0.0.100:80", "10.0.0.100:53", "10.0.0.101"]);
    assert_eq!(with_words.balance.vips[2].protocols, Protocols::Tcp, "as [balance] says");

    let all = load(&[&words[..], &["-F", commands, "-O", "server be1 weight 5", "-O", "no hash"]].concat());
    assert_eq!(all.balance.backends[0].weight, 5);
    assert_eq!(all.balance.backends.len(), 2);
    assert_eq!(all.balance.slow_start, Duration::from_secs(7));
    assert!(all.balance.hash_port);
}

#[test]
fn what_a_vip_says_itself_counts_before_what_is_said_of_all() {
    let folder = Folder::new();
    let file = folder.file("x.toml", FILE);
    let config = load(&["-c", file.to_str().unwrap(), "--protocol", "all", "--when-empty", "drop"]);
    assert_eq!(config.balance.vips[0].protocols, Protocols::All, "said for all, by the file and by the option");
    assert_eq!(config.balance.vips[1].protocols, Protocols::Udp);
    assert_eq!(config.balance.vips[0].when_empty, WhenEmpty::Reject);
    let config = load(&["-c", file.to_str().unwrap(), "--when-empty", "reject"]);
    assert_eq!(config.balance.vips[1].when_empty, WhenEmpty::Reject);
}

#[test]
fn places_for_commands_add_up() {
    let folder = Folder::new();
    let file = folder.file("x.toml", FILE);
    let config = load(&["-c", file.to_str().unwrap(), "-C", "/run/b", "-C", "/run/a"]);
    let unix = |path: &str| ControlAddress::Unix(path.into());
    assert_eq!(config.process.control, [unix("/run/a"), unix("/run/b")]);
}

#[test]
fn lists_may_be_named_before_they_have_rules_as_the_whole_counts() {
    let commands = ["-O", "client_acl 1", "-O", "acl 1 permit 10.0.0.0/8", "-O", "standby", "-O", "debug 1"];
    let config = load(&[&["-i", "eth0", "10.0.0.100", "be1"], &commands[..]].concat());
    assert_eq!(config.balance.client_acl, Some(1));
    assert!(config.process.standby);
    assert_eq!(config.process.debug, 1);
}

#[test]
fn files_are_included_from_beside_the_file_that_includes_them() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("more")).unwrap();
    let main = folder.file("main", "include more/first\nserver be1 weight 3\n");
    folder.file("more/first", "add be2\ninclude second\n");
    folder.file("more/second", "add be3\n");
    let config = load(&["-i", "eth0", "10.0.0.100", "be1", "-F", main.to_str().unwrap()]);
    let names: Vec<&str> = config.balance.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["be1", "be2", "be3"]);
    folder.file("more/second", "add be3\nadd be2\n");
    let folder_of = folder.path().display();
    let failure = loaded(&["-i", "eth0", "10.0.0.100", "be1", "-F", main.to_str().unwrap()]).unwrap_err();
    assert!(failure.message.starts_with(&format!("{folder_of}/more/second:2: `add be2`")), "{failure}");
}

#[test]
fn files_of_pen_are_read_and_what_has_no_effect_is_remarked() {
    let folder = Folder::new();
    // What Pen itself writes.
    let pens = "# Generated by pen\nno acl 1\nno ascii\nblacklist 30\nno block\nclient_acl 0\nconn_max 500\n\
        control_acl 0\ndebug 0\nno delayed_forward\nno hash\nno http\nno log\nroundrobin\n\
        server 0 acl 0 address 10.0.0.11 port 80 max 0 hard 0 weight 2 prio 0\nno stubborn\ntimeout 5\ntracking 0\n\
        no web_stats\nno weight\n";
    let all = folder.file("pen.cfg", pens);
    // In Pen, list 0 without rules is everybody; here that has to be said.
    let failure = loaded(&["-i", "eth0", "10.0.0.100:80", "be1", "-F", all.to_str().unwrap()]).unwrap_err();
    assert!(failure.message.contains("access list 0 has no rules"), "{failure}");
    let all = folder.file("pen.cfg", format!("acl 0 permit all\n{pens}"));
    let loaded = loaded(&["-i", "eth0", "10.0.0.100:80", "be1", "-F", all.to_str().unwrap()]).unwrap();
    let backend = &loaded.config.balance.backends[0];
    assert_eq!((backend.name.as_str(), backend.weight), ("be1", 2));
    assert_eq!(backend.address, "10.0.0.11".parse().ok());
    assert!(loaded.config.balance.hash_port);
    let remarked = |word: &str| loaded.remarks.iter().any(|remark| remark.contains(word));
    for word in ["`no stubborn`: that has no effect", "`timeout 5`: that", "`no weight`: that"] {
        assert!(remarked(word), "{word}: {:?}", loaded.remarks);
    }
}

#[test]
fn loading_again_reads_the_files_again() {
    let folder = Folder::new();
    let file = folder.file("x.toml", FILE);
    let cli = Cli::try_parse_from(["pen-dsr", "-c", file.to_str().unwrap()]).unwrap();
    let before = config::load(&cli, Lookup::Nothing).unwrap();
    assert_eq!(config::load(&cli, Lookup::Nothing).unwrap(), before);
    folder.file("x.toml", FILE.replace("weight = 2", "weight = 3"));
    let after = config::load(&cli, Lookup::Nothing).unwrap();
    assert_eq!(config::difference(&before, &after), ["~ backend be1 weight: 2 -> 3"]);
    folder.file("x.toml", "wrong");
    assert_eq!(config::load(&cli, Lookup::Nothing).unwrap_err().code, Sysexit::Config);
}

#[test]
fn what_may_not_be_meant_is_remarked() {
    for (words, remark) in [
        (&["be1::::0"][..], "nobody is served"),
        (&["be1", "-O", "maintenance be1"], "in maintenance"),
        (&["web::5"], "have no effect"),
        (&["--table-size", "251", "be1", "be2", "be3"], "slots are few"),
        (&["-U", "be1", "--check", "tcp:53"], "UDP alone"),
        (&["be1", "-O", "acl 1 permit all"], "acl 1 is not used"),
        (&["be1", "-O", "acl 1 deny all", "-O", "client_acl 1"], "permits nobody"),
        (&["be1", "-X"], "nowhere to give one"),
    ] {
        let loaded = loaded(&[&["-i", "eth0", "10.0.0.100"], words].concat()).unwrap();
        assert!(loaded.remarks.iter().any(|line| line.contains(remark)), "{words:?}: {:?}", loaded.remarks);
    }
    assert_eq!(loaded(&["-i", "eth0", "10.0.0.100", "be1", "be2"]).unwrap().remarks, [""; 0]);
}

#[test]
fn vips_and_backends_of_both_families_mix() {
    let config =
        load(&["-U", "10.0.0.100", "--vip", "[fd00::100]:53", "10.0.0.11", "fd00::12", "be3@02:00:00:00:00:13"]);
    assert_eq!((config.balance.vips.len(), config.balance.backends.len()), (2, 3));
    assert_eq!(config.balance.backends[2].address, None);
}

#[test]
fn a_name_is_looked_up_at_the_end_and_one_with_an_address_or_a_mac_never() {
    let cli = Cli::try_parse_from([
        "pen-dsr",
        "10.0.0.100",
        "no-such-host.invalid",
        "also-none.invalid@02:00:00:00:00:13",
        "-O",
        "server 0 address 10.0.0.11",
    ])
    .unwrap();
    let config = config::load(&cli, Lookup::Names).unwrap();
    let backend = &config.balance.backends[0];
    assert_eq!((backend.address, backend.looked_up), ("10.0.0.11".parse().ok(), false));
}

#[test]
fn thousands_of_vips_and_backends_are_taken_and_no_more() {
    let file = |count: usize| {
        let mut text = "interface = \"eth0\"\n".to_owned();
        for n in 0..count {
            let (high, low) = (n / 250, n % 250 + 1);
            text += &format!("[[vip]]\naddress = \"10.1.{high}.{low}\"\nport = 80\n");
            text += &format!("[[backend]]\nhost = \"10.2.{high}.{low}\"\nport = 80\nweight = 3\n");
        }
        text
    };
    let config = crate::call::load_text(&file(4096)).unwrap();
    assert_eq!((config.balance.vips.len(), config.balance.backends.len()), (4096, 4096));
    let failure = crate::call::load_text(&file(4097)).unwrap_err();
    assert!(failure.message.contains("more than 4096"), "{failure}");
}
