//! What counts before what, and what is added to what.

use std::time::Duration;

use clap::Parser;
use pen_dsr::config::cli::Cli;
use pen_dsr::config::proxy::{ListenConfig, Method, Mode};
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
fn files_of_pen_have_their_effect_on_the_proxy() {
    let folder = Folder::new();
    let pens = "acl 0 permit all\nblacklist 31\nclient_acl 0\nconn_max 500\nhash\nhttp\nroundrobin\n\
        server 0 acl 0 address 10.0.0.11 port 80 max 3 hard 5 weight 2 prio 1\nstubborn\ntimeout 6\ntracking 7\n\
        tcp_fastclose both\nno block\n";
    let file = folder.file("pen.cfg", pens);
    let loaded = loaded(&["80", "be1", "-F", file.to_str().unwrap()]).unwrap();
    let (balance, proxy) = (&loaded.config.balance, &loaded.config.proxy);
    let backend = &balance.backends[0];
    assert_eq!((backend.port, backend.soft, backend.hard, backend.prio, backend.acl), (80, 3, 5, 1, Some(0)));
    assert_eq!(proxy.selection.method, Method::Hash);
    assert!(proxy.selection.stubborn && !proxy.selection.track && proxy.tcp.fastclose);
    assert!(!balance.hash_port, "that is for Direct Server Return");
    let times = [proxy.timeouts.blacklist, proxy.timeouts.connect, proxy.selection.tracking];
    assert_eq!(times, [31, 6, 7].map(Duration::from_secs));
    assert_eq!(proxy.limits.connections, 500);
    assert!(proxy.listeners.iter().all(|listener| listener.mode != Mode::Stream));
    assert_eq!(loaded.remarks.len(), 1, "{:?}", loaded.remarks);
}

#[test]
fn words_are_a_listener_and_servers_where_no_segment_is_named() {
    let folder = Folder::new();
    let file = "[[listen]]\naddress = \"10.0.0.2:80\"\nmode = \"http\"\n[[backend]]\nhost = \"be1\"\nport = 81\n\
        [[backend]]\nhost = \"be1\"\nport = 82\n[proxy.timeouts]\nconnect = 3\nidle = 4\n";
    let path = folder.file("x.toml", file);
    let path = path.to_str().unwrap();
    let config = load(&["-c", path, "-t", "7", "--transparent", "8080", "be2:8001", "be2:8002"]);
    let names: Vec<&str> = config.balance.backends.iter().map(|backend| backend.name.as_str()).collect();
    assert_eq!(names, ["be1:81", "be1:82", "be2:8001", "be2:8002"]);
    let listeners: Vec<String> = config.proxy.listeners.iter().map(ListenConfig::setting).collect();
    assert_eq!(listeners, ["listen 10.0.0.2:80/tcp", "listen 0.0.0.0:8080/tcp", "listen [::]:8080/tcp"]);
    let of_words: Vec<bool> = config.proxy.listeners.iter().map(|listener| listener.transparent).collect();
    assert_eq!(of_words, [false, true, true], "options of listeners are those of the command line's");
    assert_eq!(config.proxy.timeouts.connect, Duration::from_secs(7));
    assert_eq!(config.proxy.timeouts.idle, Duration::from_secs(4));

    // An interface, in the call or in the file, makes the first word a virtual address, and names stay hosts.
    for words in [&["-i", "eth0"][..], &["-O", "dsr_if eth0"]] {
        let config = load(&[words, &["10.0.0.100:80", "be1:80", "--listen", "8080"]].concat());
        assert_eq!((config.balance.vips.len(), config.proxy.listeners.len()), (1, 2));
        assert_eq!(config.balance.backends[0].name, "be1");
    }
    let with_interface = folder.file("y.toml", "interface = \"eth0\"\n");
    let config = load(&["-c", with_interface.to_str().unwrap(), "10.0.0.100:80", "be1"]);
    assert_eq!((config.balance.vips.len(), config.proxy.listeners.len()), (1, 0));
    assert_eq!(load(&["--protocol", "all", "53", "be1"]).proxy.listeners.len(), 4, "TCP and UDP, IPv4 and IPv6");
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
        (&["be1", "-s", "-S", "5"], "-S has no effect"),
        (&["be1", "be2", "--listen", "80", "--selection", "prio"], "all have the same"),
        (&["be1", "--listen", "80", "--trusted", "10.0.0.0/8"], "no listener reads HTTP"),
        (&["fd00::1", "--listen", "10.0.0.2:80", "--transparent"], "no server is of its clients' family"),
    ] {
        let loaded = loaded(&[&["-i", "eth0", "10.0.0.100"], words].concat()).unwrap();
        assert!(loaded.remarks.iter().any(|line| line.contains(remark)), "{words:?}: {:?}", loaded.remarks);
    }
    assert_eq!(loaded(&["-i", "eth0", "10.0.0.100", "be1", "be2"]).unwrap().remarks, [""; 0]);
    assert_eq!(loaded(&["80", "be1:81:5:9:2:3", "be2"]).unwrap().remarks, [""; 0]);
    let unused = loaded(&["-i", "eth0", "--listen", "80", "-c", "/dev/null", "-O", "add be1"]);
    assert!(unused.is_ok_and(|loaded| loaded.remarks.iter().any(|line| line.contains("eth0 is not used"))));
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
