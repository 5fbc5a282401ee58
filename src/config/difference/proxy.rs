//! The proxy's settings by their names.

use std::path::PathBuf;

use super::super::proxy::{BackendTls, CertificateFiles, ListenConfig, Mode, ProxyConfig, TlsConfig};
use super::super::rule::network_word;
use super::super::words;
use super::Settings;

/// Those that a running process cannot change.
pub(super) const FIXED: [&str; 3] = ["proxy threads", "proxy chroot", "proxy handover"];

fn joined<T>(items: &[T], word: impl Fn(&T) -> String) -> Option<String> {
    (!items.is_empty()).then(|| items.iter().map(word).collect::<Vec<_>>().join(", "))
}

impl Settings {
    pub(super) fn proxy(&mut self, proxy: &ProxyConfig) {
        for listener in &proxy.listeners {
            self.listener(listener);
        }
        self.put("proxy threads", proxy.threads);
        self.path("proxy chroot", proxy.chroot.as_ref());
        self.path("proxy handover", proxy.handover.as_ref());
        self.maybe("proxy trusted", joined(&proxy.trusted, network_word));
        self.maybe("proxy abuse", proxy.abuse.as_ref().map(words::backend_word));
        self.maybe("proxy abuse address", proxy.abuse.as_ref().and_then(|abuse| abuse.address));
        let selection = &proxy.selection;
        self.put("proxy selection method", selection.method);
        self.put("proxy selection track", selection.track);
        self.put("proxy selection clients", selection.clients);
        self.put("proxy selection tracking", selection.tracking.as_secs());
        self.put("proxy selection stubborn", selection.stubborn);
        self.put("proxy selection hash-port", selection.hash_port);
        let limits = &proxy.limits;
        self.put("proxy limits connections", limits.connections);
        self.put("proxy limits pending", limits.pending);
        self.put("proxy limits accept-batch", limits.accept_batch);
        self.put("proxy limits backlog", limits.backlog);
        self.put("proxy limits head", limits.head);
        self.put("proxy limits idlers", limits.idlers);
        self.put("proxy limits reuse", limits.reuse);
        self.put("proxy limits udp-clients", limits.udp_clients);
        let timeouts = &proxy.timeouts;
        self.put("proxy timeouts connect", timeouts.connect.as_secs());
        self.put("proxy timeouts idle", timeouts.idle.as_secs());
        self.put("proxy timeouts request", timeouts.request.as_secs());
        self.put("proxy timeouts response", timeouts.response.as_secs());
        self.put("proxy timeouts client-fin", timeouts.client_fin.as_secs());
        self.put("proxy timeouts blacklist", timeouts.blacklist.as_secs());
        self.put("proxy timeouts reuse", timeouts.reuse.as_secs());
        self.put("proxy timeouts udp", timeouts.udp.as_secs());
        self.put("proxy timeouts drain", timeouts.drain.as_secs());
        self.put("proxy tcp nodelay", proxy.tcp.nodelay);
        self.put("proxy tcp fastclose", proxy.tcp.fastclose);
        self.put("proxy tcp keepalive", proxy.tcp.keepalive.as_secs());
        self.put("proxy tcp splice", proxy.tcp.splice);
        if let Some(log) = &proxy.access_log {
            self.put("proxy access-log target", &log.target);
            self.put("proxy access-log layout", log.layout);
        }
    }

    fn listener(&mut self, listener: &ListenConfig) {
        let name = listener.setting();
        match &listener.mode {
            Mode::Stream => self.put(format!("{name} mode"), "stream"),
            Mode::Http(headers) => {
                self.put(format!("{name} mode"), "http");
                self.put(format!("{name} x-forwarded"), headers.x_forwarded);
                self.put(format!("{name} forwarded"), headers.forwarded);
                self.put(format!("{name} own-header"), headers.own);
            }
        }
        self.put(format!("{name} backend-port"), listener.backend_port);
        self.maybe(format!("{name} backends"), joined(&listener.backends, String::clone));
        self.put(format!("{name} transparent"), listener.transparent);
        self.maybe(format!("{name} source"), joined(&listener.source, ToString::to_string));
        self.maybe(format!("{name} accept-proxy"), joined(&listener.accept_proxy, network_word));
        self.maybe(format!("{name} send-proxy"), listener.send_proxy);
        self.maybe(format!("{name} client-acl"), listener.client_acl);
        self.put(format!("{name} tls"), listener.tls.is_some());
        self.put(format!("{name} backend-tls"), listener.backend_tls.is_some());
        if let Some(tls) = &listener.tls {
            self.tls(&format!("{name} tls"), tls);
        }
        if let Some(tls) = &listener.backend_tls {
            self.backend_tls(&format!("{name} backend-tls"), tls);
        }
    }

    fn tls(&mut self, name: &str, tls: &TlsConfig) {
        if let Some(files) = &tls.default {
            self.certificate(name, files);
        }
        self.maybe(format!("{name} names"), joined(&tls.names, |(name, _)| name.clone()));
        for (of, files) in &tls.names {
            self.certificate(&format!("{name} {of}"), files);
        }
        self.path(&format!("{name} sni-path"), tls.sni_path.as_ref());
        self.put(format!("{name} oldest"), tls.oldest);
        self.put(format!("{name} newest"), tls.newest);
        self.maybe(format!("{name} ciphers"), joined(&tls.ciphers, String::clone));
        self.maybe(format!("{name} alpn"), joined(&tls.alpn, String::clone));
        if let Some(clients) = &tls.clients {
            self.path(&format!("{name} client-authorities"), Some(&clients.authorities));
            self.put(format!("{name} client-required"), clients.required);
        }
        self.put(format!("{name} tickets"), tls.tickets.as_secs());
    }

    fn backend_tls(&mut self, name: &str, tls: &BackendTls) {
        self.put(format!("{name} verify"), tls.verify);
        self.path(&format!("{name} authorities"), tls.authorities.as_ref());
        self.maybe(format!("{name} name"), tls.name.as_ref());
        if let Some(files) = &tls.own {
            self.certificate(name, files);
        }
    }

    fn certificate(&mut self, name: &str, files: &CertificateFiles) {
        self.path(&format!("{name} certificate"), Some(&files.chain));
        self.path(&format!("{name} key"), Some(&files.key));
        self.path(&format!("{name} ocsp"), files.ocsp.as_ref());
    }

    fn path(&mut self, name: &str, path: Option<&PathBuf>) {
        self.maybe(name, path.map(|path| path.display()));
    }
}
