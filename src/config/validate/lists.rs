//! Access lists: those that are referred to exist, and let through what they have to.

use std::net::IpAddr;

use super::super::origin::Problem;
use super::super::{Balance, Config, ControlAddress, limits};
use super::sources;

pub(super) fn check(config: &Config) -> Result<(), Problem> {
    let balance = &config.balance;
    for (&number, acl) in &balance.acls {
        let setting = format!("acl {number}");
        if !limits::ACL.contains(&u32::from(number)) {
            return Err(Problem::new(
                setting,
                format!("there is no access list {number}: they have the numbers 0 to 9"),
            ));
        }
        if acl.rules().len() > limits::RULES {
            let what =
                format!("access list {number} has {} rules, {} at most are held", acl.rules().len(), limits::RULES);
            return Err(Problem::new(setting, what));
        }
    }
    has_rules(balance, balance.client_acl, "client-acl".to_owned(), "no client_acl")?;
    for vip in &balance.vips {
        has_rules(balance, vip.client_acl, format!("{} client-acl", vip.setting()), "no client_acl")?;
    }
    for listener in &config.proxy.listeners {
        has_rules(balance, listener.client_acl, format!("{} client-acl", listener.setting()), "no client_acl")?;
    }
    // Direct Server Return does not look at those.
    for backend in balance.backends.iter().filter(|_| !config.proxy.is_empty()) {
        has_rules(balance, backend.acl, format!("backend {} acl", backend.name), "server NAME acl none")?;
    }
    has_rules(balance, balance.control_acl, "control-acl".to_owned(), "no control_acl")?;
    has_rules(balance, balance.tarpit.map(|tarpit| tarpit.acl), "tarpit acl".to_owned(), "no tarpit_acl")?;
    tarpit(balance)?;
    let over_tcp = config.process.control.iter().find(|address| matches!(address, ControlAddress::Tcp(_)));
    match over_tcp {
        Some(address) if balance.control_acl.is_none() => Err(Problem::new(
            "control",
            format!(
                "commands over TCP, at {address}, need an access list: say who may give them (acl 1 permit 127.0.0.1, then control_acl 1; control-acl = 1 in [balance] of the file), or take a Unix socket"
            ),
        )),
        _ => Ok(()),
    }
}

/// A list that somebody relies on has rules: one without matches nobody, which can hardly be meant.
fn has_rules(balance: &Balance, acl: Option<u8>, setting: String, command: &str) -> Result<(), Problem> {
    let Some(number) = acl else { return Ok(()) };
    if balance.acls.get(&number).is_some_and(|acl| !acl.rules().is_empty()) {
        return Ok(());
    }
    let what = format!(
        "access list {number} has no rules, and matches nobody: first add some (acl {number} permit ADDRESS/PREFIX), or do without ({command}); several changes at once: include FILE"
    );
    Err(Problem::new(setting, what))
}

/// A tarpit answers for nobody who exists.
fn tarpit(balance: &Balance) -> Result<(), Problem> {
    let Some(tarpit) = balance.tarpit else { return Ok(()) };
    let Some(acl) = balance.acls.get(&tarpit.acl) else { return Ok(()) };
    let vips = balance.vips.iter().map(|vip| (vip.address, "a virtual address"));
    let backends = balance.backends.iter().filter_map(|backend| Some((backend.address?, "a backend")));
    let emergency = balance.emergency.iter().filter_map(|backend| Some((backend.address?, "the emergency backend")));
    let sources = sources(balance).map(|address| (address, "where checks come from"));
    let caught = |&(address, _): &(IpAddr, _)| acl.permits(address);
    match vips.chain(backends).chain(emergency).chain(sources).find(caught) {
        Some((address, who)) => Err(Problem::new(
            "tarpit acl",
            format!(
                "access list {} would make {address} a tarpit, which is {who}: put 'deny {address}' in front of its other rules",
                tarpit.acl
            ),
        )),
        None => Ok(()),
    }
}
