//! `pen-dsr explain`: which backend serves a client, and why.

use std::fmt::Write;

use crate::config::{Balance, Endpoint};
use crate::failure::Failure;
use crate::lb::Tables;

/// One line for `client`: its backend, its slot, and how that came about by `tables`, which are those of `balance`; `name`
/// is what the backend with a number is called.
///
/// # Errors
/// Usage: the client's port takes part in the choice and is not given, or no VIP is of the client's family.
pub fn explain<'a>(
    balance: &Balance,
    tables: &Tables,
    name: impl Fn(usize) -> &'a str,
    client: Endpoint,
) -> Result<String, Failure> {
    let address = client.address;
    if balance.hash_port && client.port.is_none() {
        return Err(Failure::usage(format!(
            "client {address}: with -r its port takes part in the choice; write it behind the address"
        )));
    }
    let Some(vip) = balance.vips.iter().find(|vip| vip.address.is_ipv4() == address.is_ipv4()) else {
        return Err(Failure::usage(format!("client {address}: none of the virtual addresses is of its family")));
    };
    let service = tables.vip(vip.address).and_then(|index| tables.vips()[index].services.first());
    let Some(service) = service else {
        return Err(Failure::usage("no service"));
    };

    let port = client.port.unwrap_or(0);
    let choice = service.current.choose(address, port);
    let who = Endpoint { address, port: balance.hash_port.then_some(port) };
    let chosen = choice.backend.map_or("nobody", &name);
    let slots = &service.current.slots;
    let mut line = format!("{who} -> {chosen}  slot {} of {}  hash {:016x}", choice.slot, slots.size(), choice.hash);
    let hashed = if balance.hash_port { "address and port" } else { "address" };
    let _ = write!(line, "  (SipHash-1-3 of the {hashed}, seed {}", balance.seed);
    if let Some(index) = choice.backend {
        let own = (0..slots.size()).filter(|&slot| slots.member(slot) == Some(index)).count();
        let share = 100.0 * own as f64 / slots.size() as f64;
        let total: u64 = balance.backends.iter().map(|b| u64::from(b.weight)).sum();
        let weight = balance.backends.iter().find(|backend| backend.name == chosen).map_or(1, |backend| backend.weight);
        let _ = write!(line, "; {chosen} has weight {weight} of {total} and {share:.2} % of the slots");
    }
    if !service.admits(address) {
        line.push_str("; the client's access list does not permit it");
    }
    let before = service.previous.as_ref().map(|previous| previous.choose(address, port).backend);
    if let Some(before) = before.filter(|before| *before != choice.backend) {
        let _ = write!(line, "; flows from before the last change are at {}", before.map_or("nobody", &name));
    }
    line.push(')');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BackendConfig, VipConfig, parse_client};

    fn balance(hash_port: bool) -> Balance {
        Balance {
            vips: vec![VipConfig::new("10.0.0.100".parse().unwrap(), 0)],
            backends: vec![BackendConfig::named("be1"), BackendConfig::named("be2")],
            hash_port,
            ..Balance::default()
        }
    }

    fn ask(hash_port: bool, client: &str) -> Result<String, Failure> {
        let balance = balance(hash_port);
        let name = |index: usize| balance.backends[index].name.as_str();
        explain(&balance, &balance.all_up(), name, parse_client(client).unwrap())
    }

    #[test]
    fn the_port_changes_the_answer_only_with_r() {
        let backend = |hash_port, client: &str| {
            let line = ask(hash_port, client).unwrap();
            line.split_whitespace().nth(2).unwrap().to_owned()
        };
        let answers = |hash_port| -> Vec<String> {
            (1..40).map(|port| backend(hash_port, &format!("192.0.2.7:{port}"))).collect()
        };
        assert!(answers(false).windows(2).all(|pair| pair[0] == pair[1]));
        assert!(answers(true).windows(2).any(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn what_cannot_be_told_is_an_error() {
        assert!(ask(true, "192.0.2.7").is_err());
        assert!(ask(false, "2001:db8::7").is_err());
    }
}
