use super::*;
use crate::config::{Config, Lookup, VipConfig};

fn parse(line: &str) -> Command {
    Command::parse(line).unwrap_or_else(|failure| panic!("{line}: {failure}"))
}

fn name(name: &str) -> Which {
    Which::Name(name.to_owned())
}

/// One VIP, two backends.
fn config() -> Config {
    let mut config = Config::default();
    config.balance.vips = vec![VipConfig::new("10.0.0.100".parse().unwrap(), 80)];
    config.balance.backends = ["be1", "10.0.0.12"].map(|word| parse_backend(word).unwrap()).to_vec();
    config
}

/// The configuration after commands, and what the last one answers.
fn after(commands: &[&str]) -> Result<(Config, String), Failure> {
    let mut last = (config(), String::new());
    for line in commands {
        let Command::Configure(edit) = parse(line) else { panic!("{line} is no edit") };
        last = last.0.edited(&edit, Lookup::Nothing)?;
    }
    Ok(last)
}

#[test]
fn questions_are_read() {
    for (line, query) in [
        ("servers", Query::Servers),
        ("  servers  ", Query::Servers),
        ("server 1", Query::Server(Which::Number(1))),
        ("server be1", Query::Server(name("be1"))),
        ("status", Query::Status),
        ("mode", Query::Mode),
        ("pid", Query::Pid),
        ("recent", Query::Recent(Duration::from_secs(300))),
        ("recent 7", Query::Recent(Duration::from_secs(7))),
        ("flows", Query::Flows(None)),
        ("flows be1", Query::Flows(Some(name("be1")))),
        ("explain 192.0.2.7:40000", Query::Explain(parse_client("192.0.2.7:40000").unwrap())),
        ("table", Query::Table),
        ("control", Query::Control),
        ("log", Query::Log),
        ("listen", Query::Listen),
        ("debug", Query::Debug),
        ("acl", Query::Acl(None)),
        ("acl 3", Query::Acl(Some(3))),
        ("client_acl", Query::ClientAcl),
        ("control_acl", Query::ControlAcl),
        ("tarpit_acl", Query::TarpitAcl),
        ("write", Query::Write(None)),
        ("write /tmp/with blank.toml", Query::Write(Some("/tmp/with blank.toml".into()))),
        ("help", Query::Help(None)),
        ("help acl", Query::Help(Some("acl".to_owned()))),
    ] {
        assert_eq!(parse(line), Command::Query(query), "{line}");
    }
}

#[test]
fn acts_are_read() {
    for (line, act) in [
        ("drain be1", Act::Drain(name("be1"))),
        ("drain 0", Act::Drain(Which::Number(0))),
        ("undrain fd00::11", Act::Undrain(name("fd00::11"))),
        ("server be1 blacklist 30", Act::Blacklist { backend: name("be1"), time: Duration::from_secs(30) }),
        ("takeover", Act::Takeover),
        ("standby", Act::Standby),
        ("reload", Act::Reload),
        ("exit", Act::Exit),
        ("statistics", Act::Statistics),
    ] {
        assert_eq!(parse(line), Command::Act(act), "{line}");
    }
}

