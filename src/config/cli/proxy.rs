//! The proxy's part of the command line, with Pen's letters where these make sense.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use super::super::limits;
use super::super::proxy::{LogLayout, LogTarget, Method, OwnHeader, ProxyHeader, TlsVersions};
use super::super::rule::parse_network;
use super::within;
use crate::failure::Failure;
use crate::lb::acl::Network;

/// Options of the proxy. `None`, or empty: not given, the file or the default counts.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Options of the proxy")]
pub struct ProxyArgs {
    /// One more listener of the proxy; repeatable. A port alone is that of every address, IPv4 and IPv6
    #[arg(long, value_name = "[HOST:]PORT|/PATH", global = true)]
    pub listen: Vec<String>,
    /// How servers are selected: roundrobin, hash, weight, prio, consistent, least-connections, power-of-two
    /// [default: roundrobin]
    #[arg(long, value_name = "METHOD", global = true)]
    pub selection: Option<Method>,
    /// Select by a hash of the client's address: --selection hash
    #[arg(short = 'h', global = true)]
    pub hash: bool,
    /// Select by the least connections for the weight: --selection weight
    #[arg(short = 'W', global = true)]
    pub by_weight: bool,
    /// Refuse a client whose server cannot serve, instead of taking another
    #[arg(short = 's', long = "stubborn", global = true)]
    pub stubborn: bool,
    /// Clients that are remembered, with their servers, at most [default: 65536]
    #[arg(long, value_name = "N", value_parser = within(limits::CLIENTS), global = true)]
    pub clients: Option<u32>,
    /// For how long since their last connection; 0: as long as there is room [default: 0]
    #[arg(short = 'T', long = "tracking", value_name = "SECONDS", value_parser = within(limits::TRACKING), global = true)]
    pub tracking: Option<u32>,
    /// Serves clients that the access list keeps out
    #[arg(short = 'B', long = "abuse", value_name = "HOST:PORT|/PATH", global = true)]
    pub abuse: Option<String>,
    /// How long a server that could not be connected to is left out [default: 30]
    #[arg(short = 'b', long = "blacklist", value_name = "SECONDS", value_parser = within(limits::LEFT_OUT), global = true)]
    pub blacklist: Option<u32>,
    /// Connections of clients at a time [default: 20000]
    #[arg(short = 'x', long = "connections", value_name = "N", value_parser = within(limits::CONNECTIONS), global = true)]
    pub connections: Option<u32>,
    /// Until a server has to have accepted a connection [default: 5]
    #[arg(short = 't', long = "connect-timeout", value_name = "SECONDS", value_parser = within(limits::PATIENCE), global = true)]
    pub connect: Option<u32>,
    /// Close a connection on which nothing moves for so long; 0: never [default: 3600]
    #[arg(long, value_name = "SECONDS", value_parser = within(limits::WHILE), global = true)]
    pub idle: Option<u32>,
    /// How long connections may take to end by themselves after TERM [default: 30]
    #[arg(long, value_name = "SECONDS", value_parser = within(limits::LEFT_OUT), global = true)]
    pub drain: Option<u32>,
    /// Connections that may wait to be accepted [default: 4096]
    #[arg(short = 'q', long = "backlog", value_name = "N", value_parser = within(limits::BACKLOG), global = true)]
    pub backlog: Option<u32>,
    /// Connections that are accepted before others are served [default: 64]
    #[arg(short = 'm', long = "accept-batch", value_name = "N", value_parser = within(limits::ACCEPT_BATCH), global = true)]
    pub accept_batch: Option<u32>,
    /// Idle connections kept ready to each server [default: 0]
    #[arg(long, value_name = "N", value_parser = within(limits::KEPT), global = true)]
    pub idlers: Option<u32>,
    /// Event loops; 0: one for each processor [default: 0]
    #[arg(long, value_name = "N", value_parser = within(limits::THREADS), global = true)]
    pub threads: Option<u32>,
    /// Read HTTP: each request gets X-Forwarded-For and X-Forwarded-Proto
    #[arg(short = 'H', long = "http", global = true)]
    pub http: bool,
    /// With -H: requests get Forwarded (RFC 7239), too
    #[arg(long, global = true)]
    pub forwarded: bool,
    /// With -H: what becomes of such headers that a client sends itself [default: replace]
    #[arg(long, value_name = "replace|append|drop", global = true)]
    pub own_header: Option<OwnHeader>,
    /// Believe such headers of this network's peers, and append to them; repeatable
    #[arg(long, value_name = "ADDRESS[/PREFIX]", value_parser = parse_network, global = true)]
    pub trusted: Vec<Network>,
    /// Servers see the clients' own addresses; scripts/transparent makes their answers come back here
    #[arg(long, global = true)]
    pub transparent: bool,
    /// The address that connections to servers come from, one of a family
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub source: Vec<IpAddr>,
    /// Peers that begin their connections with a PROXY header; repeatable
    #[arg(long, value_name = "ADDRESS[/PREFIX]", value_parser = parse_network, global = true)]
    pub accept_proxy: Vec<Network>,
    /// Begin connections to servers with a PROXY header of this version
    #[arg(long, value_name = "v1|v2", global = true)]
    pub send_proxy: Option<ProxyHeader>,
    /// TLS from clients, with the certificates of -E or --sni-path
    #[arg(short = 'Z', long = "tls", global = true)]
    pub tls: bool,
    /// TLS from clients, with this certificate and those that lead to its root, PEM
    #[arg(short = 'E', long = "certificate", value_name = "FILE", global = true)]
    pub certificate: Option<PathBuf>,
    /// The private key of -E, PEM [default: in the file of -E]
    #[arg(short = 'K', long = "key", value_name = "FILE", global = true)]
    pub key: Option<PathBuf>,
    /// A folder of certificates for the servers that clients name: NAME.pem, or NAME.crt and NAME.key
    #[arg(long, value_name = "DIR", global = true)]
    pub sni_path: Option<PathBuf>,
    /// The authorities that certificates of clients may be from, PEM
    #[arg(short = 'G', long = "client-authorities", value_name = "FILE", global = true)]
    pub authorities: Option<PathBuf>,
    /// Refuse clients without a certificate
    #[arg(short = 'R', long = "client-certificates", global = true)]
    pub required: bool,
    /// Versions of TLS that are spoken: 1.2-1.3, 1.2 or 1.3 [default: 1.2-1.3]
    #[arg(long, value_name = "VERSIONS", global = true)]
    pub tls_versions: Option<TlsVersions>,
    /// Cipher suites by their IANA names, the best first, with commas or colons between
    #[arg(long, value_name = "LIST", value_delimiter = ',', global = true)]
    pub ciphers: Vec<String>,
    /// Protocols that are agreed on by ALPN, the best first, with commas between
    #[arg(long, value_name = "LIST", value_delimiter = ',', global = true)]
    pub alpn: Vec<String>,
    /// TLS to servers; with verify their certificates have to be right
    #[arg(
        long,
        value_name = "verify",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "",
        value_parser = ["", "verify"],
        hide_possible_values = true,
        global = true
    )]
    pub backend_tls: Option<String>,
    /// The access log: a file, syslog, or udp:ADDRESS:PORT
    #[arg(short = 'l', long = "access-log", value_name = "FILE|syslog|udp:ADDRESS:PORT", global = true)]
    pub access_log: Option<LogTarget>,
    /// What its lines look like: plain, common, combined or json [default: plain]
    #[arg(long, value_name = "LAYOUT", global = true)]
    pub log_layout: Option<LogLayout>,
    /// Make this folder the root once everything is set up
    #[arg(short = 'j', long = "chroot", value_name = "DIR", global = true)]
    pub chroot: Option<PathBuf>,
    /// Hand the listeners over to a successor, and take them over from a predecessor, by this Unix socket
    #[arg(long, value_name = "PATH", global = true)]
    pub handover: Option<PathBuf>,
    /// Letters of Pen's that mean nothing here.
    #[command(flatten)]
    pub pens: PensArgs,
}

