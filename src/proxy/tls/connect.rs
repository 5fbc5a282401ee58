//! TLS to servers.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::side::TlsSide;
use super::{files, suites};
use crate::config::proxy::{BackendTls, TlsVersion};
use crate::failure::{Failure, Sysexit};

/// Servers whose sessions are kept for resumption. Each may have eight tickets.
const SESSIONS: usize = 256;

/// TLS to the servers of a listener; shared by all loops. What it knows of earlier sessions is gone with it.
#[derive(Clone, Debug)]
pub struct Connector {
    config: Arc<ClientConfig>,
    /// Instead of each server's own.
    name: Option<ServerName<'static>>,
}

/// A connector, ready to be used by every loop.
#[derive(Clone, Debug)]
pub struct LoadedConnector {
    /// It.
    pub connector: Connector,
    /// What may be wrong, each to be logged as a warning.
    pub remarks: Vec<String>,
}

impl Connector {
    /// Reads all files and makes settings of them; `http`: HTTP/1.1 is spoken with the servers, and offered by ALPN.
    ///
    /// Errors: `NoInput` for a file that cannot be read, or where the system has no authorities; `Config` for a file that
    /// is not what it should be, and for a name that is none. The file and the remedy are named.
    pub fn load(config: &BackendTls, http: bool) -> Result<LoadedConnector, Failure> {
        let mut remarks = Vec::new();
        let name = config.name.as_deref().map(server_name).transpose()?;
        let provider = suites::provider(&[])?;
        let versions = suites::versions(TlsVersion::V12, TlsVersion::V13, &provider, &mut remarks)?;
        let verifier: Arc<dyn ServerCertVerifier> = if config.verify {
            let roots = match &config.authorities {
                Some(path) => files::authorities(path)?,
                None => system_authorities(&mut remarks)?,
            };
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            builder.build().map_err(|error| unfit(format!("servers cannot be verified: {error}")))?
        } else {
            Arc::new(Anybody(provider.clone()))
        };
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| unfit(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut settings = match &config.own {
            Some(own) => {
                let shown = files::shown(own, &provider, &mut remarks)?;
                // A client staples nothing.
                let key = shown.key(u64::MAX).as_ref().clone();
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
            None => builder.with_no_client_auth(),
        };
        settings.resumption = Resumption::store(Arc::new(ClientSessionMemoryCache::new(SESSIONS)));
        if http {
            settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        Ok(LoadedConnector { connector: Connector { config: Arc::new(settings), name }, remarks })
    }

    /// A new connection to the server of that name, or address: that is what it is asked for (SNI; not for an address),
    /// and what its certificate has to be for if it is verified. A configured name goes before it.
    ///
    /// Errors: `Config` for a name that is none.
    pub fn connect(&self, name: &str) -> Result<TlsSide, Failure> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => server_name(name)?,
        };
        TlsSide::connect(self.config.clone(), name).map_err(|error| unfit(error.to_string()))
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, Failure> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let message =
            format!("TLS to a server: {name:?} is neither a server's name nor an address; configure its name");
        Failure::new(Sysexit::Config, message)
    })
}

/// Those that come with the system; single ones that cannot be read are remarked upon.
fn system_authorities(remarks: &mut Vec<String>) -> Result<RootCertStore, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why = found.errors.first().map_or_else(|| "none found".to_owned(), ToString::to_string);
        let message = format!(
            "TLS to servers: the system's authorities are wanted, but cannot be read: {why}; install them (package ca-certificates; ca_root_nss) or configure a file of them"
        );
        return Err(Failure::new(Sysexit::NoInput, message));
    }
    remarks.extend(found.errors.iter().map(|error| format!("TLS to servers: of the system's authorities: {error}")));
    Ok(roots)
}

fn unfit(why: String) -> Failure {
    Failure::new(Sysexit::Config, format!("TLS to servers: {why}"))
}

/// Accepts whatever a server shows: what is sent cannot be read by who only listens, but may go to anybody.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
