//! Names of backends to addresses.

use std::net::{IpAddr, ToSocketAddrs};

use super::origin::Problem;
use super::{BackendConfig, Config};
use crate::failure::{Failure, Sysexit};

/// Are backends' names to be looked up?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Yes, and one that does not resolve is an error.
    Names,
    /// No: a dry run touches no network.
    Nothing,
}

impl Config {
    /// Looks up the backends that have neither an address nor a MAC, if `lookup` says so. That may take as long as the
    /// system's resolver does.
    ///
    /// # Errors
    /// NoHost: a name does not resolve.
    pub fn resolve(&mut self, lookup: Lookup) -> Result<(), Failure> {
        self.look_up(lookup).map(drop).map_err(Failure::from)
    }

    /// As [`Config::resolve`]; gives back what there is to say of the names, a line each.
    pub(crate) fn look_up(&mut self, lookup: Lookup) -> Result<Vec<String>, Problem> {
        if lookup == Lookup::Nothing {
            return Ok(Vec::new());
        }
        let mut remarks = Vec::new();
        let Config { balance, proxy, .. } = self;
        let rather_ipv4 = balance.vips.first().is_none_or(|vip| vip.address.is_ipv4());
        let near = balance.vips.is_empty();
        // The proxy connects to an address, whatever the MAC.
        let connects = !proxy.is_empty();
        let unknown = |backend: &&mut BackendConfig| {
            let enough = backend.path.is_some() || (backend.mac.is_some() && !connects);
            backend.address.is_none() && !enough
        };
        for backend in balance.backends.iter_mut().filter(unknown) {
            let setting = format!("backend {}", backend.name);
            remarks.extend(fill_in(backend, rather_ipv4, near, setting)?);
        }
        for backend in balance.emergency.iter_mut().filter(unknown) {
            remarks.extend(fill_in(backend, rather_ipv4, near, "emergency".to_owned())?);
        }
        for backend in proxy.abuse.iter_mut().filter(unknown) {
            remarks.extend(fill_in(backend, rather_ipv4, true, "proxy abuse".to_owned())?);
        }
        if !connects {
            // A backend of Direct Server Return is found by any of its addresses.
            remarks.clear();
        }
        // A host may have several servers.
        remarks.dedup();
        Ok(remarks)
    }
}

/// Finds the address of a backend's host; gives back what there is to say of it.
fn fill_in(
    backend: &mut BackendConfig,
    rather_ipv4: bool,
    near: bool,
    setting: String,
) -> Result<Option<String>, Problem> {
    let name = backend.host.as_ref().unwrap_or(&backend.name);
    let no_host = |why: String| Problem {
        setting,
        code: Sysexit::NoHost,
        message: format!("backend {name:?} does not resolve: {why}; give its address, or add it to /etc/hosts"),
    };
    let found: Vec<IpAddr> = match (name.as_str(), 0).to_socket_addrs() {
        Ok(found) => found.map(|socket| socket.ip()).collect(),
        Err(e) => return Err(no_host(e.to_string())),
    };
    let Some((address, others)) = choose(&found, rather_ipv4, near) else {
        return Err(no_host(match found.is_empty() {
            true => "no address".to_owned(),
            false => format!("{found:?} is not on a segment"),
        }));
    };
    let remark = (others > 0).then(|| {
        let many = others + 1;
        format!("{name} has {many} addresses, of which {address} is used: name the others as servers of their own")
    });
    backend.address = Some(address);
    backend.looked_up = true;
    Ok(remark)
}

/// Which of the addresses `found` is used, and how many others could be: rather one of the VIP's family; one of this
/// machine's own only where `near` lets it.
fn choose(found: &[IpAddr], rather_ipv4: bool, near: bool) -> Option<(IpAddr, usize)> {
    let mut usable: Vec<IpAddr> = Vec::new();
    for &address in found {
        let fits = (near || !address.is_loopback()) && !address.is_unspecified() && !address.is_multicast();
        if fits && !usable.contains(&address) {
            usable.push(address);
        }
    }
    let same_family = usable.iter().find(|address| address.is_ipv4() == rather_ipv4);
    same_family.or(usable.first()).map(|&address| (address, usable.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_addresses_the_first_of_the_family_is_used_and_the_others_are_counted() {
        let found = ["::1", "127.0.0.1", "127.0.0.1", "fd00::1", "10.0.0.1", "0.0.0.0", "ff02::1"];
        let found = found.map(|text| text.parse::<IpAddr>().unwrap());
        let chosen = |rather_ipv4, near| choose(&found, rather_ipv4, near).unwrap();
        assert_eq!(chosen(true, true), (found[1], 3));
        assert_eq!(chosen(false, true), (found[0], 3));
        assert_eq!(chosen(true, false), (found[4], 1));
        assert_eq!(chosen(false, false), (found[3], 1));
        assert_eq!(choose(&found[..1], true, true), Some((found[0], 0)), "there is no other family");
        assert_eq!(choose(&found[..1], true, false), None);
    }
}
