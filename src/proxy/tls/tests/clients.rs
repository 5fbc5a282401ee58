//! Certificates of clients.

use super::*;
use crate::config::proxy::{ClientCertificates, TlsVersion};
use crate::failure::Sysexit;

/// What becomes of a client with that certificate, on a listener that takes those of `authority`; in both versions.
fn outcome(
    authority: &Authority,
    required: bool,
    own: Option<CertificateFiles>,
) -> [Result<Option<Vec<u8>>, String>; 2] {
    let connector = connector(&BackendTls { own, ..BackendTls::default() });
    [TlsVersion::V12, TlsVersion::V13].map(|version| {
        let clients = Some(ClientCertificates { authorities: authority.file(), required });
        let loaded = load(&TlsConfig { clients, oldest: version, newest: version, ..settings(authority) });
        let mut pair = pair(&loaded, &connector, "a.example.org");
        pair.handshake().map_err(|error| error.to_string())?;
        pair.talk();
        Ok(pair.server.side.peer_certificate().map(<[u8]>::to_vec))
    })
}

#[test]
fn a_required_certificate_has_to_be_there_and_an_optional_one_need_not() {
    let authority = Authority::new();
    for refused in outcome(&authority, true, None) {
        assert!(refused.unwrap_err().contains("peer sent no certificates"));
    }
    assert_eq!(outcome(&authority, false, None), [Ok(None), Ok(None)]);
}

#[test]
fn a_certificate_has_to_be_of_the_authorities_whether_it_is_required_or_not() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let own = authority.issue("client", &["client.example.org"]);
    let certificate = super::super::files::certificates(&own.chain).unwrap()[0].to_vec();
    for required in [true, false] {
        let seen = Ok(Some(certificate.clone()));
        assert_eq!(outcome(&authority, required, Some(own.clone())), [seen.clone(), seen]);
        for refused in outcome(&authority, required, Some(stranger.issue("client", &["client.example.org"]))) {
            let why = refused.unwrap_err();
            assert!(why.contains("invalid peer certificate"), "{why}");
        }
    }
}

#[test]
fn authorities_that_cannot_be_read_or_are_none_are_named() {
    let authority = Authority::new();
    let empty = authority.write("empty.pem", "");
    for (authorities, code) in [(authority.path("missing.pem"), Sysexit::NoInput), (empty, Sysexit::Config)] {
        let name = authorities.display().to_string();
        let clients = Some(ClientCertificates { authorities, required: true });
        let failure = Acceptor::new().load(&TlsConfig { clients, ..settings(&authority) }, false).unwrap_err();
        assert!(failure.code == code && failure.message.contains(&name), "{failure}");
    }
}