#[test]
fn edits_are_read_and_answer_what_they_did() {
    for (commands, answer) in [
        (&["server 0 weight 3"][..], "be1: weight 1 -> 3"),
        (&["weight be1 0"], "be1: weight 1 -> 0"),
        (
            &["server be1 address 10.0.0.21 port 80 max 1 hard 2 weight 4 prio 5 acl 0"],
            "be1: address 10.0.0.21, with the clients that it has, port 80, max 1 (kept, of no effect on Direct Server Return), hard 2 (kept, of no effect on Direct Server Return), weight 1 -> 4, prio 5 (kept, of no effect on Direct Server Return), acl (of no effect: the hash alone decides whose backend it is; client_acl keeps clients out)",
        ),
        (&["server 1 address be9"], "be9: in place of 10.0.0.12, with clients of its own"),
        (&["server 10.0.0.12 mac 02:00:00:00:00:12"], "10.0.0.12: mac 02:00:00:00:00:12"),
        (&["server 1 mac 02:00:00:00:00:12", "server 1 mac ask"], "10.0.0.12: its MAC is asked for"),
        (&["add be3::::2"], "be3 added, as server 2"),
        (&["remove 0"], "be1 removed; the servers behind it have moved up by one number"),
        (&["maintenance be1"], "be1: in maintenance"),
        (&["maintenance be1", "maintenance be1 off"], "be1: no longer in maintenance"),
        (&["maintenance be1", "no maintenance be1"], "be1: no longer in maintenance"),
        (&["emergency be8@02:00:00:00:00:18"], "emergency: be8@02:00:00:00:00:18"),
        (&["emergency be8", "no emergency"], "emergency: none"),
        (&["hash"], "hash: the client's address"),
        (&["no hash"], "hash: the client's address and port"),
        (&["roundrobin"], "hash: the client's address and port"),
        (&["no roundrobin"], "hash: the client's address"),
        (&["check http:8080/health"], "check: http:8080/health (status 200-399)"),
        (&["check_interval 300"], "check_interval: 300 ms (check_timeout 300 ms, in doubt 300 ms)"),
        (&["check_timeout 300"], "check_timeout: 300 ms"),
        (&["rise 1"], "rise: 1"),
        (&["fall 1"], "fall: 1"),
        (&["source fd00::2"], "source: fd00::2"),
        (&["panic 50"], "panic: 50 %"),
        (&["slow_start 30"], "slow_start: 30 s"),
        (&["predecessor 0"], "predecessor: 0 s"),
        (&["when_empty reject"], "when_empty: reject"),
        (&["when_empty reject 10.0.0.100:80"], "10.0.0.100:80: when_empty reject"),
        (&["acl 1 permit 10.0.0.0 255.0.0.0"], "acl 1: 1 rule"),
        (&["acl 1 permit 10.0.0.0/8", "acl 1 deny all"], "acl 1: 3 rules"),
        (&["acl 1 permit 10.0.0.0/8", "no acl 1"], "acl 1: no rules"),
        (&["acl 1 permit all", "client_acl 1"], "client_acl: 1"),
        (&["acl 1 permit all", "client_acl 1 10.0.0.100"], "10.0.0.100: client_acl 1"),
        (&["no client_acl"], "client_acl: none"),
        (&["acl 1 permit all", "control_acl 1", "no control_acl"], "control_acl: none"),
        (&["acl 1 permit 10.9.0.0/16", "tarpit_acl 1"], "tarpit_acl: 1"),
        (&["acl 1 permit 10.9.0.0/16", "tarpit_acl 1", "tarpit_rate 7"], "tarpit_rate: 7 answers a second"),
        (&["debug 2"], "debug: 2"),
        (&["dsr_if eth1"], "interface: eth1"),
        (&["log /tmp/x y.log"], "log: changed"),
    ] {
        match after(commands) {
            Ok((_, said)) => assert_eq!(said, answer, "{commands:?}"),
            Err(failure) => panic!("{commands:?}: {failure}"),
        }
    }
}

#[test]
fn a_named_backend_keeps_its_clients_when_it_is_renumbered_and_another_host_does_not() {
    let (renumbered, _) = after(&["server be1 address 10.0.0.21"]).unwrap();
    let backend = &renumbered.balance.backends[0];
    assert_eq!((backend.name.as_str(), backend.address), ("be1", "10.0.0.21".parse().ok()));
    let (replaced, _) = after(&["server be1 mac 02:00:00:00:00:11", "server be1 address be9"]).unwrap();
    let backend = &replaced.balance.backends[0];
    assert_eq!((backend.name.as_str(), backend.address, backend.mac), ("be9", None, None));
    let (replaced, _) = after(&["server 1 address 10.0.0.22@02:00:00:00:00:22"]).unwrap();
    let backend = &replaced.balance.backends[1];
    assert_eq!((backend.name.as_str(), backend.mac.is_some()), ("10.0.0.22", true));
}

#[test]
fn a_command_that_cannot_be_leaves_the_configuration_as_it_is() {
    for (commands, word) in [
        (&["server 2 weight 1"][..], "numbers 0 to 1"),
        (&["server be2 weight 1"], "\"be1\" is one"),
        (&["remove be1", "remove 0"], "no backends"),
        (&["add be1"], "same host"),
        (&["add 10.0.0.12"], "same host"),
        (&["add 10.0.0.100"], "loopback"),
        (&["server 0 address 10.0.0.12"], "same host"),
        (&["server 0 address be2", "server 1 address be2"], "same host"),
        (&["server 0 port 81"], "cannot change ports"),
        (&["client_acl 1"], "first add some (acl 1 permit"),
        (&["acl 1 permit all", "client_acl 1", "no acl 1"], "no client_acl"),
        (&["client_acl 1 10.0.0.101"], "no virtual address here; these are: 10.0.0.100:80"),
        (&["when_empty drop 10.0.0.100:81"], "no virtual address here"),
        (&["acl 1 permit 10.0.0.0/24", "tarpit_acl 1"], "deny 10.0.0.100"),
        (&["tarpit_rate 5"], "tarpit_acl"),
        (&["emergency be1"], "emergency"),
        (&["check_timeout 5000"], "longer than"),
        (&["source 10.0.0.100"], "virtual address"),
        (&["include /no/such/file"], "/no/such/file"),
        (&["dsr_if a/b"], "interface"),
    ] {
        let failure = after(commands).expect_err(commands[0]);
        assert!(failure.message.contains(word), "{commands:?}: {failure}");
    }
}

