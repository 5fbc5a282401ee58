//! Versions and cipher suites, by the names that the configuration has for them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{self, cipher_suite as known};
use rustls::{CipherSuite, SupportedCipherSuite, SupportedProtocolVersion};

use crate::config::proxy::TlsVersion;
use crate::failure::{Failure, Sysexit};

/// The order where none is configured: AES-128 first, as it takes a tenth less of a processor than AES-256, in bulk and,
/// by its shorter hash, in handshakes; ChaCha20 last, which takes three times as much where there are AES instructions.
const ORDER: [SupportedCipherSuite; 9] = [
    known::TLS13_AES_128_GCM_SHA256,
    known::TLS13_AES_256_GCM_SHA384,
    known::TLS13_CHACHA20_POLY1305_SHA256,
    known::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    known::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    known::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    known::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    known::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    known::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

/// The cryptography, with these cipher suites, the best first; without names, all.
///
/// Errors: `Config` for a name that is not known, with the one that comes nearest.
pub(super) fn provider(names: &[String]) -> Result<Arc<CryptoProvider>, Failure> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = ORDER.to_vec();
    if !names.is_empty() {
        provider.cipher_suites = names.iter().map(|name| suite(name)).collect::<Result<_, _>>()?;
    }
    Ok(Arc::new(provider))
}

/// The versions from the oldest to the newest.
///
/// Errors: `Config` where there are none, or no cipher suite for any of them.
pub(super) fn versions(
    oldest: TlsVersion,
    newest: TlsVersion,
    provider: &CryptoProvider,
    remarks: &mut Vec<String>,
) -> Result<Vec<&'static SupportedProtocolVersion>, Failure> {
    if oldest > newest {
        return Err(Failure::new(
            Sysexit::Config,
            format!("TLS: the oldest version, {oldest}, is newer than the newest, {newest}; exchange them"),
        ));
    }
    let asked = [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)];
    let mut versions = Vec::new();
    for (version, known) in asked.into_iter().filter(|(version, _)| (oldest..=newest).contains(version)) {
        if provider.cipher_suites.iter().any(|suite| suite.version().version == known.version) {
            versions.push(known);
        } else {
            remarks.push(format!("TLS {version} is not spoken: none of the configured cipher suites is for it"));
        }
    }
    if versions.is_empty() {
        let message = format!("TLS {oldest} to {newest}: none of the configured cipher suites is for it; add one");
        return Err(Failure::new(Sysexit::Config, message));
    }
    Ok(versions)
}

/// A cipher suite's name in IANA's registry; rustls has another spelling for those of TLS 1.3.
pub(super) fn iana_name(suite: CipherSuite) -> Option<&'static str> {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => Some("TLS_AES_128_GCM_SHA256"),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => Some("TLS_AES_256_GCM_SHA384"),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => Some("TLS_CHACHA20_POLY1305_SHA256"),
        other => other.as_str(),
    }
}

fn suite(name: &str) -> Result<SupportedCipherSuite, Failure> {
    let normal = name.to_ascii_uppercase().replacen("TLS13_", "TLS_", 1);
    let named = || ORDER.into_iter().filter_map(|suite| Some((iana_name(suite.suite())?, suite)));
    if let Some((_, suite)) = named().find(|(known, _)| *known == normal) {
        return Ok(suite);
    }
    let nearest = named().map(|(known, _)| known).min_by_key(|known| distance(known, &normal)).unwrap_or_default();
    let message =
        format!("TLS: there is no cipher suite {name}; perhaps {nearest}? Names are those of IANA's registry");
    Err(Failure::new(Sysexit::Config, message))
}

/// How many characters have to be put in, taken out or changed to make one of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
