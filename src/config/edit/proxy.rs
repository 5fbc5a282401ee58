//! Changes of what the proxy does.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::proxy::{
    Address, CertificateFiles, ClientCertificates, Forwarded, ListenConfig, Method, Mode, ProxyConfig, TlsConfig,
    TransportProtocol,
};
use super::super::{BackendConfig, Balance, Config, words};
use super::WhichVip;
use crate::failure::Failure;

/// One change of what is the proxy's alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProxyEdit {
    /// How servers are selected.
    Select(Method),
    /// No longer by this method, but one after the other.
    Unselect(Method),
    /// Is a client refused whose server cannot serve?
    Stubborn(bool),
    /// How long a server that could not be connected to is left out.
    Blacklist(Duration),
    /// Until a server has accepted a connection.
    Connect(Duration),
    /// How long a connection may idle.
    Idle(Duration),
    /// How long clients are remembered.
    Tracking(Duration),
    /// How many clients are.
    Clients(u32),
    /// Connections of clients at a time.
    Connections(u32),
    /// Connections that are being made at a time.
    Pending(u32),
    /// Connections that are accepted before others are served.
    AcceptBatch(u32),
    /// Idle connections kept ready to each server.
    Idlers(u32),
    /// TCP_NODELAY?
    Nodelay(bool),
    /// Is what a client has not read given up once its server has closed?
    Fastclose(bool),
    /// Is HTTP read, by all listeners of TCP?
    Http(bool),
    /// Do servers see the clients' addresses, of all listeners but Unix sockets?
    Transparent(bool),
    /// Who serves clients that are kept out.
    Abuse(Option<BackendConfig>),
    /// TLS of all listeners of TCP.
    Tls(TlsEdit),
}

/// One change of TLS from clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsEdit {
    /// The certificate; its key is in the same file until another one is named.
    Certificate(PathBuf),
    /// Its key.
    Key(PathBuf),
    /// What is stapled to it.
    Ocsp(PathBuf),
    /// The authorities that clients' certificates may be from.
    Authorities(PathBuf),
    /// A folder of certificates.
    SniPath(PathBuf),
    /// Cipher suites, the best first.
    Ciphers(Vec<String>),
    /// Can sessions be resumed?
    Sessions(bool),
}

