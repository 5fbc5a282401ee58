//! Any configuration of the proxy, for the tests that write and read some.

use std::path::PathBuf;
use std::time::Duration;

use pen_dsr::config::proxy::{
    AccessLog, Address, BackendTls, CertificateFiles, ClientCertificates, Forwarded, ListenConfig, LogLayout,
    LogTarget, Method, Mode, OwnHeader, ProxyConfig, ProxyHeader, ProxyLimits, ProxyTimeouts, Selection, TcpOptions,
    TlsConfig, TlsVersion, TransportProtocol,
};
use pen_dsr::config::{parse_backend, parse_network};
use pen_dsr::lb::acl::Network;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Mostly small numbers of listeners; `backends` are the names that they may refer to, `acl` is a list with rules.
pub fn proxy(backends: Vec<String>, acl: u8) -> impl Strategy<Value = ProxyConfig> {
    let listeners = proptest::collection::vec(listener(backends, acl), 0..4);
    (listeners, selection(), limits(), timeouts(), any::<[bool; 6]>(), 0..=1024usize).prop_map(
        |(mut listeners, selection, limits, timeouts, [log, chroot, handover, trusted, abuse, tcp], number)| {
            // No two at one place.
            let mut seen = Vec::new();
            listeners.retain(|listener: &ListenConfig| {
                let new = !seen.contains(&listener.setting());
                seen.push(listener.setting());
                new
            });
            let target = match number % 3 {
                0 => LogTarget::Syslog,
                1 => LogTarget::File("/var/log/access".into()),
                _ => LogTarget::Udp("[fd00::9]:10000".parse().expect("an address")),
            };
            let layouts = [LogLayout::Plain, LogLayout::Common, LogLayout::Combined, LogLayout::Json];
            ProxyConfig {
                listeners,
                selection,
                limits,
                timeouts,
                tcp: TcpOptions {
                    nodelay: tcp,
                    fastclose: log,
                    keepalive: Duration::from_secs(number as u64),
                    splice: chroot,
                },
                access_log: log.then_some(AccessLog { target, layout: layouts[number % 4] }),
                threads: number,
                chroot: chroot.then(|| "/var/empty".into()),
                handover: handover.then(|| "/run/handover with blank".into()),
                trusted: if trusted { networks() } else { Vec::new() },
                abuse: abuse.then(|| {
                    let word = ["10.8.8.8", "abuse.example::5", "/run/abuse:0:1:2:3:4", "fd00:8::1"][number % 4];
                    parse_backend(word).expect(word)
                }),
            }
        },
    )
}

fn networks() -> Vec<Network> {
    ["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1"].map(|text| parse_network(text).expect(text)).to_vec()
}

fn listener(backends: Vec<String>, acl: u8) -> impl Strategy<Value = ListenConfig> {
    let address = prop_oneof![
        (1..=9u16).prop_map(|port| Address::Ip(([0, 0, 0, 0], port).into())),
        (1..=9u16).prop_map(|port| Address::Ip(format!("[fd00:7::1]:{port}").parse().expect("an address"))),
        (1..=9u16).prop_map(|n| Address::Unix(PathBuf::from(format!("/run/listener-{n}")))),
    ];
    let mode = option::of((any::<[bool; 2]>(), select(vec![OwnHeader::Replace, OwnHeader::Append, OwnHeader::Drop])));
    let header = option::of(select(vec![ProxyHeader::V1, ProxyHeader::V2]));
    let rest = (any::<[bool; 4]>(), 1..=u16::MAX, proptest::sample::subsequence(backends.clone(), 0..=backends.len()));
    (address, any::<bool>(), mode, option::of(tls()), option::of(backend_tls()), header, rest).prop_map(
        move |(address, udp, mode, tls, backend_tls, header, ([transparent, source, accept, list], port, servers))| {
            let unix = matches!(address, Address::Unix(_));
            let transport = if udp && !unix { TransportProtocol::Udp } else { TransportProtocol::Tcp };
            let tcp = transport == TransportProtocol::Tcp;
            let transparent = transparent && !unix;
            let mode = mode.filter(|_| tcp).map_or(Mode::Stream, |([x_forwarded, forwarded], own)| {
                Mode::Http(Forwarded { x_forwarded, forwarded, own })
            });
            // What HTTP cannot be agreed on with.
            let tls = tls.filter(|_| tcp).map(|mut tls: TlsConfig| {
                tls.alpn.retain(|protocol| mode == Mode::Stream || protocol != "ssh");
                tls
            });
            ListenConfig {
                mode,
                tls,
                backend_tls: backend_tls.filter(|_| tcp),
                backend_port: port,
                backends: servers,
                transparent,
                source: if source && !transparent {
                    vec!["10.7.0.1".parse().expect("an address"), "fd00:7::2".parse().expect("an address")]
                } else {
                    Vec::new()
                },
                accept_proxy: if accept && tcp && !unix { networks() } else { Vec::new() },
                send_proxy: header.filter(|_| tcp),
                client_acl: list.then_some(acl),
                ..ListenConfig::new(address, transport)
            }
        },
    )
}