/// Letters of Pen's that are read, so that its command lines can be taken, and mean nothing.
#[derive(Args, Clone, Debug, Default)]
pub struct PensArgs {
    /// Pen's dumps in ASCII
    #[arg(short = 'a', hide = true, global = true)]
    pub ascii: bool,
    /// Pen's blocking sockets
    #[arg(short = 'n', hide = true, global = true)]
    pub blocking: bool,
    /// Pen's poll
    #[arg(short = 'P', hide = true, global = true)]
    pub poll: bool,
    /// Pen's kqueue
    #[arg(short = 'Q', hide = true, global = true)]
    pub kqueue: bool,
    /// Pen's number of servers
    #[arg(short = 'S', hide = true, global = true)]
    pub servers: Option<u32>,
}

impl ProxyArgs {
    /// How servers are selected, if that is said.
    ///
    /// # Errors
    /// Usage: two methods are said.
    pub fn method(&self) -> Result<Option<Method>, Failure> {
        let said = [self.selection, self.hash.then_some(Method::Hash), self.by_weight.then_some(Method::Weight)];
        let mut said = said.into_iter().flatten();
        match (said.next(), said.next()) {
            (Some(one), Some(other)) if one != other => {
                Err(Failure::usage(format!("servers are selected by {one} or by {other}: say one of them")))
            }
            (method, _) => Ok(method),
        }
    }