impl ProxyEdit {
    /// The command that it is.
    pub fn word(&self) -> &'static str {
        match self {
            ProxyEdit::Select(Method::Weight) | ProxyEdit::Unselect(Method::Weight) => "weight",
            ProxyEdit::Select(Method::Prio) | ProxyEdit::Unselect(Method::Prio) => "prio",
            ProxyEdit::Select(_) | ProxyEdit::Unselect(_) => "selection",
            ProxyEdit::Stubborn(_) => "stubborn",
            ProxyEdit::Blacklist(_) => "blacklist",
            ProxyEdit::Connect(_) => "timeout",
            ProxyEdit::Idle(_) => "idle_timeout",
            ProxyEdit::Tracking(_) => "tracking",
            ProxyEdit::Clients(_) => "clients_max",
            ProxyEdit::Connections(_) => "conn_max",
            ProxyEdit::Pending(_) => "pending_max",
            ProxyEdit::AcceptBatch(_) => "multi_accept",
            ProxyEdit::Idlers(_) => "idlers",
            ProxyEdit::Nodelay(_) => "tcp_nodelay",
            ProxyEdit::Fastclose(_) => "tcp_fastclose",
            ProxyEdit::Http(_) => "http",
            ProxyEdit::Transparent(_) => "transparent",
            ProxyEdit::Abuse(_) => "abuse",
            ProxyEdit::Tls(edit) => edit.word(),
        }
    }

    /// Does it name files of the machine?
    pub fn touches_files(&self) -> bool {
        match self {
            ProxyEdit::Tls(edit) => !matches!(edit, TlsEdit::Ciphers(_) | TlsEdit::Sessions(_)),
            ProxyEdit::Abuse(server) => server.as_ref().is_some_and(|server| server.path.is_some()),
            _ => false,
        }
    }

    pub(super) fn apply(&self, proxy: &mut ProxyConfig) -> Result<String, Failure> {
        let ProxyConfig { selection, limits, timeouts, tcp, .. } = proxy;
        match self {
            ProxyEdit::Select(method) => {
                selection.method = *method;
                return Ok(format!("selection: {method}"));
            }
            ProxyEdit::Unselect(method) => {
                if selection.method == *method {
                    selection.method = Method::RoundRobin;
                }
                return Ok(format!("selection: {}", selection.method));
            }
            ProxyEdit::Stubborn(on) => selection.stubborn = *on,
            ProxyEdit::Blacklist(time) => timeouts.blacklist = *time,
            ProxyEdit::Connect(time) => timeouts.connect = *time,
            ProxyEdit::Idle(time) => timeouts.idle = *time,
            ProxyEdit::Tracking(time) => selection.tracking = *time,
            ProxyEdit::Clients(n) => selection.clients = *n,
            ProxyEdit::Connections(n) => limits.connections = *n,
            ProxyEdit::Pending(n) => limits.pending = *n,
            ProxyEdit::AcceptBatch(n) => limits.accept_batch = *n,
            ProxyEdit::Idlers(n) => limits.idlers = *n,
            ProxyEdit::Nodelay(on) => tcp.nodelay = *on,
            ProxyEdit::Fastclose(on) => tcp.fastclose = *on,
            ProxyEdit::Http(on) => {
                for listener in of_tcp(proxy, "http")? {
                    match (&listener.mode, on) {
                        (Mode::Stream, true) => listener.mode = Mode::Http(Forwarded::default()),
                        (_, true) => {}
                        (_, false) => listener.mode = Mode::Stream,
                    }
                }
            }
            ProxyEdit::Transparent(on) => {
                let sockets = proxy.listeners.iter_mut().filter(|listener| matches!(listener.address, Address::Ip(_)));
                sockets.for_each(|listener| listener.transparent = *on);
            }
            ProxyEdit::Abuse(server) => proxy.abuse = server.clone().map(words::named_with_port),
            ProxyEdit::Tls(edit) => {
                for listener in of_tcp(proxy, edit.word())? {
                    edit.apply(listener.tls.get_or_insert_default())?;
                }
            }
        }
        Ok(format!("{}: {self}", self.word()))
    }

    /// The setting that it is about, as problems name it.
    pub(super) fn setting(&self, config: &Config) -> String {
        let first = config.proxy.listeners.first().map_or(String::new(), ListenConfig::setting);
        match self {
            ProxyEdit::Http(_) => format!("{first} mode"),
            ProxyEdit::Transparent(_) => format!("{first} transparent"),
            ProxyEdit::Tls(_) => format!("{first} tls"),
            ProxyEdit::Abuse(_) => "proxy abuse".to_owned(),
            _ => String::new(),
        }
    }
}

impl fmt::Display for ProxyEdit {
    /// What holds afterwards.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProxyEdit::Select(method) | ProxyEdit::Unselect(method) => write!(f, "{method}"),
            ProxyEdit::Stubborn(on)
            | ProxyEdit::Nodelay(on)
            | ProxyEdit::Fastclose(on)
            | ProxyEdit::Http(on)
            | ProxyEdit::Transparent(on) => f.write_str(if *on { "on" } else { "off" }),
            ProxyEdit::Blacklist(time)
            | ProxyEdit::Connect(time)
            | ProxyEdit::Idle(time)
            | ProxyEdit::Tracking(time) => {
                write!(f, "{} s", time.as_secs())
            }
            ProxyEdit::Clients(n)
            | ProxyEdit::Connections(n)
            | ProxyEdit::Pending(n)
            | ProxyEdit::AcceptBatch(n)
            | ProxyEdit::Idlers(n) => write!(f, "{n}"),
            ProxyEdit::Abuse(None) => f.write_str("none"),
            ProxyEdit::Abuse(Some(server)) => {
                f.write_str(&words::backend_word(&words::named_with_port(server.clone())))
            }
            ProxyEdit::Tls(_) => f.write_str("changed"),
        }
    }
}

