//! TLS (stub).
use crate::config::proxy::*; use crate::failure::Failure; use std::sync::Arc;
#[derive(Default)] pub struct Tickets; pub struct Connector; pub struct Acceptor;
impl Acceptor { pub fn load(_: &TlsConfig, _: bool, _: &Tickets) -> Result<(Arc<rustls::ServerConfig>, Vec<String>), Failure> { Err(Failure::usage("no TLS yet")) } }
impl Connector { pub fn load(_: &BackendTls, _: bool) -> Result<Connector, Failure> { Err(Failure::usage("no TLS yet")) } }
