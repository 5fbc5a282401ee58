//! A configuration that is written as a file and read again is the same, whatever it is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pen_dsr::config::proxy::{Address, ListenConfig, TransportProtocol};
use pen_dsr::config::{
    BackendConfig, Config, ControlAddress, Cpus, Driven, Driver, Edit, LogFormat, TableSize, TarpitConfig, VipConfig,
    WhenEmpty, XdpMode, difference, parse_backend, parse_rules,
};
use pen_dsr::lb::acl::Acl;
use pen_dsr::lb::{Protocols, Seed};
use pen_dsr::probe::Check;
use pen_dsr::wire::ether::Mac;
use proptest::option;
use proptest::prelude::*;

use crate::call::load_text;
use crate::proxies;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_written_is_what_is_read(config in config()) {
        prop_assert_eq!(config.validate(), Ok(()));
        let text = config.to_toml();
        match load_text(&text) {
            Ok(read) => {
                prop_assert_eq!(difference(&config, &read), Vec::<String>::new());
                prop_assert_eq!(read, config);
            }
            Err(failure) => prop_assert!(false, "{failure}\n{text}"),
        }
    }

    #[test]
    fn two_configurations_differ_in_what_is_told_and_nothing_else(a in config(), b in config()) {
        prop_assert_eq!(a == b, difference(&a, &b).is_empty());
        prop_assert!(difference(&a, &a).is_empty());
        let of_proxy = |config: &Config| {
            let proxy = &config.proxy;
            (proxy.threads, proxy.chroot.clone(), proxy.handover.clone())
        };
        let same = a.process == b.process && of_proxy(&a) == of_proxy(&b);
        prop_assert_eq!(same, a.fixed_difference(&b).is_empty());
    }

    #[test]
    fn a_proxy_alone_is_read_as_it_was_written(config in proxy_alone()) {
        prop_assert_eq!(config.validate(), Ok(()));
        let text = config.to_toml();
        match load_text(&text) {
            Ok(read) => {
                prop_assert_eq!(difference(&config, &read), Vec::<String>::new());
                prop_assert_eq!(read, config);
            }
            Err(failure) => prop_assert!(false, "{failure}\n{text}"),
        }
    }
}

/// Listeners without VIPs: servers on this machine, several on a host, and at Unix sockets.
fn proxy_alone() -> impl Strategy<Value = Config> {
    let server = (0..5u8, 1..=3u16, option::of(0..=9u8), any::<bool>());
    let servers = proptest::collection::vec(server, 1..6).prop_map(|servers| {
        let mut backends: Vec<BackendConfig> = Vec::new();
        for (kind, port, acl, named) in servers {
            let word = match kind {
                0 => format!("127.0.0.1:{}", port + 20_000),
                1 => format!("[fd00:2::1]:{}", port + 20_000),
                2 => format!("be{port}.example"),
                3 => format!("be.example:{}", port + 20_000),
                _ => format!("/run/server-{port}"),
            };
            let mut config = Config::default();
            Edit::Add(parse_backend(&word).expect("a server")).apply(&mut config).expect("it finds room");
            let mut backend = config.balance.backends.remove(0);
            backend.acl = acl.map(|_| 7);
            if named {
                // A name of its own, whatever its host and port are.
                let host = std::mem::replace(&mut backend.name, format!("own-{kind}-{port}"));
                backend.host = backend.path.is_none().then(|| backend.host.unwrap_or(host));
            }
            let same = |known: &BackendConfig| {
                known.name == backend.name
                    || (known.path.is_some() && known.path == backend.path)
                    || (known.address.is_some() && (known.address, known.port) == (backend.address, backend.port))
            };
            if !backends.iter().any(same) {
                backends.push(backend);
            }
        }
        backends
    });
    servers.prop_flat_map(|backends| {
        let names = backends.iter().map(|backend| backend.name.clone()).collect();
        (Just(backends), proxies::proxy(names, 7)).prop_map(|(backends, mut proxy)| {
            let mut config = Config::default();
            let rules = parse_rules("permit all").expect("a rule");
            config.balance.acls.insert(7, Acl::new(rules));
            config.balance.backends = backends;
            let sockets = config.balance.backends.iter().any(|backend| backend.path.is_some());
            for listener in &mut proxy.listeners {
                // Sockets are no places for datagrams, nor for clients' addresses.
                if sockets {
                    listener.transparent = false;
                }
            }
            proxy.listeners.retain(|listener| !sockets || listener.transport == TransportProtocol::Tcp);
            if proxy.listeners.is_empty() {
                proxy
                    .listeners
                    .push(ListenConfig::new(Address::Ip(([127, 0, 0, 1], 7).into()), TransportProtocol::Tcp));
            }
            config.proxy = proxy;
            // Checks of servers on this machine may come from an address of its own.
            let near = config.balance.backends.len() % 2 == 0;
            config.balance.health.source4 = near.then_some(Ipv4Addr::new(127, 0, 0, 2));
            config.balance.health.source6 = near.then_some(Ipv6Addr::LOCALHOST);
            config
        })
    })
}

