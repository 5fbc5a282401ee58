//! Changes of one backend.

use std::net::IpAddr;

use super::super::{Balance, words};
use super::Change;
use crate::failure::Failure;

/// Makes `changes` to the backend at `index`; says each.
pub(super) fn change(balance: &mut Balance, index: usize, changes: &[Change], proxy: bool) -> Result<String, Failure> {
    // What is said of limits and such where nothing looks at them.
    let kept = if proxy { "" } else { " (kept, of no effect on Direct Server Return)" };
    let vips = !balance.vips.is_empty();
    let mut said = Vec::new();
    for change in changes {
        let backend = &mut balance.backends[index];
        let own_host = backend.host.as_ref().unwrap_or(&backend.name);
        let named = backend.path.is_none() && own_host.parse::<IpAddr>().is_err();
        said.push(match change {
            Change::Address(host) if host.address.is_some() && named => {
                (backend.address, backend.mac, backend.looked_up) = (host.address, host.mac, false);
                format!("address {}, with the clients that it has", host.name)
            }
            Change::Address(host) => {
                let mut new = host.clone();
                if !vips && new.path.is_none() {
                    new.port = backend.port;
                    new = words::named_with_port(new);
                }
                if balance.backends.iter().enumerate().any(|(at, known)| at != index && known.name == new.name) {
                    return Err(Failure::usage(format!(
                        "backend {:?} is the same host as one that is there already",
                        new.name
                    )));
                }
                let backend = &mut balance.backends[index];
                let was = std::mem::replace(&mut backend.name, new.name);
                (backend.host, backend.path) = (new.host, new.path);
                if backend.path.is_some() {
                    backend.port = 0;
                }
                (backend.address, backend.mac, backend.looked_up) = (new.address, new.mac, false);
                format!("in place of {was}, with clients of its own")
            }
            Change::Mac(mac) => {
                backend.mac = *mac;
                mac.map_or_else(|| "its MAC is asked for".to_owned(), |mac| format!("mac {mac}"))
            }
            Change::Port(port) => {
                // One that is called by host and port is called by the new one, then.
                let host = backend.host.take_if(|host| backend.name == words::with_port(host, backend.port));
                backend.port = *port;
                if let Some(host) = host {
                    backend.name = host;
                    *backend = words::named_with_port(backend.clone());
                }
                format!("port {port}")
            }
            Change::Weight(weight) => {
                let was = std::mem::replace(&mut backend.weight, *weight);
                format!("weight {was} -> {weight}")
            }
            Change::Soft(max) => {
                backend.soft = *max;
                format!("max {max}{kept}")
            }
            Change::Hard(hard) => {
                backend.hard = *hard;
                format!("hard {hard}{kept}")
            }
            Change::Prio(prio) => {
                backend.prio = *prio;
                format!("prio {prio}{kept}")
            }
            Change::Acl(acl) => {
                backend.acl = *acl;
                match acl {
                    _ if !proxy => {
                        "acl (of no effect: the hash alone decides whose backend it is; client_acl keeps clients out)"
                            .to_owned()
                    }
                    Some(acl) => format!("acl {acl}"),
                    None => "acl none".to_owned(),
                }
            }
        });
    }
    Ok(format!("{}: {}", balance.backends[index].name, said.join(", ")))
}
