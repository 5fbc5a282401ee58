//! Both ends of connections in memory, with certificates that are made for each test.

mod authority;
mod certificates;
mod clients;
mod openssl;
mod pipe;
mod resumption;
mod servers;
mod transfer;

use std::sync::Arc;

use super::{Acceptor, Connector, Loaded, TlsSide};
use crate::config::proxy::{BackendTls, CertificateFiles, TlsConfig};
use authority::Authority;
use pipe::Pair;

/// A listener's settings with a certificate for `a.example.org` as default.
fn settings(authority: &Authority) -> TlsConfig {
    TlsConfig { default: Some(authority.issue("default", &["a.example.org"])), ..TlsConfig::default() }
}

/// Servers have to be the authority's.
fn verifying(authority: &Authority) -> BackendTls {
    BackendTls { verify: true, authorities: Some(authority.file()), ..BackendTls::default() }
}

fn load(config: &TlsConfig) -> Loaded {
    Acceptor::new().load(config, false).unwrap()
}

fn connector(config: &BackendTls) -> Connector {
    Connector::load(config, false).unwrap().connector
}

/// A client that asks for `name`, and the server, before their handshake.
fn pair(loaded: &Loaded, connector: &Connector, name: &str) -> Pair {
    let server = TlsSide::accept(Arc::clone(&loaded.config)).unwrap();
    Pair::new(connector.connect(name).unwrap(), server)
}

/// As [`pair`], after a handshake that succeeded.
fn established(loaded: &Loaded, connector: &Connector, name: &str) -> Pair {
    let mut pair = pair(loaded, connector, name);
    pair.handshake().unwrap();
    pair
}

/// The files of a certificate, without OCSP.
fn files(chain: std::path::PathBuf, key: std::path::PathBuf) -> CertificateFiles {
    CertificateFiles { chain, key, ocsp: None }
}
