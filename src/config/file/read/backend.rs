//! A `[[backend]]`: a host, or a Unix socket for the proxy.

use toml::Spanned;

use super::super::super::{BackendConfig, limits, words};
use super::super::{BackendTable, Text};
use super::{Defaults, Reader, set};
use crate::failure::Failure;

impl Reader<'_> {
    pub(super) fn backend(&mut self, spanned: &Spanned<BackendTable>, defaults: Defaults) -> Result<(), Failure> {
        let table = spanned.get_ref();
        let (unnamed, at) = self.host_or_socket(spanned)?;
        // What it is called is only known with its port: "backend" stands for it until then.
        let port = self.number("backend port", &table.port, limits::PORT)?.unwrap_or(0) as u16;
        let mut backend = BackendConfig { port, ..unnamed };
        match self.parsed("backend name", table.name.as_ref(), words::parse_name)? {
            Some(name) if name == backend.name => {}
            Some(name) => {
                let host = std::mem::replace(&mut backend.name, name);
                backend.host = backend.path.is_none().then_some(host);
            }
            None if defaults.vips => {}
            None => backend = words::named_with_port(backend),
        }
        let name = backend.name.clone();
        if self.config.balance.backends.iter().any(|known| known.name == name) {
            return Err(self.blame(Some(at), format!("backend {name:?} is given twice: leave one out")));
        }
        let setting = format!("backend {name}");
        self.note(&setting, at);
        if let Some(port) = &table.port {
            self.note(&format!("{setting} port"), port);
        }
        let named = |key: &str| format!("{setting} {key}");
        let fixed = self.parsed(&named("address"), table.address.as_ref(), words::parse_server_address)?;
        if let (Some(literal), Some(_)) = (backend.address, fixed) {
            let what = format!("the host {literal} is an address already: leave this one out, or name the host");
            return Err(self.blame(table.address.as_ref(), what));
        }
        backend.address = backend.address.or(fixed);
        backend.mac = self.parsed(&named("mac"), table.mac.as_ref(), words::parse_station)?;
        set(&mut backend.weight, self.number(&named("weight"), &table.weight, limits::WEIGHT)?);
        set(&mut backend.soft, self.number(&named("soft"), &table.soft, limits::PENS)?);
        set(&mut backend.hard, self.number(&named("hard"), &table.hard, limits::PENS)?);
        set(&mut backend.prio, self.number(&named("prio"), &table.prio, limits::PENS)?);
        backend.acl = self.number(&named("acl"), &table.acl, limits::ACL)?.map(|n| n as u8);
        set(&mut backend.maintenance, self.switch(&named("maintenance"), &table.maintenance));
        self.config.balance.backends.push(backend);
        Ok(())
    }

    /// Where a backend is, under the name that this has by itself, and what says so.
    fn host_or_socket<'t>(
        &self,
        table: &'t Spanned<BackendTable>,
    ) -> Result<(BackendConfig, &'t Spanned<String>), Failure> {
        let BackendTable { host, path, address, mac, port, .. } = table.get_ref();
        match (host, path) {
            (Some(host), None) => {
                let parsed = words::parse_host(host.get_ref());
                let (name, literal) = parsed.map_err(|what| self.blame(Some(host), what))?;
                Ok((BackendConfig { address: literal, ..BackendConfig::named(&name) }, host))
            }
            (None, Some(path)) => {
                let backend = words::parse_socket_server(path.get_ref());
                let backend = backend.map_err(|what| self.blame(Some(path), what))?;
                let place = |text: &Text| text.as_ref().map(Spanned::span);
                let of_hosts =
                    [("address", place(address)), ("mac", place(mac)), ("port", port.as_ref().map(Spanned::span))];
                if let Some((key, span)) = of_hosts.into_iter().find_map(|(key, span)| Some((key, span?))) {
                    let what = format!("a Unix socket has no {key}: leave it out");
                    return Err(self.source.place(span).blame(Failure::usage(what)));
                }
                Ok((backend, path))
            }
            (Some(_), Some(path)) => {
                Err(self.blame(Some(path), "a backend is a host or a Unix socket: leave host or path out"))
            }
            (None, None) => {
                let what = "the key \"host\" is missing here; add it (or path, for a Unix socket)";
                Err(self.blame(Some(table), what))
            }
        }
    }
}
