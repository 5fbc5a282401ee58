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
        ("timeout 0", "1 to 3600"),
        ("conn_max 0", "1 to 10000000"),
        ("selection rr", "method of selection"),
        ("stubborn now", "too much"),
        ("no timeout", "no \"no timeout\""),
        ("tcp_fastclose often", "on or off"),
        ("ssl_keyfile", "no file"),
        ("abuse x y", "too much"),
    ] {
        let failure = Command::parse(line).expect_err(line);
        assert!(failure.message.contains(word), "{line}: {failure}");
        assert_eq!(failure.code, crate::failure::Sysexit::Usage);
    }
}

#[test]
fn pens_commands_without_a_meaning_are_accepted_and_say_why() {
    for line in [
        "ssl_option no_ticket",
        "listen 10.0.0.1:80",
        "no listen",
        "web_stats /tmp/x.html",
        "no block",
        "ascii",
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
    assert!(help(Some("epoll")).contains("no effect"));
    assert!(help(Some("frobnicate")).contains("no such command"));
}

/// A proxy with two servers on this machine.
fn of_proxy(commands: &[&str]) -> Result<(Config, String), Failure> {
    at_listeners(&["127.0.0.1:8080"], "be1", commands)
}

/// The same of a proxy with these listeners, and another server.
fn at_listeners(listeners: &[&str], server: &str, commands: &[&str]) -> Result<(Config, String), Failure> {
    use crate::config::proxy::{ListenConfig, TransportProtocol, parse_listener};
    let mut config = Config::default();
    config.balance.backends = vec![parse_backend(server).unwrap()];
    config.proxy.listeners = listeners
        .iter()
        .flat_map(|word| parse_listener(word, Lookup::Nothing).unwrap())
        .map(|address| ListenConfig::new(address, TransportProtocol::Tcp))
        .collect();
    let mut last = (config, String::new());
    for line in ["add 127.0.0.1:8001"].iter().chain(commands) {
        let Command::Configure(edit) = parse(line) else { panic!("{line} is no edit") };
        last = last.0.edited(&edit, Lookup::Nothing)?;
    }
    Ok(last)
}

#[test]
fn commands_change_the_proxy_and_answer_what_they_did() {
    for (commands, answer, changes) in [
        (&["hash"][..], "selection: hash", &["~ proxy selection method: roundrobin -> hash"][..]),
        (&["hash", "no hash"], "selection: roundrobin", &[]),
        (&["weight"], "selection: weight", &["~ proxy selection method: roundrobin -> weight"]),
        (&["weight", "no weight"], "selection: roundrobin", &[]),
        (&["prio", "no weight"], "selection: prio", &["~ proxy selection method: roundrobin -> prio"]),
        (
            &["selection power-of-two"],
            "selection: power-of-two",
            &["~ proxy selection method: roundrobin -> power-of-two"],
        ),
        (&["roundrobin"], "clients are not remembered", &["~ proxy selection track: true -> false"]),
        (&["roundrobin", "no roundrobin"], "clients are remembered", &[]),
        (&["stubborn"], "stubborn: on", &["~ proxy selection stubborn: false -> true"]),
        (&["blacklist 7"], "blacklist: 7 s", &["~ proxy timeouts blacklist: 30 -> 7"]),
        (&["timeout 6"], "timeout: 6 s", &["~ proxy timeouts connect: 5 -> 6"]),
        (&["idle_timeout 0"], "idle_timeout: 0 s", &["~ proxy timeouts idle: 3600 -> 0"]),
        (&["tracking 60"], "tracking: 60 s", &["~ proxy selection tracking: 0 -> 60"]),
        (&["clients_max 9"], "clients_max: 9", &["~ proxy selection clients: 65536 -> 9"]),
        (&["conn_max 500"], "conn_max: 500", &["~ proxy limits connections: 20000 -> 500"]),
        (&["pending_max 5"], "pending_max: 5", &["~ proxy limits pending: 4096 -> 5"]),
        (&["multi_accept 1"], "multi_accept: 1", &["~ proxy limits accept-batch: 64 -> 1"]),
        (&["idlers 3"], "idlers: 3", &["~ proxy limits idlers: 0 -> 3"]),
        (&["no tcp_nodelay"], "tcp_nodelay: off", &["~ proxy tcp nodelay: true -> false"]),
        (&["tcp_fastclose both"], "tcp_fastclose: on", &["~ proxy tcp fastclose: false -> true"]),
        (
            &["http"],
            "http: on",
            &[
                "~ listen 127.0.0.1:8080/tcp mode: stream -> http",
                "+ listen 127.0.0.1:8080/tcp forwarded: false",
                "+ listen 127.0.0.1:8080/tcp own-header: replace",
                "+ listen 127.0.0.1:8080/tcp x-forwarded: true",
            ],
        ),
        (&["http", "no http"], "http: off", &[]),
        (&["transparent"], "transparent: on", &["~ listen 127.0.0.1:8080/tcp transparent: false -> true"]),
        (
            &["source 127.0.0.9"],
            "source: 127.0.0.9",
            &["+ health source ipv4: 127.0.0.9", "+ listen 127.0.0.1:8080/tcp source: 127.0.0.9"],
        ),
        (
            &["abuse 127.0.0.1:9"],
            "abuse: 127.0.0.1:9:0:0:1:0",
            &["+ proxy abuse: 127.0.0.1:9:0:0:1:0", "+ proxy abuse address: 127.0.0.1"],
        ),
        (&["abuse /run/x", "no abuse"], "abuse: none", &[]),
        (
            &["server be1 hard 9 max 5 prio 2"],
            "be1: hard 9, max 5, prio 2",
            &["~ backend be1 hard: 0 -> 9", "~ backend be1 prio: 0 -> 2", "~ backend be1 soft: 0 -> 5"],
        ),
        (&["acl 1 permit all", "server be1 acl 1", "server be1 acl none", "no acl 1"], "acl 1: no rules", &[]),
        (
            &["acl 1 permit all", "client_acl 1 127.0.0.1:8080"],
            "127.0.0.1:8080: client_acl 1",
            &["+ acl 1: permit all", "+ listen 127.0.0.1:8080/tcp client-acl: 1"],
        ),
        (&["server 127.0.0.1 weight 2"], "127.0.0.1:8001: weight 1 -> 2", &["~ backend 127.0.0.1:8001 weight: 1 -> 2"]),
        (
            &["server 1 port 8002"],
            "127.0.0.1:8002: port 8002",
            &["- backend 127.0.0.1:8001", "+ backend 127.0.0.1:8002 (weight 1)"],
        ),
        (
            &["server 1 address 10.0.0.9"],
            "10.0.0.9:8001: in place of 127.0.0.1:8001, with clients of its own",
            &["- backend 127.0.0.1:8001", "+ backend 10.0.0.9:8001 (weight 1)"],
        ),
        (&["ssl_certfile /x.pem"], "ssl_certfile: changed", &[]),
        (
            &["ssl_certfile /x.pem", "ssl_keyfile /x.key", "ssl_ciphers a:b", "ssl_session_cache off"],
            "ssl_session_cache: changed",
            &[],
        ),
        (&["ssl_sni_path /etc/ssl/names"], "ssl_sni_path: changed", &[]),
    ] {
        let (config, said) = of_proxy(commands).unwrap_or_else(|failure| panic!("{commands:?}: {failure}"));
        assert_eq!(said, answer, "{commands:?}");
        let lines = crate::config::difference(&of_proxy(&[]).unwrap().0, &config);
        if !commands[0].starts_with("ssl") {
            assert_eq!(lines, changes, "{commands:?}");
        } else {
            assert!(lines.contains(&"~ listen 127.0.0.1:8080/tcp tls: false -> true".to_owned()), "{lines:?}");
        }
    }
}

#[test]
fn what_cannot_be_of_the_proxy_is_refused_with_the_remedy() {
    for (commands, word) in [
        (&["server be1 hard 5 max 9"][..], "above the hard one"),
        (&["add 127.0.0.1:8001"], "same host"),
        (&["add 127.0.0.1:8080"], "itself as its server"),
        (&["server be1 acl 3"], "list 3 has no rules"),
        (&["transparent", "source 127.0.0.9"], ""),
        (&["source 127.0.0.9", "transparent"], "leave one out"),
        (&["source fd00::1"], "there is no source for backend \"127.0.0.1:8001\""),
        (&["ssl_keyfile /x.key"], "first say ssl_certfile"),
        (&["ssl_ciphers a"], "needs a certificate"),
        (&["client_acl 1 127.0.0.1:81"], "no listener; these are: 127.0.0.1:8080"),
        (&["add 127.0.0.1:8003", "server 127.0.0.1 weight 3"], "name one, 127.0.0.1:8001, 127.0.0.1:8003"),
    ] {
        match of_proxy(commands) {
            Err(failure) => assert!(!word.is_empty() && failure.message.contains(word), "{commands:?}: {failure}"),
            Ok(_) => assert!(word.is_empty(), "{commands:?}"),
        }
    }
}

#[test]
fn a_listener_is_named_by_the_word_that_made_it() {
    const LISTENERS: &[&str] = &["8080", "127.0.0.1:8081", "/run/x.sock"];
    let named =
        |word: &str| at_listeners(LISTENERS, "10.0.0.11:80", &["acl 1 permit all", &format!("client_acl 1 {word}")]);
    for (word, addresses) in [
        ("8080", &["0.0.0.0:8080", "[::]:8080"][..]),
        (":8080", &["0.0.0.0:8080", "[::]:8080"]),
        ("*:8080", &["0.0.0.0:8080", "[::]:8080"]),
        ("[::]:8080", &["[::]:8080"]),
        ("127.0.0.1:8081", &["127.0.0.1:8081"]),
        ("127.0.0.1", &["127.0.0.1:8081"]),
        ("/run/x.sock", &["/run/x.sock"]),
    ] {
        let config = named(word).unwrap_or_else(|failure| panic!("{word}: {failure}")).0;
        let listeners = config.proxy.listeners.iter().filter(|listener| listener.client_acl == Some(1));
        assert_eq!(listeners.map(|listener| listener.address.to_string()).collect::<Vec<_>>(), addresses, "{word}");
    }
    for word in ["8081", "/run/y.sock", "10.0.0.100"] {
        let said = named(word).unwrap_err().message;
        assert!(
            said.contains("no listener; these are: 0.0.0.0:8080, [::]:8080, 127.0.0.1:8081, /run/x.sock"),
            "{said}"
        );
    }
    for word in ["0", "65536", "*8080", "/run/", "lb.example:8080"] {
        assert!(Command::parse(&format!("client_acl 1 {word}")).is_err(), "{word}");
    }
    let commands = ["acl 1 permit all", "client_acl 1 8080", "no client_acl :8080", "no acl 1"];
    assert_eq!(at_listeners(LISTENERS, "10.0.0.11:80", &commands).unwrap().1, "acl 1: no rules");
}

#[test]
fn what_touches_files_is_known() {
    for (line, touches) in [
        ("ssl_keyfile x", true),
        ("ssl_ciphers x", false),
        ("http", false),
        ("include x", true),
        ("write x", true),
        ("log x", true),
        ("write", false),
        ("log", false),
        ("no log", false),
        ("servers", false),
        ("add be3", false),
        ("add /run/x", true),
        ("emergency /run/x", true),
        ("abuse /run/x", true),
        ("abuse be3:80", false),
        ("server 0 weight 2 address /run/x", true),
        ("server 0 address be3", false),
    ] {
        assert_eq!(parse(line).touches_files(), touches, "{line}");
    }
}