impl TlsEdit {
    fn word(&self) -> &'static str {
        match self {
            TlsEdit::Certificate(_) => "ssl_certfile",
            TlsEdit::Key(_) => "ssl_keyfile",
            TlsEdit::Ocsp(_) => "ssl_ocsp_response",
            TlsEdit::Authorities(_) => "ssl_cacertfile",
            TlsEdit::SniPath(_) => "ssl_sni_path",
            TlsEdit::Ciphers(_) => "ssl_ciphers",
            TlsEdit::Sessions(_) => "ssl_session_cache",
        }
    }

    fn apply(&self, tls: &mut TlsConfig) -> Result<(), Failure> {
        let first = || Failure::usage(format!("{}: there is no certificate yet: first say ssl_certfile", self.word()));
        match self {
            TlsEdit::Certificate(file) => {
                let ocsp = tls.default.take().and_then(|files| files.ocsp);
                tls.default = Some(CertificateFiles { chain: file.clone(), key: file.clone(), ocsp });
            }
            TlsEdit::Key(file) => tls.default.as_mut().ok_or_else(first)?.key.clone_from(file),
            TlsEdit::Ocsp(file) => tls.default.as_mut().ok_or_else(first)?.ocsp = Some(file.clone()),
            TlsEdit::Authorities(file) => {
                let required = tls.clients.as_ref().is_some_and(|clients| clients.required);
                tls.clients = Some(ClientCertificates { authorities: file.clone(), required });
            }
            TlsEdit::SniPath(path) => tls.sni_path = Some(path.clone()),
            TlsEdit::Ciphers(suites) => tls.ciphers.clone_from(suites),
            TlsEdit::Sessions(true) => tls.tickets = TlsConfig::default().tickets,
            TlsEdit::Sessions(false) => tls.tickets = Duration::ZERO,
        }
        Ok(())
    }
}

/// The listeners of TCP, of which there is at least one.
fn of_tcp<'a>(
    proxy: &'a mut ProxyConfig,
    word: &str,
) -> Result<impl Iterator<Item = &'a mut ListenConfig> + use<'a>, Failure> {
    let is_tcp = |listener: &ListenConfig| listener.transport == TransportProtocol::Tcp;
    if !proxy.listeners.iter().any(is_tcp) {
        return Err(Failure::usage(format!("{word} is for listeners of TCP, and all are of UDP")));
    }
    Ok(proxy.listeners.iter_mut().filter(move |listener| is_tcp(listener)))
}

/// The listeners that `which` names.
pub(super) fn at<'a>(proxy: &'a mut ProxyConfig, which: &'a WhichVip) -> impl Iterator<Item = &'a mut ListenConfig> {
    proxy.listeners.iter_mut().filter(move |listener| match (&listener.address, which) {
        (Address::Ip(own), WhichVip::At(at)) => own.ip() == at.address && at.port.is_none_or(|port| own.port() == port),
        (Address::Ip(own), WhichVip::Port(port)) => own.ip().is_unspecified() && own.port() == *port,
        (Address::Unix(own), WhichVip::Path(path)) => own == path,
        _ => false,
    })
}

/// Who is chosen: by Direct Server Return, where `with_port` says whether ports take part, and by the proxy, for which
/// `of_proxy` does what is to be done.
pub(super) fn choice(
    balance: &mut Balance,
    proxy: &mut ProxyConfig,
    with_port: bool,
    of_proxy: impl Fn(&mut ProxyConfig) -> String,
) -> String {
    let mut said = Vec::new();
    if proxy.is_empty() || !balance.vips.is_empty() {
        balance.hash_port = with_port;
        said.push(format!("hash: the client's {}", if with_port { "address and port" } else { "address" }));
    }
    if !proxy.is_empty() {
        said.push(of_proxy(proxy));
    }
    said.join("; ")
}

pub(super) fn hash(proxy: &mut ProxyConfig, on: bool) -> String {
    let selection = &mut proxy.selection;
    match (on, selection.method) {
        (true, _) => selection.method = Method::Hash,
        (false, Method::Hash) => selection.method = Method::RoundRobin,
        (false, _) => {}
    }
    format!("selection: {}", selection.method)
}

pub(super) fn roundrobin(proxy: &mut ProxyConfig, on: bool) -> String {
    proxy.selection.track = !on;
    format!("clients are {}remembered", if on { "not " } else { "" })
}

/// Connections to servers come from `address`, if that is of their family; not those of transparent listeners.
pub(super) fn source(proxy: &mut ProxyConfig, address: IpAddr) {
    for listener in proxy.listeners.iter_mut().filter(|listener| !listener.transparent) {
        listener.source.retain(|known| known.is_ipv4() != address.is_ipv4());
        listener.source.push(address);
    }
}