    /// Does each option that belongs to another have it?
    ///
    /// # Errors
    /// Usage: one is alone.
    pub(in super::super) fn together(&self) -> Result<(), Failure> {
        let alone = [
            (self.forwarded && !self.http, "--forwarded", "-H, which reads HTTP"),
            (self.own_header.is_some() && !self.http, "--own-header", "-H, which reads HTTP"),
            (self.key.is_some() && self.certificate.is_none(), "-K", "-E, its certificate"),
            (self.required && self.authorities.is_none(), "-R", "-G, the authorities of the certificates"),
            (self.log_layout.is_some() && self.access_log.is_none(), "--log-layout", "-l, the access log"),
        ];
        match alone.into_iter().find(|(alone, ..)| *alone) {
            Some((_, option, other)) => {
                Err(Failure::usage(format!("{option} needs {other}: add that, or leave it out")))
            }
            None => Ok(()),
        }
    }

    /// An option that listeners of the command line are given, if one is there.
    pub(in super::super) fn of_listeners(&self) -> Option<&'static str> {
        let given = [
            (self.http, "-H"),
            (self.transparent, "--transparent"),
            (!self.source.is_empty(), "--source"),
            (!self.accept_proxy.is_empty(), "--accept-proxy"),
            (self.send_proxy.is_some(), "--send-proxy"),
            (self.backend_tls.is_some(), "--backend-tls"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name)).or_else(|| self.of_tls())
    }

    /// An option that makes listeners speak TLS, or says how, if one is there.
    pub(in super::super) fn of_tls(&self) -> Option<&'static str> {
        let given = [
            (self.tls, "-Z"),
            (self.certificate.is_some(), "-E"),
            (self.sni_path.is_some(), "--sni-path"),
            (self.authorities.is_some(), "-G"),
            (self.tls_versions.is_some(), "--tls-versions"),
            (!self.ciphers.is_empty(), "--ciphers"),
            (!self.alpn.is_empty(), "--alpn"),
        ];
        given.into_iter().find_map(|(given, name)| given.then_some(name))
    }
}

impl PensArgs {
    /// What is remarked of them.
    pub(in super::super) fn remarks(&self) -> Vec<String> {
        let given = [
            (self.ascii, "-a", "nothing is dumped; see -d"),
            (self.blocking, "-n", "sockets never block here"),
            (self.poll, "-P", "how sockets are waited for is not a matter of choice"),
            (self.kqueue, "-Q", "how sockets are waited for is not a matter of choice"),
            (self.servers.is_some(), "-S", "up to 4096 servers find room without it"),
        ];
        let given = given.into_iter().filter(|(given, ..)| *given);
        given.map(|(_, name, reason)| format!("{name} has no effect: {reason}")).collect()
    }
}
