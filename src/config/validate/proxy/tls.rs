//! TLS of a listener: certificates, versions, protocols. Whether the files are there and right is seen when they are read.

use std::path::Path;

use super::super::super::origin::Problem;
use super::super::super::proxy::{CertificateFiles, ListenConfig, Mode};

/// The protocols that HTTP listeners can agree on.
const HTTP: [&str; 3] = ["h2", "http/1.1", "http/1.0"];
/// The longest name of a protocol in ALPN, in bytes (RFC 7301 section 3.1).
const LONGEST: usize = 255;

pub(super) fn check(listener: &ListenConfig) -> Result<(), Problem> {
    let address = &listener.address;
    let wrong = |key: &str, what: String| {
        Err(Problem::new(format!("{} {key}", listener.setting()), format!("listener {address}: {what}")))
    };
    let empty = |path: &Path| path.as_os_str().is_empty();
    let unnamed = |files: &CertificateFiles| empty(&files.chain) || empty(&files.key);
    if let Some(tls) = &listener.tls {
        if tls.default.is_none() && tls.names.is_empty() && tls.sni_path.is_none() {
            return wrong(
                "tls",
                "TLS needs a certificate: name one (-E FILE, certificate = in [listen.tls]), or a folder of them (--sni-path)"
                    .to_owned(),
            );
        }
        let named = tls.names.iter().map(|(_, files)| files);
        if tls.default.iter().chain(named).any(unnamed) {
            return wrong("tls", "a certificate has an empty path: name its file and that of its key".to_owned());
        }
        for (at, (name, _)) in tls.names.iter().enumerate() {
            if !is_server_name(name) {
                return wrong(
                    "tls",
                    format!("{name:?} is no name of a server: write www.example.org or *.example.org"),
                );
            }
            if tls.names.iter().take(at).any(|(before, _)| before.eq_ignore_ascii_case(name)) {
                return wrong("tls", format!("the name {name:?} has two certificates: leave one out"));
            }
        }
        if tls.oldest > tls.newest {
            return wrong(
                "tls",
                format!(
                    "the oldest version of TLS, {}, is newer than the newest, {}: exchange them",
                    tls.oldest, tls.newest
                ),
            );
        }
        if let Some(protocol) = tls.alpn.iter().find(|protocol| protocol.is_empty() || protocol.len() > LONGEST) {
            return wrong("tls alpn", format!("{protocol:?} is no protocol of ALPN: 1 to {LONGEST} bytes"));
        }
        let strange = tls.alpn.iter().find(|protocol| !HTTP.contains(&protocol.as_str()));
        if let (Mode::Http(_), Some(protocol)) = (&listener.mode, strange) {
            return wrong(
                "tls alpn",
                format!(
                    "HTTP is read here, and {protocol:?} is none: leave it out (h2, http/1.1), or leave mode http (-H) out"
                ),
            );
        }
    }
    if let Some(tls) = &listener.backend_tls {
        if let Some(name) = tls.name.as_ref().filter(|name| !is_server_name(name) || name.starts_with('*')) {
            return wrong("backend-tls name", format!("{name:?} is no name of a server: write www.example.org"));
        }
        if tls.own.as_ref().is_some_and(unnamed) {
            return wrong(
                "backend-tls",
                "a certificate has an empty path: name its file and that of its key".to_owned(),
            );
        }
        if !tls.verify && tls.authorities.is_some() {
            return wrong(
                "backend-tls authorities",
                "authorities are of use where certificates are verified: add verify = true, or leave them out"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

/// A name of DNS, or such a one with `*.` in front.
fn is_server_name(text: &str) -> bool {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}
