//! The proxy's configuration as tables.

use toml::Spanned;

use super::super::super::ProxyConfig;
use super::super::super::proxy::{
    BackendTls, CertificateFiles, ListenConfig, Mode, ProxyLimits, ProxyTimeouts, Selection, TcpOptions, TlsConfig,
};
use super::super::super::rule::network_word;
use super::super::super::words;
use super::super::proxy::{
    AccessLogTable, BackendTlsTable, LimitsTable, ListenTable, NameTable, ProxyTable, ProxyTimeoutsTable,
    SelectionTable, TcpTable, TlsTable,
};
use super::{number, path, seconds, switch, text, unplaced};

fn list<T>(items: &[T], word: impl Fn(&T) -> String) -> Vec<Spanned<String>> {
    items.iter().map(|item| unplaced(word(item))).collect()
}

impl From<&ListenConfig> for ListenTable {
    fn from(listener: &ListenConfig) -> ListenTable {
        let headers = match &listener.mode {
            Mode::Stream => None,
            Mode::Http(headers) => Some(headers),
        };
        ListenTable {
            address: unplaced(listener.address.to_string()),
            protocol: text(listener.transport),
            mode: text(if headers.is_some() { "http" } else { "stream" }),
            x_forwarded: headers.and_then(|headers| switch(headers.x_forwarded)),
            forwarded: headers.and_then(|headers| switch(headers.forwarded)),
            own_header: headers.and_then(|headers| text(headers.own)),
            backend_port: number(listener.backend_port),
            backends: list(&listener.backends, String::clone),
            transparent: switch(listener.transparent),
            source: list(&listener.source, ToString::to_string),
            accept_proxy: list(&listener.accept_proxy, network_word),
            send_proxy: listener.send_proxy.and_then(text),
            client_acl: listener.client_acl.and_then(number),
            tls: listener.tls.as_ref().map(|tls| unplaced(tls.into())),
            backend_tls: listener.backend_tls.as_ref().map(|tls| unplaced(tls.into())),
        }
    }
}

impl From<&TlsConfig> for TlsTable {
    fn from(tls: &TlsConfig) -> TlsTable {
        let default = tls.default.as_ref();
        TlsTable {
            certificate: default.and_then(|files| path(&files.chain)),
            key: default.and_then(|files| path(&files.key)),
            ocsp: default.and_then(|files| files.ocsp.as_deref().and_then(path)),
            sni_path: tls.sni_path.as_deref().and_then(path),
            oldest: text(tls.oldest),
            newest: text(tls.newest),
            ciphers: list(&tls.ciphers, String::clone),
            alpn: list(&tls.alpn, String::clone),
            client_authorities: tls.clients.as_ref().and_then(|clients| path(&clients.authorities)),
            client_required: tls.clients.as_ref().and_then(|clients| switch(clients.required)),
            tickets: seconds(tls.tickets),
            name: tls.names.iter().map(|(name, files)| unplaced(name_table(name, files))).collect(),
        }
    }
}

fn name_table(name: &str, files: &CertificateFiles) -> NameTable {
    NameTable {
        name: unplaced(name.to_owned()),
        certificate: unplaced(files.chain.display().to_string()),
        key: path(&files.key),
        ocsp: files.ocsp.as_deref().and_then(path),
    }
}

impl From<&BackendTls> for BackendTlsTable {
    fn from(tls: &BackendTls) -> BackendTlsTable {
        let own = tls.own.as_ref();
        BackendTlsTable {
            verify: switch(tls.verify),
            authorities: tls.authorities.as_deref().and_then(path),
            name: tls.name.as_ref().and_then(text),
            certificate: own.and_then(|files| path(&files.chain)),
            key: own.and_then(|files| path(&files.key)),
        }
    }
}

impl From<&ProxyConfig> for ProxyTable {
    fn from(proxy: &ProxyConfig) -> ProxyTable {
        ProxyTable {
            threads: number(proxy.threads as u32),
            chroot: proxy.chroot.as_deref().and_then(path),
            handover: proxy.handover.as_deref().and_then(path),
            trusted: list(&proxy.trusted, network_word),
            abuse: proxy.abuse.as_ref().map(words::backend_word).and_then(text),
            selection: proxy.selection.into(),
            limits: proxy.limits.into(),
            timeouts: proxy.timeouts.into(),
            tcp: proxy.tcp.into(),
            access_log: proxy.access_log.as_ref().map(|log| {
                unplaced(AccessLogTable { target: unplaced(log.target.to_string()), layout: text(log.layout) })
            }),
        }
    }
}

impl From<Selection> for SelectionTable {
    fn from(selection: Selection) -> SelectionTable {
        SelectionTable {
            method: text(selection.method),
            track: switch(selection.track),
            clients: number(selection.clients),
            tracking: seconds(selection.tracking),
            stubborn: switch(selection.stubborn),
            hash_port: switch(selection.hash_port),
        }
    }
}

impl From<ProxyLimits> for LimitsTable {
    fn from(limits: ProxyLimits) -> LimitsTable {
        LimitsTable {
            connections: number(limits.connections),
            pending: number(limits.pending),
            accept_batch: number(limits.accept_batch),
            backlog: number(limits.backlog),
            head: number(limits.head),
            idlers: number(limits.idlers),
            reuse: number(limits.reuse),
            udp_clients: number(limits.udp_clients),
        }
    }
}

impl From<ProxyTimeouts> for ProxyTimeoutsTable {
    fn from(timeouts: ProxyTimeouts) -> ProxyTimeoutsTable {
        ProxyTimeoutsTable {
            connect: seconds(timeouts.connect),
            idle: seconds(timeouts.idle),
            request: seconds(timeouts.request),
            response: seconds(timeouts.response),
            client_fin: seconds(timeouts.client_fin),
            blacklist: seconds(timeouts.blacklist),
            reuse: seconds(timeouts.reuse),
            udp: seconds(timeouts.udp),
            drain: seconds(timeouts.drain),
        }
    }
}

impl From<TcpOptions> for TcpTable {
    fn from(tcp: TcpOptions) -> TcpTable {
        TcpTable {
            nodelay: switch(tcp.nodelay),
            fastclose: switch(tcp.fastclose),
            keepalive: seconds(tcp.keepalive),
            splice: switch(tcp.splice),
        }
    }
}