fn files() -> impl Strategy<Value = CertificateFiles> {
    ("[a-z .]{1,9}", option::of("[a-z'\"]{1,9}"), any::<bool>()).prop_map(|(chain, ocsp, own_key)| CertificateFiles {
        key: if own_key { format!("/key/{chain}").into() } else { format!("/ssl/{chain}").into() },
        chain: format!("/ssl/{chain}").into(),
        ocsp: ocsp.map(PathBuf::from),
    })
}

fn words(of: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let all: Vec<String> = of.iter().map(|&word| word.to_owned()).collect();
    proptest::sample::subsequence(all, 0..=of.len())
}

fn tls() -> impl Strategy<Value = TlsConfig> {
    let versions = select(vec![
        (TlsVersion::V12, TlsVersion::V12),
        (TlsVersion::V12, TlsVersion::V13),
        (TlsVersion::V13, TlsVersion::V13),
    ]);
    let clients = option::of(any::<bool>());
    let names = words(&["www.example.org", "*.example.org", "localhost"]);
    let alpn = words(&["h2", "ssh", "http/1.1"]);
    let ciphers = words(&["TLS13_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]);
    ((option::of(files()), files()), names, versions, ciphers, alpn, clients, 0..=604_800u64).prop_map(
        |((default, files), names, (oldest, newest), ciphers, alpn, clients, tickets)| TlsConfig {
            sni_path: (default.is_none() && names.is_empty() || tickets % 2 == 0).then(|| "/ssl/names".into()),
            default,
            names: names.into_iter().map(|name| (name, files.clone())).collect(),
            oldest,
            newest,
            ciphers,
            alpn,
            clients: clients.map(|required| ClientCertificates { authorities: "/ssl/clients".into(), required }),
            tickets: Duration::from_secs(tickets),
        },
    )
}

fn backend_tls() -> impl Strategy<Value = BackendTls> {
    (any::<[bool; 2]>(), option::of("[a-z]{1,9}\\.example"), option::of(files())).prop_map(
        |([verify, authorities], name, own)| BackendTls {
            verify,
            authorities: (verify && authorities).then(|| "/ssl/servers".into()),
            name,
            // What we show has nothing stapled to it.
            own: own.map(|files| CertificateFiles { ocsp: None, ..files }),
        },
    )
}

fn selection() -> impl Strategy<Value = Selection> {
    (select(Method::ALL.to_vec()), any::<[bool; 3]>(), 1..=16_777_216u32, 0..=31_536_000u64).prop_map(
        |(method, [track, stubborn, hash_port], clients, tracking)| Selection {
            method,
            track,
            clients,
            tracking: Duration::from_secs(tracking),
            stubborn,
            hash_port,
        },
    )
}

fn limits() -> impl Strategy<Value = ProxyLimits> {
    (1..=65_535u32, 1024..=65_536u32).prop_map(|(n, m)| ProxyLimits {
        connections: n,
        pending: n + 1,
        accept_batch: m - 1,
        backlog: n,
        head: m,
        idlers: n - 1,
        reuse: m,
        udp_clients: m + 1,
    })
}

fn timeouts() -> impl Strategy<Value = ProxyTimeouts> {
    (1..=3600u64, 1..=86_400u64).prop_map(|(n, m)| {
        let seconds = Duration::from_secs;
        ProxyTimeouts {
            connect: seconds(n),
            idle: seconds(m * 7),
            request: seconds(3601 - n),
            response: seconds(m - 1),
            client_fin: seconds(m * 3),
            blacklist: seconds(m - 1),
            reuse: seconds(n - 1),
            udp: seconds(m),
            drain: seconds(86_400 - m),
        }
    })
}
