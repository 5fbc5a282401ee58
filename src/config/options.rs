//! From the command line's words and options to a configuration, each checked by itself.

mod proxy;

use std::net::IpAddr;
use std::time::Duration;

use super::cli::{BalanceArgs, Cli, ProcessArgs};
use super::origin::Origins;
use super::{Config, Lookup, VipConfig, edit, parse_backend, parse_vip, words};
use crate::failure::Failure;
use crate::lb::Protocols;
use crate::probe::Check;

/// What the rest of the configuration means for words and options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Context {
    /// What VIPs serve that do not say themselves.
    pub(crate) protocols: Protocols,
    /// Is the first word a virtual address, or a listener of the proxy?
    pub(crate) first_is_vip: bool,
    /// Are names looked up?
    pub(crate) lookup: Lookup,
}

/// Adds what words and options say to `config`; what they replace is not from the file any more. Gives back remarks.
///
/// # Errors
/// Usage: the word or option, and how it should be.
pub(crate) fn apply(
    cli: &Cli,
    words: &[String],
    context: Context,
    config: &mut Config,
    origins: &mut Origins,
) -> Result<Vec<String>, Failure> {
    let balance = &cli.balance;
    let (first, backends) = words.split_first().map_or((None, &[][..]), |(first, rest)| (Some(first), rest));
    for word in first.filter(|_| context.first_is_vip).into_iter().chain(&balance.vip) {
        let (protocols, when_empty) = (context.protocols, balance.when_empty.unwrap_or_default());
        let vip = VipConfig { protocols, when_empty, ..parse_vip(word)? };
        if config.balance.vips.iter().any(|known| known.setting() == vip.setting()) {
            return Err(Failure::usage(format!("the virtual address {vip} is given twice: leave one out")));
        }
        config.balance.vips.push(vip);
    }
    let listener = first.filter(|_| !context.first_is_vip);
    proxy::apply_listeners(cli, listener, context.lookup, &mut config.proxy)?;
    for word in backends {
        edit::add(&mut config.balance, parse_backend(word)?)?;
    }
    apply_balance(balance, config, origins)?;
    apply_process(&cli.process, config, origins);
    proxy::apply(cli, &mut config.proxy, origins)?;
    Ok(cli.proxy.pens.remarks())
}

fn apply_balance(args: &BalanceArgs, config: &mut Config, origins: &mut Origins) -> Result<(), Failure> {
    let balance = &mut config.balance;
    let seconds = |n: u32| Duration::from_secs(u64::from(n));
    let milliseconds = |n: u32| Duration::from_millis(u64::from(n));
    let mut put = Put { origins };
    put.one(&mut balance.hash_port, (args.hash_port || args.each_connection).then_some(true), "hash-port");
    put.one(&mut balance.seed, args.seed, "seed");
    put.one(&mut balance.table_size, args.table_size, "table-size");
    put.one(&mut balance.neighbor.revalidate, args.neighbor_interval.map(seconds), "neighbor-interval");
    put.one(&mut balance.predecessor, args.predecessor.map(seconds), "predecessor");
    put.one(&mut balance.slow_start, args.slow_start.map(seconds), "slow-start");
    put.one(&mut balance.panic_threshold, args.panic.map(|percent| percent as u8), "panic-threshold");
    let emergency = args.emergency.as_deref().map(parse_backend).transpose()?;
    let emergency = match balance.vips.is_empty() {
        true => emergency.map(words::named_with_port),
        false => emergency,
    };
    put.one(&mut balance.emergency, emergency.map(Some), "emergency");
    let health = &mut balance.health;
    if let Some(text) = &args.check {
        health.check = text.parse::<Check>()?;
        for key in ["check", "port", "path", "host", "status", "body", "payload", "expect", "name"] {
            put.origins.forget(&format!("health {key}"));
        }
    }
    if let Some(interval) = args.check_interval {
        health.set_interval(milliseconds(interval));
        put.origins.forget("health interval");
    }
    put.one(&mut health.policy.timeout, args.check_timeout.map(milliseconds), "health timeout");
    put.one(&mut health.policy.rise, args.rise, "health rise");
    put.one(&mut health.policy.fall, args.fall, "health fall");
    let (mut source4, mut source6) = (None, None);
    for address in &args.check_source {
        let before = match *address {
            IpAddr::V4(address) => source4.replace(address).map(IpAddr::V4),
            IpAddr::V6(address) => source6.replace(address).map(IpAddr::V6),
        };
        if let Some(before) = before {
            return Err(Failure::usage(format!(
                "--check-source {address}: {before} is the source of that family already; one for IPv4, one for IPv6"
            )));
        }
    }
    put.one(&mut health.source4, source4.map(Some), "health source");
    put.one(&mut health.source6, source6.map(Some), "health source");
    Ok(())
}

fn apply_process(args: &ProcessArgs, config: &mut Config, origins: &mut Origins) {
    let process = &mut config.process;
    let mut put = Put { origins };
    put.one(&mut process.interface, args.interface.clone().map(Some), "interface");
    put.one(&mut process.out, args.out.clone().map(Some), "out");
    put.one(&mut process.driver, args.driver, "driver");
    put.one(&mut process.mac, args.mac.map(Some), "mac");
    put.one(&mut process.dedicated, args.dedicated.then_some(true), "dedicated");
    put.one(&mut process.no_ifconfig, args.no_ifconfig.then_some(true), "ifconfig");
    put.one(&mut process.xdp_mode, args.xdp_mode, "xdp-mode");
    put.one(&mut process.xdp_pin, args.xdp_pin.clone().map(Some), "xdp-pin");
    put.one(&mut process.cpus, args.cpus.clone(), "cpus");
    put.one(&mut process.vip_mac, args.vip_mac.map(Some), "vip-mac");
    put.one(&mut process.busy_poll, args.busy_poll, "busy-poll");
    put.one(&mut process.no_ingress_drop, args.no_ingress_drop.then_some(true), "ingress-drop");
    put.one(&mut process.debug, (args.debug > 0).then_some(args.debug.min(2)), "debug");
    put.one(&mut process.log_format, args.log_format, "log-format");
    put.one(&mut process.log_file, args.log_file.clone().map(Some), "log-file");
    put.one(&mut process.daemon, args.daemon.then_some(true), "daemon");
    put.one(&mut process.daemon, args.foreground.then_some(false), "daemon");
    put.one(&mut process.pidfile, args.pidfile.clone().map(Some), "pidfile");
    put.one(&mut process.user, args.user.clone().map(Some), "user");
    put.one(&mut process.allow_exit, args.allow_exit.then_some(true), "allow-exit");
    put.one(&mut process.standby, args.standby.then_some(true), "standby");
    let entries = args.flow_entries.map(|n| (n as usize).next_power_of_two());
    put.one(&mut process.flow_entries, entries, "flow-entries");
    put.one(&mut process.flow_file, args.flow_file.clone().map(Some), "flow-file");
    put.one(&mut process.peer, args.peer.map(Some), "peer");
    for address in &args.control {
        if !process.control.contains(address) {
            process.control.push(address.clone());
        }
    }
}

struct Put<'a> {
    origins: &'a mut Origins,
}

impl Put<'_> {
    /// Replaces `slot`, if a value is given.
    fn one<T>(&mut self, slot: &mut T, value: Option<T>, setting: &str) {
        if let Some(value) = value {
            *slot = value;
            self.origins.forget(setting);
        }
    }
}
