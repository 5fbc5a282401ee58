//! Certificates, keys and OCSP responses in files, and what is wrong with them.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;

use super::der;
use crate::config::proxy::CertificateFiles;
use crate::failure::{Failure, Sysexit};

/// A certificate that is shown, with its key.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    plain: Arc<CertifiedKey>,
    /// With an OCSP response, and until when that is valid, seconds since 1970.
    stapled: Option<(Arc<CertifiedKey>, u64)>,
}

impl Shown {
    /// What is shown at that time, seconds since 1970: an OCSP response that has expired is not stapled any more.
    pub(super) fn key(&self, now: u64) -> &Arc<CertifiedKey> {
        match &self.stapled {
            Some((stapled, until)) if now < *until => stapled,
            _ => &self.plain,
        }
    }

    /// Would a client accept it for that name? For `*.example.org` a name below is tried.
    pub(super) fn is_for(&self, name: &str) -> bool {
        let name = name.strip_prefix("*.").map_or_else(|| name.to_owned(), |parent| format!("a.{parent}"));
        let Ok(name) = ServerName::try_from(name) else {
            return false;
        };
        let parsed = self.plain.end_entity_cert().and_then(ParsedCertificate::try_from);
        parsed.is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok())
    }
}

/// Reads a certificate's chain, its key, and its OCSP response if there is one.
///
/// Errors: `NoInput` for a file that cannot be read; `Config` for one that has nothing of the kind in it, and for a key
/// that is another certificate's. What only may be wrong is remarked upon: a certificate that is not valid now, an OCSP
/// response that is not fit and so is not stapled.
pub(super) fn shown(
    files: &CertificateFiles,
    provider: &CryptoProvider,
    remarks: &mut Vec<String>,
) -> Result<Shown, Failure> {
    let chain = certificates(&files.chain)?;
    let key = private_key(&files.key)?;
    let (path, key_path) = (files.chain.display(), files.key.display());
    let signer = provider.key_provider.load_private_key(key).map_err(|error| {
        nonsense(
            &files.key,
            format_args!(
                "the private key cannot be used: {error}; take RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519"
            ),
        )
    })?;
    let mut plain = CertifiedKey::new(chain, signer);
    match plain.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => {}
        Err(rustls::Error::InconsistentKeys(_)) => {
            let message = format!(
                "{path}: its first certificate is not for the key in {key_path}; the server's own certificate has to be first, and the key that it was made with"
            );
            return Err(Failure::new(Sysexit::Config, message));
        }
        Err(error) => {
            return Err(nonsense(&files.chain, format_args!("the first certificate cannot be used: {error}")));
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let certificate = der::certificate(&plain.cert[0])
        .ok_or_else(|| nonsense(&files.chain, format_args!("the first certificate is not in DER within its PEM")))?;
    if certificate.until < now {
        remarks.push(format!("{path}: the certificate has expired; clients will refuse it"));
    } else if certificate.from > now {
        remarks.push(format!("{path}: the certificate is not valid yet; is the clock right?"));
    }
    let stapled = match &files.ocsp {
        Some(ocsp) => {
            let response = read(ocsp, "an OCSP response")?;
            match staple_until(&response, certificate.serial, now) {
                Ok(until) => Some((response, until)),
                Err(why) => {
                    remarks.push(format!("{}: {why}; it is not stapled", ocsp.display()));
                    None
                }
            }
        }
        None => None,
    };
    let without = plain.clone();
    let stapled = stapled.map(|(response, until)| {
        plain.ocsp = Some(response);
        (Arc::new(plain), until)
    });
    Ok(Shown { plain: Arc::new(without), stapled })
}

/// Until when an OCSP response can be stapled, seconds since 1970; else why it cannot. Which certificate it is for is
/// told by the serial number only.
fn staple_until(response: &[u8], serial: &[u8], now: i64) -> Result<u64, &'static str> {
    let status = der::status(response, serial)?.ok_or("the OCSP response is not for this certificate")?;
    if !status.good {
        return Err("the OCSP response says that the certificate is revoked or unknown");
    }
    if status.from > now {
        return Err("the OCSP response is not valid yet");
    }
    match status.until {
        Some(until) if until <= now => Err("the OCSP response has expired"),
        Some(until) => Ok(u64::try_from(until).unwrap_or(0)),
        None => Ok(u64::MAX),
    }
}

/// The certificates of a PEM file, at least one.
///
/// Errors: `NoInput`, `Config`.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let text = read(path, "a certificate")?;
    let chain = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => {
            Err(nonsense(path, format_args!("there is no certificate in it; PEM with BEGIN CERTIFICATE is wanted")))
        }
        Ok(chain) => Ok(chain),
        Err(error) => Err(nonsense(path, format_args!("not PEM: {error}"))),
    }
}

/// The authorities of a PEM file, at least one.
///
/// Errors: `NoInput`, `Config`.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        let added = roots.add(certificate);
        added.map_err(|error| nonsense(path, format_args!("a certificate in it cannot be an authority's: {error}")))?;
    }
    Ok(roots)
}

/// The private key of a PEM file: PKCS #8, PKCS #1 or SEC 1.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    let text = read(path, "a private key")?;
    match PrivateKeyDer::from_pem_slice(&text) {
        Ok(key) => Ok(key),
        Err(_) if contains(&text, b"BEGIN ENCRYPTED PRIVATE KEY") || contains(&text, b"Proc-Type: 4,ENCRYPTED") => {
            Err(nonsense(
                path,
                format_args!(
                    "the private key is encrypted; decrypt it: openssl pkey -in {0} -out {0}.plain",
                    path.display()
                ),
            ))
        }
        Err(pem::Error::NoItemsFound) => {
            Err(nonsense(path, format_args!("there is no private key in it; PEM with BEGIN PRIVATE KEY is wanted")))
        }
        Err(error) => Err(nonsense(path, format_args!("not PEM: {error}"))),
    }
}

/// The bytes of a file.
pub(super) fn read(path: &Path, what: &str) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| unreadable(path, what, &error))
}

/// A file, or folder, that cannot be read.
pub(super) fn unreadable(path: &Path, what: &str, error: &io::Error) -> Failure {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "correct the path",
        io::ErrorKind::PermissionDenied => "let the user that starts pen-dsr read it",
        _ => "look at the file system",
    };
    Failure::new(
        Sysexit::NoInput,
        format!("{}: {what} is wanted, but it cannot be read: {error}; {remedy}", path.display()),
    )
}

fn nonsense(path: &Path, what: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(Sysexit::Config, format!("{}: {what}", path.display()))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
