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
        let rather_ipv4 = self.balance.vips.first().is_none_or(|vip| vip.address.is_ipv4());
        let unknown = |backend: &&mut BackendConfig| backend.address.is_none() && backend.mac.is_none();
        for backend in self.balance.backends.iter_mut().filter(unknown) {
            let setting = format!("backend {}", backend.name);
            backend.address = Some(address(&backend.name, rather_ipv4, setting)?);
            backend.looked_up = true;
        }
        for backend in self.balance.emergency.iter_mut().filter(unknown) {
            backend.address = Some(address(&backend.name, rather_ipv4, "emergency".to_owned())?);
            backend.looked_up = true;
        }
        Ok(())
    }
}

/// The address of `name`, rather one of the VIP's family.
fn address(name: &str, rather_ipv4: bool, setting: String) -> Result<IpAddr, Problem> {
    let no_host = |why: String| Problem {
        setting,
        code: Sysexit::NoHost,
        message: format!("backend {name:?} does not resolve: {why}; give its address, or add it to /etc/hosts"),
    };
    let found: Vec<IpAddr> = match (name, 0).to_socket_addrs() {
        Ok(found) => found.map(|socket| socket.ip()).collect(),
        Err(e) => return Err(no_host(e.to_string())),
    };
    let usable = |a: &&IpAddr| !a.is_loopback() && !a.is_unspecified() && !a.is_multicast();
    let same_family = found.iter().filter(usable).find(|a| a.is_ipv4() == rather_ipv4);
    same_family.or_else(|| found.iter().find(usable)).copied().ok_or_else(|| {
        no_host(if found.is_empty() { "no address".to_owned() } else { format!("{found:?} is not on a segment") })
    })
}
