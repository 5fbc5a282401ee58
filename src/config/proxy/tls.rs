//! TLS, from clients and to servers.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// TLS from clients, RFC 8446 and RFC 5246.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// What is shown to clients that name no server, or none that is known.
    pub default: Option<CertificateFiles>,
    /// What is shown to clients that ask for these names: `www.example.org`, `*.example.org`.
    pub names: Vec<(String, CertificateFiles)>,
    /// A folder with `NAME.pem` (chain and key in one), or `NAME.crt` and `NAME.key`, for the servers that clients name;
    /// `_.example.org.pem` is for `*.example.org` (Pen's `ssl_sni_path`). Read at the start and at every reload.
    pub sni_path: Option<PathBuf>,
    /// The oldest version that is spoken.
    pub oldest: TlsVersion,
    /// The newest.
    pub newest: TlsVersion,
    /// Cipher suites by their IANA names, the best first; empty: the library's.
    pub ciphers: Vec<String>,
    /// Protocols that are agreed on by ALPN (RFC 7301), the best first; empty: `h2` and `http/1.1` where HTTP is read,
    /// else none.
    pub alpn: Vec<String>,
    /// Certificates of clients.
    pub clients: Option<ClientCertificates>,
    /// How long a session can be resumed; zero: not at all. The keys of tickets rotate with it.
    pub tickets: Duration,
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig {
            default: None,
            names: Vec::new(),
            sni_path: None,
            oldest: TlsVersion::V12,
            newest: TlsVersion::V13,
            ciphers: Vec::new(),
            alpn: Vec::new(),
            clients: None,
            tickets: Duration::from_secs(6 * 3600),
        }
    }
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The certificate first, then those of the authorities that lead to the root (`-E`).
    pub chain: PathBuf,
    /// Its private key (`-K`); may be the same file.
    pub key: PathBuf,
    /// A stapled OCSP response, DER (RFC 6960); read anew at every reload.
    pub ocsp: Option<PathBuf>,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The authorities that they may be from, PEM (`-G`).
    pub authorities: PathBuf,
    /// Are clients without one refused (`-R`)?
    pub required: bool,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// 1.2
    V12,
    /// 1.3
    V13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsVersion::V12 => "1.2",
            TlsVersion::V13 => "1.3",
        })
    }
}

/// TLS to servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendTls {
    /// Are their certificates verified?
    pub verify: bool,
    /// The authorities that these may be from, PEM; `None`: the system's.
    pub authorities: Option<PathBuf>,
    /// The name that they are asked for and have to have; `None`: each backend's name.
    pub name: Option<String>,
    /// The certificate that we show.
    pub own: Option<CertificateFiles>,
}
