//! From raw words to a validated [`Balance`].

use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;

use super::cli::{BalanceArgs, ProcessArgs};
use super::{Balance, VipConfig, parse_backend, parse_vip};
use crate::failure::{Failure, Sysexit};
use crate::neighbor::Timing;

/// Are backends' names to be looked up?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Yes, and one that does not resolve is an error.
    Names,
    /// No: a dry run touches no network.
    Nothing,
}

/// Reads `words` (the VIP, then the backends) and the options into a configuration.
///
/// # Errors
/// Usage, or a name that does not resolve; the message names the word and says what to do.
pub fn balance(
    args: &BalanceArgs,
    process: &ProcessArgs,
    words: &[String],
    lookup: Lookup,
) -> Result<Balance, Failure> {
    let (first, rest) = words.split_first().ok_or_else(|| {
        Failure::usage(
            "nothing to balance: name the virtual address, then the backends (pen-dsr -i IF VIP[:port] BACKEND...)",
        )
    })?;
    let mut balance = Balance {
        hash_port: args.hash_port,
        seed: args.seed,
        table_size: args.table_size,
        neighbor: Timing { revalidate: Duration::from_secs(u64::from(process.neighbor_interval)), ..Timing::default() },
        ..Balance::default()
    };
    for word in std::iter::once(first).chain(&args.vip) {
        let vip = VipConfig { protocols: args.protocols(), ..parse_vip(word)? };
        if balance.vips.contains(&vip) {
            return Err(Failure::usage(format!("the virtual address {vip} is given twice")));
        }
        balance.vips.push(vip);
    }
    if rest.is_empty() {
        return Err(Failure::usage(format!(
            "no backends: after the virtual address {first} name at least one (pen-dsr -i IF {first} BACKEND...)"
        )));
    }
    for word in rest {
        let mut backend = parse_backend(word)?;
        if backend.address.is_none() && backend.mac.is_none() && lookup == Lookup::Names {
            backend.address = Some(look_up(&backend.name, balance.vips[0].address)?);
        }
        for known in &balance.backends {
            let same_address = backend.address.is_some() && known.address == backend.address;
            if known.name == backend.name || same_address {
                return Err(Failure::usage(format!("backend {word:?} is the same host as backend {:?}", known.name)));
            }
        }
        if let Some(vip) = balance.vips.iter().find(|vip| backend.address == Some(vip.address)) {
            return Err(Failure::usage(format!(
                "backend {word:?} has the virtual address {} itself: name the backend's own address, the VIP goes on its loopback",
                vip.address
            )));
        }
        if let Some(vip) = balance.vips.iter().find(|vip| backend.port != 0 && vip.port != backend.port) {
            return Err(Failure::usage(format!(
                "backend {word:?}: Direct Server Return cannot change ports, and {vip} is not port {}; leave the port out",
                backend.port
            )));
        }
        balance.backends.push(backend);
    }
    Ok(balance)
}

/// The address of `name`, rather one of the VIP's family.
fn look_up(name: &str, vip: IpAddr) -> Result<IpAddr, Failure> {
    let no_host = |why: String| {
        Failure::new(
            Sysexit::NoHost,
            format!("backend {name:?} does not resolve: {why}; give its address, or add it to /etc/hosts"),
        )
    };
    let found: Vec<IpAddr> = (name, 0).to_socket_addrs().map_err(|e| no_host(e.to_string()))?.map(|a| a.ip()).collect();
    let usable = |a: &&IpAddr| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast();
    let same_family = found.iter().filter(usable).find(|a| a.is_ipv4() == vip.is_ipv4());
    same_family.or_else(|| found.iter().find(usable)).copied().ok_or_else(|| {
        no_host(if found.is_empty() { "no address".to_owned() } else { format!("{found:?} is not on a segment") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cli::Cli;
    use clap::Parser;

    fn read(line: &str) -> Result<Balance, Failure> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("clap takes it");
        balance(&cli.balance, &cli.process, &cli.words, Lookup::Names)
    }

    #[test]
    fn vips_and_backends_of_both_families_mix() {
        let b = read("pen-dsr -U 10.0.0.100 --vip [fd00::100]:53 10.0.0.11 fd00::12 be3@02:00:00:00:00:13").unwrap();
        assert_eq!((b.vips.len(), b.backends.len()), (2, 3));
        assert_eq!(b.backends[2].address, None);
    }

    #[test]
    fn contradictions_are_refused_with_the_word_in_the_message() {
        for (line, code, word) in [
            ("pen-dsr", Sysexit::Usage, "virtual address"),
            ("pen-dsr 10.0.0.100", Sysexit::Usage, "no backends"),
            ("pen-dsr be1 10.0.0.100", Sysexit::Usage, "be1"),
            ("pen-dsr 10.0.0.100 10.0.0.11 10.0.0.11", Sysexit::Usage, "same host"),
            ("pen-dsr 10.0.0.100 10.0.0.100", Sysexit::Usage, "loopback"),
            ("pen-dsr 10.0.0.100:80 10.0.0.11:8080", Sysexit::Usage, "cannot change ports"),
            ("pen-dsr 10.0.0.100 --vip 10.0.0.100 10.0.0.11", Sysexit::Usage, "twice"),
            ("pen-dsr 10.0.0.100 no-such-host.invalid", Sysexit::NoHost, "no-such-host.invalid"),
        ] {
            let failure = read(line).unwrap_err();
            assert_eq!(failure.code, code, "{line}: {failure}");
            assert!(failure.message.contains(word), "{line}: {failure}");
        }
    }
}