/// Mostly small numbers of things, each with or without what it may have.
fn config() -> impl Strategy<Value = Config> {
    let proxy = option::of(proxies::proxy(Vec::new(), 7)).prop_map(Option::unwrap_or_default);
    (vips(), backends(), health(), numbers(), process(), any::<[bool; 5]>(), proxy).prop_map(
        |(vips, backends, health, numbers, process, [hash_port, client, control, tarpit, own], proxy)| {
            let mut config = Config { process, proxy, ..Config::default() };
            let balance = &mut config.balance;
            (balance.vips, balance.backends, balance.health) = (vips, backends, health);
            balance.hash_port = hash_port;
            let (seed, slots, seconds) = numbers;
            balance.seed = Seed(seed);
            balance.table_size = TableSize::new(slots).expect("a prime");
            balance.slow_start = Duration::from_secs(seconds % 86_400);
            balance.predecessor = Duration::from_secs(seconds / 7);
            balance.neighbor.revalidate = Duration::from_secs(seconds % 3600 + 1);
            balance.panic_threshold = (seconds % 101) as u8;
            balance.timeouts.opening = Duration::from_secs(seconds + 1);
            balance.timeouts.udp = Duration::from_secs(seconds + 2);
            let rules =
                |texts: &[&str]| Acl::new(texts.iter().flat_map(|text| parse_rules(text).expect(text)).collect());
            balance.acls.insert(0, rules(&["deny 192.0.2.7", "permit 192.0.2.0/24", "deny all"]));
            balance.acls.insert(7, rules(&["permit fd00::/8", "permit 0.0.0.0/0", "permit all", "deny ::/0"]));
            balance.acls.insert(9, rules(&["permit 198.51.100.0 255.255.255.128", "deny ::/0", "deny 0.0.0.0/0"]));
            balance.client_acl = client.then_some(0);
            balance.control_acl = control.then_some(7);
            balance.tarpit = tarpit.then_some(TarpitConfig { acl: 9, rate: (seconds % 1000) as u32 + 1 });
            if own && let Some(vip) = balance.vips.first_mut() {
                vip.client_acl = Some(9);
            }
            if own {
                let word = ["emergency.example", "fd00:9::1", "10.9.9.9"][seconds as usize % 3];
                balance.emergency = Some(pen_dsr::config::parse_backend(word).expect(word));
            }
            config.process.control.retain(|address| control || matches!(address, ControlAddress::Unix(_)));
            config
        },
    )
}

fn vips() -> impl Strategy<Value = Vec<VipConfig>> {
    let protocols = prop_oneof![Just(Protocols::All), Just(Protocols::Tcp), Just(Protocols::Udp)];
    let vip =
        (any::<bool>(), 1..=3u8, 1..=9u16, protocols, any::<bool>()).prop_map(|(v4, host, port, protocols, reject)| {
            let address = if v4 {
                IpAddr::V4(Ipv4Addr::new(10, 1, 0, host))
            } else {
                IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, u16::from(host)))
            };
            let when_empty = if reject { WhenEmpty::Reject } else { WhenEmpty::Drop };
            VipConfig { protocols, when_empty, ..VipConfig::new(address, port) }
        });
    proptest::collection::vec(vip, 1..6).prop_map(|mut vips| {
        // No two for the same address and port.
        let mut seen = Vec::new();
        vips.retain(|vip| {
            let new = !seen.contains(&(vip.address, vip.port));
            seen.push((vip.address, vip.port));
            new
        });
        vips
    })
}

fn backends() -> impl Strategy<Value = Vec<BackendConfig>> {
    let backend = (any::<[bool; 4]>(), option::of(0..=1_000_000u32), 0..4u32, 0..4u32);
    proptest::collection::vec(backend, 1..6).prop_map(|backends| {
        let backends = backends.into_iter().enumerate();
        backends
            .map(|(n, ([named, mac, maintenance, fixed], weight, soft, prio))| {
                let host = n as u8 + 1;
                let address = IpAddr::V4(Ipv4Addr::new(10, 2, 0, host));
                let name = if named { format!("be-{n}.example") } else { address.to_string() };
                BackendConfig {
                    address: (!named || fixed).then_some(address),
                    mac: mac.then_some(Mac([2, 0, 0, 0, 0, host])),
                    weight: weight.unwrap_or(1),
                    soft,
                    hard: soft * 2,
                    prio,
                    maintenance,
                    ..BackendConfig::named(&name)
                }
            })
            .collect()
    })
}

