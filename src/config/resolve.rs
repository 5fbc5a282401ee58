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
        self.look_up(lookup).map_err(Failure::from)
    }

    pub(crate) fn look_up(&mut self, lookup: Lookup) -> Result<(), Problem> {
        if lookup == Lookup::Nothing {
            return Ok(());
        }
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
            fill_in(backend, rather_ipv4, near, setting)?;
        }
        for backend in balance.emergency.iter_mut().filter(unknown) {
            fill_in(backend, rather_ipv4, near, "emergency".to_owned())?;
        }
        for backend in proxy.abuse.iter_mut().filter(unknown) {
            fill_in(backend, rather_ipv4, true, "proxy abuse".to_owned())?;
        }
        Ok(())
    }
}

/// The address of a backend's host, rather one of the VIP's family; one of this machine's own only where `near` lets it.
fn fill_in(backend: &mut BackendConfig, rather_ipv4: bool, near: bool, setting: String) -> Result<(), Problem> {
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
    let usable = |a: &&IpAddr| (near || !a.is_loopback()) && !a.is_unspecified() && !a.is_multicast();
    let same_family = found.iter().filter(usable).find(|a| a.is_ipv4() == rather_ipv4);
    let address = same_family.or_else(|| found.iter().find(usable)).copied();
    backend.address = Some(address.ok_or_else(|| {
        no_host(if found.is_empty() { "no address".to_owned() } else { format!("{found:?} is not on a segment") })
    })?);
    backend.looked_up = true;
    Ok(())
}
