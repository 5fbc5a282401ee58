//! TLS from clients: a listener's settings, and what of them outlives a reload.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, GetRandomFailed, ring};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::{ServerConfig, TicketRotator};

use super::names::Names;
use super::{files, suites};
use crate::config::proxy::{ClientCertificates, TlsConfig};
use crate::failure::{Failure, Sysexit};

/// Sessions are resumed for so long at most: ring's keys within a generation rotate after 6 h, and open for 12 h.
const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// Tickets that a TLS 1.3 client is sent with each full handshake. It uses each once (RFC 8446 appendix C.4), and
/// browsers connect twice at a time; the second costs 3 us and a quarter of a kB on the wire.
const TICKETS: usize = 2;

/// TLS of one listener. It is kept over reloads: the keys of session tickets are here, so that clients can resume the
/// sessions that they had before.
#[derive(Debug, Default)]
pub struct Acceptor {
    tickets: Mutex<Option<Tickets>>,
}

/// Settings, ready to be used by every loop.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For [`TlsSide::accept`](super::TlsSide::accept). Connections keep those that they began with.
    pub config: Arc<ServerConfig>,
    /// What may be wrong, each to be logged as a warning.
    pub remarks: Vec<String>,
}

/// Ticket keys, and what they stand for.
#[derive(Debug)]
struct Tickets {
    keys: Arc<dyn ProducesTickets>,
    lifetime: Duration,
    clients: Option<Vouched>,
}

/// Who is let in by a certificate. A ticket stands for having been let in; so when this changes, no earlier one is good.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Vouched {
    authorities: Vec<u8>,
    required: bool,
}

impl Acceptor {
    /// TLS of a listener of which nothing has been loaded yet.
    pub fn new() -> Acceptor {
        Acceptor::default()
    }

    /// Reads all files and makes settings of them; `http`: HTTP is read on this listener. On failure nothing has changed.
    ///
    /// Errors: `NoInput` for a file that cannot be read, `Config` for one that is not what it should be and for settings
    /// that contradict each other; the file and the remedy are named.
    pub fn load(&self, config: &TlsConfig, http: bool) -> Result<Loaded, Failure> {
        let mut remarks = Vec::new();
        let provider = suites::provider(&config.ciphers)?;
        let versions = suites::versions(config.oldest, config.newest, &provider, &mut remarks)?;
        let names = Names::load(config, &provider, &mut remarks)?;
        let builder = ServerConfig::builder_with_provider(provider.clone());
        let builder = builder.with_protocol_versions(&versions).map_err(contradiction)?;
        let (builder, clients) = match &config.clients {
            Some(clients) => {
                let (verifier, vouched) = verifier(clients, provider)?;
                (builder.with_client_cert_verifier(verifier), Some(vouched))
            }
            None => (builder.with_no_client_auth(), None),
        };
        let mut settings = builder.with_cert_resolver(Arc::new(names));
        // Ours: what a processor with AES instructions is best at (see `suites`), or what is configured.
        settings.ignore_client_order = true;
        settings.alpn_protocols = alpn(&config.alpn, http)?;
        settings.session_storage = Arc::new(NoServerSessionStorage {});
        settings.send_tls13_tickets = 0;
        if !config.tickets.is_zero() {
            let lifetime = config.tickets.min(LONGEST);
            if lifetime < config.tickets {
                let hours = LONGEST.as_secs() / 3600;
                remarks.push(format!("TLS: sessions can be resumed for {hours} h at most; that is taken"));
            }
            settings.ticketer = self.ticket_keys(lifetime, clients)?;
            settings.send_tls13_tickets = TICKETS;
        }
        Ok(Loaded { config: Arc::new(settings), remarks })
    }

    /// The keys that there are, if they are for the same, else new ones.
    fn ticket_keys(&self, lifetime: Duration, clients: Option<Vouched>) -> Result<Arc<dyn ProducesTickets>, Failure> {
        let mut tickets = self.tickets.lock();
        match &*tickets {
            Some(tickets) if tickets.lifetime == lifetime && tickets.clients == clients => Ok(tickets.keys.clone()),
            _ => {
                // A key makes tickets for half of that time and opens them for another half.
                let half = u32::try_from(lifetime.as_secs().div_ceil(2)).unwrap_or(u32::MAX);
                let keys: Arc<dyn ProducesTickets> = Arc::new(TicketRotator::new(half, generation).map_err(no_random)?);
                *tickets = Some(Tickets { keys: keys.clone(), lifetime, clients });
                Ok(keys)
            }
        }
    }
}

/// Keys for half a lifetime.
fn generation() -> Result<Box<dyn ProducesTickets>, GetRandomFailed> {
    Ok(Box::new(Generation(ring::Ticketer::new().map_err(|_| GetRandomFailed)?)))
}

#[derive(Debug)]
struct Generation(Arc<dyn ProducesTickets>);

impl ProducesTickets for Generation {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}

fn verifier(
    clients: &ClientCertificates,
    provider: Arc<CryptoProvider>,
) -> Result<(Arc<dyn rustls::server::danger::ClientCertVerifier>, Vouched), Failure> {
    let authorities = files::read(&clients.authorities, "the authorities of clients")?;
    let roots = files::authorities(&clients.authorities)?;
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder.build().map_err(|error| {
        let path = clients.authorities.display();
        Failure::new(Sysexit::Config, format!("{path}: clients cannot be verified by these authorities: {error}"))
    })?;
    Ok((verifier, Vouched { authorities, required: clients.required }))
}

/// The protocols that are offered.
fn alpn(configured: &[String], http: bool) -> Result<Vec<Vec<u8>>, Failure> {
    if let Some(protocol) = configured.iter().find(|protocol| !(1..=255).contains(&protocol.len())) {
        let message = format!("TLS: {protocol:?} is not a protocol's name for ALPN; it has 1 to 255 characters");
        return Err(Failure::new(Sysexit::Config, message));
    }
    Ok(match configured {
        [] if http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        _ => configured.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
    })
}

fn contradiction(error: rustls::Error) -> Failure {
    Failure::new(Sysexit::Config, format!("TLS: versions and cipher suites do not go together: {error}"))
}

fn no_random(error: rustls::Error) -> Failure {
    Failure::new(Sysexit::OsErr, format!("TLS: no random numbers for the keys of session tickets: {error}"))
}
