//! The proxy's tables: from their texts and numbers to its configuration.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;

use super::super::super::proxy::{
    AccessLog, BackendTls, CertificateFiles, ClientCertificates, Forwarded, ListenConfig, Mode, TlsConfig,
    parse_listener,
};
use super::super::super::{limits, rule, words};
use super::super::proxy::{
    AccessLogTable, BackendTlsTable, LimitsTable, ListenTable, NameTable, ProxyTable, ProxyTimeoutsTable,
    SelectionTable, TcpTable, TlsTable,
};
use super::super::{Number, Text};
use super::{Defaults, Reader, seconds, set};
use crate::failure::Failure;

type Texts = Vec<Spanned<String>>;

/// The path of a file or a folder.
fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("an empty path; leave the key out".to_owned()) } else { Ok(PathBuf::from(text)) }
}

impl Reader<'_> {
    pub(super) fn listen(&mut self, table: &Spanned<ListenTable>, defaults: Defaults) -> Result<(), Failure> {
        let table = table.get_ref();
        let at = &table.address;
        let addresses = parse_listener(at.get_ref(), defaults.lookup);
        let addresses = addresses.map_err(|failure| self.source.place(at.span()).blame(failure))?;
        let transport = self.parsed("listen protocol", table.protocol.as_ref(), FromStr::from_str)?.unwrap_or_default();
        // A port alone is two listeners, which differ in their addresses only.
        for address in addresses {
            let plain = ListenConfig::new(address, transport);
            let setting = plain.setting();
            if self.config.proxy.listeners.iter().any(|known| known.setting() == setting) {
                let what = format!("the listener {} ({transport}) is given twice: leave one out", plain.address);
                return Err(self.blame(Some(at), what));
            }
            self.note(&setting, at);
            if let Some(protocol) = &table.protocol {
                self.note(&format!("{setting} protocol"), protocol);
            }
            let named = |key: &str| format!("{setting} {key}");
            let listener = ListenConfig {
                mode: self.mode(&setting, table)?,
                tls: table.tls.as_ref().map(|tls| self.tls(&named("tls"), tls)).transpose()?,
                backend_tls: table
                    .backend_tls
                    .as_ref()
                    .map(|tls| self.backend_tls(&named("backend-tls"), tls))
                    .transpose()?,
                backend_port: self.number(&named("backend-port"), &table.backend_port, limits::PORT)?.unwrap_or(0)
                    as u16,
                backends: self.each(&named("backends"), &table.backends, words::parse_name)?,
                transparent: self.switch(&named("transparent"), &table.transparent).unwrap_or(false),
                source: self.each(&named("source"), &table.source, words::parse_server_address)?,
                accept_proxy: self.each(&named("accept-proxy"), &table.accept_proxy, rule::parse_network)?,
                send_proxy: self.parsed(&named("send-proxy"), table.send_proxy.as_ref(), FromStr::from_str)?,
                client_acl: self.number(&named("client-acl"), &table.client_acl, limits::ACL)?.map(|n| n as u8),
                ..plain
            };
            self.config.proxy.listeners.push(listener);
        }
        Ok(())
    }

    fn mode(&mut self, setting: &str, table: &ListenTable) -> Result<Mode, Failure> {
        let named = |key: &str| format!("{setting} {key}");
        let http = self.parsed(&named("mode"), table.mode.as_ref(), |word| match word {
            "stream" => Ok(false),
            "http" => Ok(true),
            _ => Err(format!("{word:?} is neither stream nor http")),
        })?;
        if http != Some(true) {
            let spans = [
                ("x-forwarded", table.x_forwarded.as_ref().map(Spanned::span)),
                ("forwarded", table.forwarded.as_ref().map(Spanned::span)),
                ("own-header", table.own_header.as_ref().map(Spanned::span)),
            ];
            return match spans.into_iter().find_map(|(key, span)| Some((key, span?))) {
                Some((key, span)) => {
                    let what = format!("{key} is of no use without mode = \"http\": add that, or leave it out");
                    Err(self.source.place(span).blame(Failure::usage(what)))
                }
                None => Ok(Mode::Stream),
            };
        }
        let mut headers = Forwarded::default();
        set(&mut headers.x_forwarded, self.switch(&named("x-forwarded"), &table.x_forwarded));
        set(&mut headers.forwarded, self.switch(&named("forwarded"), &table.forwarded));
        set(&mut headers.own, self.parsed(&named("own-header"), table.own_header.as_ref(), FromStr::from_str)?);
        Ok(Mode::Http(headers))
    }

    fn tls(&mut self, setting: &str, table: &Spanned<TlsTable>) -> Result<TlsConfig, Failure> {
        self.note(setting, table);
        let table = table.get_ref();
        let named = |key: &str| format!("{setting} {key}");
        let mut tls = TlsConfig {
            default: self.certificate(setting, table.certificate.as_ref(), &table.key, &table.ocsp)?,
            sni_path: self.parsed(&named("sni-path"), table.sni_path.as_ref(), path)?,
            ciphers: self.each(&named("ciphers"), &table.ciphers, item)?,
            alpn: self.each(&named("alpn"), &table.alpn, item)?,
            ..TlsConfig::default()
        };
        set(&mut tls.oldest, self.parsed(&named("oldest"), table.oldest.as_ref(), FromStr::from_str)?);
        set(&mut tls.newest, self.parsed(&named("newest"), table.newest.as_ref(), FromStr::from_str)?);
        set(&mut tls.tickets, self.time(&named("tickets"), &table.tickets, limits::TICKETS)?);
        let authorities = self.parsed(&named("client-authorities"), table.client_authorities.as_ref(), path)?;
        let required = self.switch(&named("client-required"), &table.client_required);
        if authorities.is_none() && required.is_some() {
            let what =
                "clients' certificates need client-authorities that they may be from: add these, or leave this out";
            return Err(self.blame(table.client_required.as_ref(), what));
        }
        tls.clients =
            authorities.map(|authorities| ClientCertificates { authorities, required: required.unwrap_or(false) });
        for name in &table.name {
            let NameTable { name, certificate, key, ocsp } = name.get_ref();
            let files = self.certificate(setting, Some(certificate), key, ocsp)?;
            tls.names.extend(files.map(|files| (name.get_ref().clone(), files)));
        }
        Ok(tls)
    }

    /// A certificate, its key, and what is stapled to it.
    fn certificate(
        &mut self,
        setting: &str,
        certificate: Option<&Spanned<String>>,
        key: &Text,
        ocsp: &Text,
    ) -> Result<Option<CertificateFiles>, Failure> {
        let named = |key: &str| format!("{setting} {key}");
        let chain = self.parsed(&named("certificate"), certificate, path)?;
        let own_key = self.parsed(&named("key"), key.as_ref(), path)?;
        let stapled = self.parsed(&named("ocsp"), ocsp.as_ref(), path)?;
        let Some(chain) = chain else {
            return match key.as_ref().or(ocsp.as_ref()) {
                Some(alone) => {
                    Err(self.blame(Some(alone), "this belongs to a certificate: add one, or leave this out"))
                }
                None => Ok(None),
            };
        };
        Ok(Some(CertificateFiles { key: own_key.unwrap_or_else(|| chain.clone()), chain, ocsp: stapled }))
    }

    fn backend_tls(&mut self, setting: &str, table: &Spanned<BackendTlsTable>) -> Result<BackendTls, Failure> {
        self.note(setting, table);
        let BackendTlsTable { verify, authorities, name, certificate, key } = table.get_ref();
        let named = |key: &str| format!("{setting} {key}");
        Ok(BackendTls {
            verify: self.switch(&named("verify"), verify).unwrap_or(false),
            authorities: self.parsed(&named("authorities"), authorities.as_ref(), path)?,
            name: self.parsed(&named("name"), name.as_ref(), item)?,
            own: self.certificate(setting, certificate.as_ref(), key, &None)?,
        })
    }

    pub(super) fn proxy(&mut self, table: &ProxyTable) -> Result<(), Failure> {
        let threads = self.number("proxy threads", &table.threads, limits::THREADS)?;
        let chroot = self.parsed("proxy chroot", table.chroot.as_ref(), path)?;
        let handover =
            self.parsed("proxy handover", table.handover.as_ref(), crate::config::process::parse_socket_path)?;
        let trusted = self.each("proxy trusted", &table.trusted, rule::parse_network)?;
        let abuse = self.parsed("proxy abuse", table.abuse.as_ref(), words::parse_backend)?;
        let proxy = &mut self.config.proxy;
        set(&mut proxy.threads, threads.map(|n| n as usize));
        proxy.chroot = chroot.or(proxy.chroot.take());
        proxy.handover = handover.or(proxy.handover.take());
        proxy.trusted.extend(trusted);
        proxy.abuse = abuse.map(words::named_with_port).or(proxy.abuse.take());
        self.selection(&table.selection)?;
        self.limits(&table.limits)?;
        self.proxy_timeouts(&table.timeouts)?;
        self.tcp(&table.tcp)?;
        if let Some(log) = &table.access_log {
            self.note("proxy access-log", log);
            let AccessLogTable { target, layout } = log.get_ref();
            let target = self.parsed("proxy access-log target", Some(target), FromStr::from_str)?;
            let layout = self.parsed("proxy access-log layout", layout.as_ref(), FromStr::from_str)?;
            self.config.proxy.access_log =
                target.map(|target| AccessLog { target, layout: layout.unwrap_or_default() });
        }
        Ok(())
    }

    fn selection(&mut self, table: &SelectionTable) -> Result<(), Failure> {
        let method = self.parsed("proxy selection method", table.method.as_ref(), FromStr::from_str)?;
        let track = self.switch("proxy selection track", &table.track);
        let clients = self.number("proxy selection clients", &table.clients, limits::CLIENTS)?;
        let tracking = self.time("proxy selection tracking", &table.tracking, limits::TRACKING)?;
        let stubborn = self.switch("proxy selection stubborn", &table.stubborn);
        let hash_port = self.switch("proxy selection hash-port", &table.hash_port);
        let selection = &mut self.config.proxy.selection;
        set(&mut selection.method, method);
        set(&mut selection.track, track);
        set(&mut selection.clients, clients);
        set(&mut selection.tracking, tracking);
        set(&mut selection.stubborn, stubborn);
        set(&mut selection.hash_port, hash_port);
        Ok(())
    }

    fn limits(&mut self, table: &LimitsTable) -> Result<(), Failure> {
        let mut new = self.config.proxy.limits;
        set(&mut new.connections, self.number("proxy limits connections", &table.connections, limits::CONNECTIONS)?);
        set(&mut new.pending, self.number("proxy limits pending", &table.pending, limits::PENDING)?);
        let batch = self.number("proxy limits accept-batch", &table.accept_batch, limits::ACCEPT_BATCH)?;
        set(&mut new.accept_batch, batch);
        set(&mut new.backlog, self.number("proxy limits backlog", &table.backlog, limits::BACKLOG)?);
        set(&mut new.head, self.number("proxy limits head", &table.head, limits::HEAD)?);
        set(&mut new.idlers, self.number("proxy limits idlers", &table.idlers, limits::KEPT)?);
        set(&mut new.reuse, self.number("proxy limits reuse", &table.reuse, limits::KEPT)?);
        set(&mut new.udp_clients, self.number("proxy limits udp-clients", &table.udp_clients, limits::CONNECTIONS)?);
        self.config.proxy.limits = new;
        Ok(())
    }

    fn proxy_timeouts(&mut self, table: &ProxyTimeoutsTable) -> Result<(), Failure> {
        let mut new = self.config.proxy.timeouts;
        set(&mut new.connect, self.time("proxy timeouts connect", &table.connect, limits::PATIENCE)?);
        set(&mut new.idle, self.time("proxy timeouts idle", &table.idle, limits::WHILE)?);
        set(&mut new.request, self.time("proxy timeouts request", &table.request, limits::PATIENCE)?);
        set(&mut new.response, self.time("proxy timeouts response", &table.response, limits::WHILE)?);
        set(&mut new.client_fin, self.time("proxy timeouts client-fin", &table.client_fin, limits::WHILE)?);
        set(&mut new.blacklist, self.time("proxy timeouts blacklist", &table.blacklist, limits::LEFT_OUT)?);
        set(&mut new.reuse, self.time("proxy timeouts reuse", &table.reuse, limits::LEFT_OUT)?);
        set(&mut new.udp, self.time("proxy timeouts udp", &table.udp, limits::UDP_IDLE)?);
        set(&mut new.drain, self.time("proxy timeouts drain", &table.drain, limits::LEFT_OUT)?);
        self.config.proxy.timeouts = new;
        Ok(())
    }

    fn tcp(&mut self, table: &TcpTable) -> Result<(), Failure> {
        let mut new = self.config.proxy.tcp;
        set(&mut new.nodelay, self.switch("proxy tcp nodelay", &table.nodelay));
        set(&mut new.fastclose, self.switch("proxy tcp fastclose", &table.fastclose));
        set(&mut new.keepalive, self.time("proxy tcp keepalive", &table.keepalive, limits::KEEPALIVE)?);
        set(&mut new.splice, self.switch("proxy tcp splice", &table.splice));
        self.config.proxy.tcp = new;
        Ok(())
    }

    /// A number of seconds.
    fn time(
        &mut self,
        setting: &str,
        value: &Number,
        range: std::ops::RangeInclusive<u32>,
    ) -> Result<Option<Duration>, Failure> {
        Ok(self.number(setting, value, range)?.map(seconds))
    }

    /// All of a list.
    fn each<T, E: std::fmt::Display>(
        &mut self,
        setting: &str,
        texts: &Texts,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        let mut all = Vec::new();
        for text in texts {
            all.extend(self.parsed(setting, Some(text), &parse)?);
        }
        Ok(all)
    }
}

/// A word.
fn item(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | ',');
    match text.is_empty() || text.chars().any(odd) {
        true => Err(format!("{text:?} is no single name: write one without blanks, commas and colons")),
        false => Ok(text.to_owned()),
    }
}