#[test]
fn what_is_no_command_is_refused_with_how_it_should_be() {
    for (line, word) in [
        ("", "help lists them"),
        ("   ", "help lists them"),
        ("no", "no what"),
        ("sevrers", "\"servers\" is one"),
        ("frobnicate", "no command \"frobnicate\"; help"),
        ("no servers", "no \"no servers\"; write servers"),
        ("no frobnicate", "no command \"frobnicate\""),
        ("servers now", "\"now\" is too much"),
        ("server", "no server; write server N|NAME"),
        ("server 0 weight", "\"weight\" without a value"),
        ("server 0 weight -1", "0 to 1000000"),
        ("server 0 weight 1000001", "0 to 1000000"),
        ("server 0 wieght 1", "\"weight\" is one"),
        ("server 0 port 65536", "0 to 65535"),
        ("server 0 mac zz", "write ask"),
        ("server 0 mac ff:ff:ff:ff:ff:ff", "one station"),
        ("server 0 address be1:80", "more than HOST[@MAC]"),
        ("server 0 address 224.0.0.1", "one host"),
        ("server 0 blacklist", "without a value"),
        ("server 0 blacklist 0", "1 to 86400"),
        ("server 0 weight 1 blacklist 5", "goes alone"),
        ("server 0 acl 10", "0 to 9"),
        ("weight be1", "a backend and its weight"),
        ("weight be1 x", "0 to 1000000"),
        ("acl 10 permit all", "0 to 9"),
        ("acl x", "0 to 9"),
        ("acl 1 allow all", "neither permit nor deny"),
        ("acl 1 permit", "nobody is named"),
        ("acl 1 permit 10.0.0.0 255.0.255.0", "gap"),
        ("no acl", "something is missing"),
        ("client_acl 1 be1", "no virtual address"),
        ("client_acl 1 10.0.0.1 x", "too much"),
        ("control_acl x", "0 to 9"),
        ("tarpit_rate 0", "1 to 1000000"),
        ("add", "something is missing; write add HOST"),
        ("add be1 be2", "\"be2\" is too much"),
        ("add be1:x", "port"),
        ("maintenance be1 maybe", "on or off"),
        ("check ping", "no check \"ping\""),
        ("check_interval 99", "100 to 3600000"),
        ("rise 0", "1 to 100"),
        ("fall 0", "1 to 100"),
        ("panic 101", "0 to 100"),
        ("slow_start soon", "0 to 86400"),
        ("when_empty", "drop or reject"),
        ("when_empty close", "neither drop nor reject"),
        ("source eth0", "not an address"),
        ("debug 3", "0 to 2"),
        ("recent 0", "1 to 86400"),
        ("explain be1", "not a client"),
        ("include", "no file"),
        ("exit now", "too much"),
    ] {
        let failure = Command::parse(line).expect_err(line);
        assert!(failure.message.contains(word), "{line}: {failure}");
        assert_eq!(failure.code, crate::failure::Sysexit::Usage);
    }
}

#[test]
fn pens_commands_without_a_meaning_are_accepted_and_say_why() {
    for line in [
        "stubborn",
        "no stubborn",
        "http",
        "ssl_ciphers ALL",
        "tcp_nodelay",
        "blacklist 30",
        "timeout 5",
        "tracking 0",
        "prio",
        "weight",
        "no weight",
        "listen 10.0.0.1:80",
        "web_stats /tmp/x.html",
        "idle_timeout 60",
        "epoll",
    ] {
        let Command::NoEffect { word, reason } = parse(line) else { panic!("{line}") };
        assert!(line.starts_with(&word) && !reason.is_empty(), "{line}");
    }
}

#[test]
fn every_command_is_understood_and_explained() {
    let mut words: Vec<&str> = COMMANDS.iter().map(|command| command.word).collect();
    for word in &words {
        let unknown = match Command::parse(word) {
            Err(failure) => failure.message.contains("no command"),
            Ok(Command::NoEffect { .. }) => *word != "weight",
            Ok(_) => false,
        };
        assert!(!unknown, "{word}");
        assert!(help(None).lines().any(|line| line.split(' ').next() == Some(word)), "{word}");
        assert!(help(Some(word)).starts_with(word), "{word}");
    }
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), COMMANDS.len());
    assert!(help(Some("stubborn")).contains("no effect"));
    assert!(help(Some("frobnicate")).contains("no such command"));
}

#[test]
fn what_touches_files_is_known() {
    for (line, touches) in [
        ("include x", true),
        ("write x", true),
        ("log x", true),
        ("write", false),
        ("log", false),
        ("no log", false),
        ("servers", false),
        ("add be3", false),
    ] {
        assert_eq!(parse(line).touches_files(), touches, "{line}");
    }
}
