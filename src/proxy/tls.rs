//! TLS (RFC 8446, RFC 5246) by rustls: from clients ([`Acceptor`]), to servers ([`Connector`]), and one connection of
//! either kind over a non-blocking socket ([`TlsSide`]).
//!
//! - `files`: PEM files, and what is wrong with them.
//! - `der`: the few fields of certificates and OCSP responses that rustls does not tell.
//! - `names`: which certificate is shown to whom (SNI).
//! - `suites`: versions and cipher suites by name.
//! - `accept`: settings of a listener; what outlives a reload.
//! - `connect`: settings towards servers.
//! - `side`: a connection.
//!
//! All files are read when settings are loaded, none while connections are served: a handshake never waits for a disk,
//! and the files may lie outside the folder that the process is confined to later. The cryptography is ring's, handed to
//! rustls explicitly; the process's default provider is neither set nor asked.

mod accept;
mod connect;
mod der;
mod files;
mod names;
mod side;
mod suites;

pub use accept::{Acceptor, Loaded};
pub use connect::{Connector, LoadedConnector};
pub use side::{Received, Scratch, TlsSide};

#[cfg(test)]
mod tests;
