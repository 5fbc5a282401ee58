//! The proxy's options.

use std::net::IpAddr;
use std::time::Duration;

use super::super::cli::{Cli, ProxyArgs};
use super::super::proxy::{
    AccessLog, BackendTls, CertificateFiles, ClientCertificates, Forwarded, ListenConfig, Mode, TlsConfig,
    TransportProtocol, items, parse_listener,
};
use super::super::{Lookup, ProxyConfig, parse_backend, words};
use super::Put;
use crate::config::origin::Origins;
use crate::failure::Failure;
use crate::lb::Protocols;

/// Adds the listeners of the command line: the first word, if it is one, and those of `--listen`.
///
/// # Errors
/// Usage: a word is no listener, one is given twice, or an option has none that it could be of. NoHost: a name does not
/// resolve.
pub(super) fn apply_listeners(
    cli: &Cli,
    first: Option<&String>,
    lookup: Lookup,
    proxy: &mut ProxyConfig,
) -> Result<(), Failure> {
    let args = &cli.proxy;
    args.together()?;
    let mut listeners = Vec::new();
    for word in first.into_iter().chain(&args.listen) {
        for address in parse_listener(word, lookup)? {
            for &transport in transports(cli.balance.protocols()) {
                let plain = ListenConfig::new(address.clone(), transport);
                if proxy.listeners.iter().chain(&listeners).any(|known| known.setting() == plain.setting()) {
                    let what = format!("the listener {address} ({transport}) is given twice: leave one out");
                    return Err(Failure::usage(what));
                }
                listeners.push(configured(args, plain)?);
            }
        }
    }
    if listeners.is_empty()
        && let Some(option) = args.of_listeners()
    {
        return Err(Failure::usage(format!(
            "{option} is of the listeners of the command line, and there is none: name one (pen-dsr PORT SERVER..., --listen), or say it in the [[listen]] of the file"
        )));
    }
    proxy.listeners.extend(listeners);
    Ok(())
}

/// By what is listened.
fn transports(protocols: Option<Protocols>) -> &'static [TransportProtocol] {
    match protocols {
        None | Some(Protocols::Tcp) => &[TransportProtocol::Tcp],
        Some(Protocols::Udp) => &[TransportProtocol::Udp],
        Some(Protocols::All) => &[TransportProtocol::Tcp, TransportProtocol::Udp],
    }
}

/// `plain` with what the options say of listeners.
fn configured(args: &ProxyArgs, plain: ListenConfig) -> Result<ListenConfig, Failure> {
    let http =
        Forwarded { forwarded: args.forwarded, own: args.own_header.unwrap_or_default(), ..Forwarded::default() };
    Ok(ListenConfig {
        mode: if args.http { Mode::Http(http) } else { Mode::Stream },
        tls: args.of_tls().map(|_| tls(args)),
        backend_tls: args
            .backend_tls
            .as_ref()
            .map(|word| BackendTls { verify: word == "verify", ..BackendTls::default() }),
        transparent: args.transparent,
        source: args.source.iter().map(|&address| source(address)).collect::<Result<_, _>>()?,
        accept_proxy: args.accept_proxy.clone(),
        send_proxy: args.send_proxy,
        ..plain
    })
}

fn tls(args: &ProxyArgs) -> TlsConfig {
    let usual = TlsConfig::default();
    TlsConfig {
        default: args.certificate.as_ref().map(|chain| CertificateFiles {
            chain: chain.clone(),
            key: args.key.as_ref().unwrap_or(chain).clone(),
            ocsp: None,
        }),
        sni_path: args.sni_path.clone(),
        oldest: args.tls_versions.map_or(usual.oldest, |versions| versions.oldest),
        newest: args.tls_versions.map_or(usual.newest, |versions| versions.newest),
        ciphers: items(&args.ciphers),
        alpn: items(&args.alpn),
        clients: args
            .authorities
            .as_ref()
            .map(|authorities| ClientCertificates { authorities: authorities.clone(), required: args.required }),
        ..usual
    }
}

fn source(address: IpAddr) -> Result<IpAddr, Failure> {
    words::parse_server_address(&address.to_string()).map_err(|what| Failure::usage(format!("--source: {what}")))
}

/// What is said of the proxy as a whole.
///
/// # Errors
/// Usage: two methods of selection are said, or the abuse server is none.
pub(super) fn apply(cli: &Cli, proxy: &mut ProxyConfig, origins: &mut Origins) -> Result<(), Failure> {
    let args = &cli.proxy;
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let mut put = Put { origins };
    let selection = &mut proxy.selection;
    put.one(&mut selection.method, args.method()?, "proxy selection method");
    put.one(&mut selection.track, cli.balance.each_connection.then_some(false), "proxy selection track");
    put.one(&mut selection.hash_port, cli.balance.hash_port.then_some(true), "proxy selection hash-port");
    put.one(&mut selection.stubborn, args.stubborn.then_some(true), "proxy selection stubborn");
    put.one(&mut selection.clients, args.clients, "proxy selection clients");
    put.one(&mut selection.tracking, args.tracking.map(seconds), "proxy selection tracking");
    let limits = &mut proxy.limits;
    put.one(&mut limits.connections, args.connections, "proxy limits connections");
    put.one(&mut limits.backlog, args.backlog, "proxy limits backlog");
    put.one(&mut limits.accept_batch, args.accept_batch, "proxy limits accept-batch");
    put.one(&mut limits.idlers, args.idlers, "proxy limits idlers");
    let timeouts = &mut proxy.timeouts;
    put.one(&mut timeouts.connect, args.connect.map(seconds), "proxy timeouts connect");
    put.one(&mut timeouts.idle, args.idle.map(seconds), "proxy timeouts idle");
    put.one(&mut timeouts.blacklist, args.blacklist.map(seconds), "proxy timeouts blacklist");
    put.one(&mut timeouts.drain, args.drain.map(seconds), "proxy timeouts drain");
    let log =
        args.access_log.clone().map(|target| Some(AccessLog { target, layout: args.log_layout.unwrap_or_default() }));
    put.one(&mut proxy.access_log, log, "proxy access-log");
    put.one(&mut proxy.threads, args.threads.map(|n| n as usize), "proxy threads");
    put.one(&mut proxy.chroot, args.chroot.clone().map(Some), "proxy chroot");
    put.one(&mut proxy.handover, args.handover.clone().map(Some), "proxy handover");
    let abuse = args.abuse.as_deref().map(parse_backend).transpose()?.map(words::named_with_port);
    put.one(&mut proxy.abuse, abuse.map(Some), "proxy abuse");
    for network in &args.trusted {
        if !proxy.trusted.contains(network) {
            proxy.trusted.push(*network);
        }
    }
    Ok(())
}
