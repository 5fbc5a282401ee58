//! Commands that are the proxy's alone.

use std::path::PathBuf;

use super::{Parser, proxy, seconds};
use crate::config::proxy::Method;
use crate::config::{Edit, ProxyEdit, TlsEdit, limits};
use crate::failure::Failure;

impl Parser<'_> {
    /// A command that is the proxy's alone.
    pub(super) fn of_proxy(&self) -> Option<Result<Edit, Failure>> {
        let tls = |edit: TlsEdit| proxy(ProxyEdit::Tls(edit));
        let file = |edit: fn(PathBuf) -> TlsEdit| self.path().map(|path| tls(edit(path)));
        Some(match self.word {
            "stubborn" => self.nothing_else(proxy(ProxyEdit::Stubborn(true))),
            "blacklist" => self.number(limits::LEFT_OUT).map(|n| proxy(ProxyEdit::Blacklist(seconds(n)))),
            "timeout" => self.number(limits::PATIENCE).map(|n| proxy(ProxyEdit::Connect(seconds(n)))),
            "idle_timeout" => self.number(limits::WHILE).map(|n| proxy(ProxyEdit::Idle(seconds(n)))),
            "tracking" => self.number(limits::TRACKING).map(|n| proxy(ProxyEdit::Tracking(seconds(n)))),
            "clients_max" => self.number(limits::CLIENTS).map(|n| proxy(ProxyEdit::Clients(n))),
            "conn_max" => self.number(limits::CONNECTIONS).map(|n| proxy(ProxyEdit::Connections(n))),
            "pending_max" => self.number(limits::PENDING).map(|n| proxy(ProxyEdit::Pending(n))),
            "multi_accept" => self.number(limits::ACCEPT_BATCH).map(|n| proxy(ProxyEdit::AcceptBatch(n))),
            "idlers" => self.number(limits::KEPT).map(|n| proxy(ProxyEdit::Idlers(n))),
            "tcp_nodelay" => self.nothing_else(proxy(ProxyEdit::Nodelay(true))),
            "tcp_fastclose" => self.fastclose(),
            "http" => self.nothing_else(proxy(ProxyEdit::Http(true))),
            "transparent" => self.nothing_else(proxy(ProxyEdit::Transparent(true))),
            "ssl_certfile" => file(TlsEdit::Certificate),
            "ssl_keyfile" => file(TlsEdit::Key),
            "ssl_ocsp_response" => file(TlsEdit::Ocsp),
            "ssl_cacertfile" => file(TlsEdit::Authorities),
            "ssl_sni_path" => file(TlsEdit::SniPath),
            "ssl_ciphers" => match self.words {
                [] => Err(self.wrong("no cipher suite")),
                words => Ok(tls(TlsEdit::Ciphers(items(words)))),
            },
            "ssl_session_cache" => match self.words {
                [] | ["on"] => Ok(tls(TlsEdit::Sessions(true))),
                ["off"] => Ok(tls(TlsEdit::Sessions(false))),
                _ => Err(self.wrong("on or off?")),
            },
            _ => return None,
        })
    }

    /// `selection METHOD`, and those that are commands of Pen's.
    pub(super) fn selection(&self) -> Result<Edit, Failure> {
        let method = match self.word {
            "weight" => self.nothing_else(Method::Weight)?,
            "prio" => self.nothing_else(Method::Prio)?,
            _ => self.one_word()?.parse().map_err(|e: String| self.wrong(&e))?,
        };
        Ok(proxy(ProxyEdit::Select(method)))
    }

    /// `tcp_fastclose`, for which Pen names the sides: `up`, `down`, `both`, `off`.
    fn fastclose(&self) -> Result<Edit, Failure> {
        match self.words {
            [] | ["up" | "down" | "both" | "on"] => Ok(proxy(ProxyEdit::Fastclose(true))),
            ["off"] => Ok(proxy(ProxyEdit::Fastclose(false))),
            _ => Err(self.wrong("on or off?")),
        }
    }
}

/// The items of `words`, each of which may be several with colons or commas between.
fn items(words: &[&str]) -> Vec<String> {
    crate::config::proxy::items(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
}