fn health() -> impl Strategy<Value = pen_dsr::config::HealthConfig> {
    let port = || option::of(1..=u16::MAX);
    let text = || "[ -~\u{e9}\t\n\"\\\\]{1,20}";
    let check = prop_oneof![
        Just(Check::Link),
        Just(Check::Icmp),
        port().prop_map(|port| Check::Tcp { port }),
        (port(), "/[!-~]{0,20}", option::of("[a-z]{1,9}"), 100..300u16, 0..99u16, option::of(text())).prop_map(
            |(port, path, host, first, more, body)| Check::Http {
                port,
                path,
                host,
                status: first..=first + more,
                body
            }
        ),
        (port(), any::<Vec<u8>>(), text()).prop_map(|(port, mut payload, expect)| {
            payload.truncate(1000);
            Check::Udp { port, payload, expect: expect.into_bytes() }
        }),
        (port(), "[a-z_]{1,9}(\\.[a-z0-9]{1,9}){0,3}").prop_map(|(port, name)| Check::Dns { port, name }),
    ];
    (check, 50..=100u32, 1..=100u32, any::<[bool; 2]>()).prop_map(|(check, scale, row, [source4, source6])| {
        let mut health = pen_dsr::config::HealthConfig { check, ..Default::default() };
        health.policy.interval = Duration::from_millis(u64::from(scale) * 100);
        health.policy.timeout = Duration::from_millis(u64::from(scale) * 99);
        health.policy.doubt = Duration::from_millis(u64::from(scale) * 3);
        health.policy.rise = row;
        health.policy.fall = 101 - row;
        health.policy.jitter = (row / 2) as u8;
        health.source4 = source4.then_some(Ipv4Addr::new(10, 3, 0, 1));
        health.source6 = source6.then_some("fd00:3::1".parse().expect("an address"));
        health
    })
}

fn numbers() -> impl Strategy<Value = (u128, u32, u64)> {
    (any::<u128>(), proptest::sample::select(vec![251u32, 65_537, 16_777_213]), 0..600_000u64)
}

fn process() -> impl Strategy<Value = pen_dsr::config::Process> {
    let name = || option::of("[a-zA-Z0-9 ='\"\\\\#./-]{1,12}".prop_filter("not blank", |name| !name.trim().is_empty()));
    let flags = any::<[bool; 6]>();
    let ports = proptest::sample::select(vec![
        (None, None),
        (Some("eth0"), None),
        (Some("netmap:em0-2"), None),
        (Some("vale0:lb"), Some("netmap:em1")),
        (Some("netmap:x{1"), Some("netmap:x{2")),
    ]);
    (name(), ports, flags, 0..=1_000_000u32, 10..=26u32).prop_map(
        |(file, (interface, out), [drop, daemon, exit, standby, json, control], busy_poll, entries)| {
            let plain = interface == Some("eth0") && !standby;
            let path = |folder: &str| file.as_ref().map(|file| format!("/{folder}/{file}").into());
            pen_dsr::config::Process {
                mac: interface
                    .is_some_and(|port| !port.contains("em") && port != "eth0")
                    .then_some(Mac([2, 0, 0, 0, 0, 9])),
                interface: interface.map(|port: &str| port.parse().expect("a port")),
                out: out.map(|port: &str| port.parse().expect("a port")),
                driver: if standby { Driver::Only(Driven::Netmap) } else { Driver::Auto },
                dedicated: json,
                no_ifconfig: control,
                xdp_mode: if plain && exit && cfg!(target_os = "linux") { XdpMode::Generic } else { XdpMode::Auto },
                xdp_pin: if plain && cfg!(target_os = "linux") { path("bpf") } else { None },
                cpus: Cpus(if daemon { vec![3, 1] } else { Vec::new() }),
                vip_mac: drop.then_some(Mac([2, 0, 0, 0x5e, 0, 1])),
                busy_poll,
                no_ingress_drop: drop,
                debug: u8::from(exit) + u8::from(daemon),
                log_format: if json { LogFormat::Json } else { LogFormat::Human },
                log_file: path("log"),
                daemon,
                pidfile: path("pid"),
                user: file.clone(),
                control: if control {
                    vec![ControlAddress::Unix("/run/x".into()), "127.0.0.1:8888".parse().expect("an address")]
                } else {
                    Vec::new()
                },
                allow_exit: exit,
                standby,
                flow_entries: 1 << entries,
                flow_file: path("flows"),
                peer: daemon.then(|| "[fd00::3]:7364".parse().expect("an address")),
            }
        },
    )
}
