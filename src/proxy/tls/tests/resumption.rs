//! Sessions that are resumed.

use std::time::Duration;

use super::*;
use crate::config::proxy::{ClientCertificates, TlsVersion};

/// Connects twice, to the one and then to the other; was the session resumed? The connection works in any case.
fn resumes(first: &Loaded, second: &Loaded, connector: &Connector) -> bool {
    let mut pair = established(first, connector, "a.example.org");
    pair.talk();
    assert!(!pair.server.side.resumed());
    let mut pair = established(second, connector, "a.example.org");
    pair.talk();
    assert_eq!(pair.server.side.resumed(), pair.client.side.resumed());
    assert_eq!(pair.server.side.server_name(), Some("a.example.org"));
    pair.server.side.resumed()
}

/// Settings of each version alone.
fn each_version(config: &TlsConfig) -> [TlsConfig; 2] {
    [TlsVersion::V12, TlsVersion::V13].map(|version| TlsConfig { oldest: version, newest: version, ..config.clone() })
}

#[test]
fn a_session_is_resumed_over_a_reload_and_by_a_certificate_that_changed() {
    let authority = Authority::new();
    for config in each_version(&settings(&authority)) {
        let acceptor = Acceptor::new();
        let before = acceptor.load(&config, false).unwrap();
        assert!(resumes(&before, &before, &connector(&verifying(&authority))));
        let renewed = TlsConfig { default: Some(authority.issue("renewed", &["a.example.org"])), ..config };
        let after = acceptor.load(&renewed, false).unwrap();
        assert!(resumes(&before, &after, &connector(&verifying(&authority))));
    }
}

#[test]
fn a_session_is_not_resumed_with_another_listener_nor_where_tickets_are_off() {
    let authority = Authority::new();
    for config in each_version(&settings(&authority)) {
        let loaded = load(&config);
        assert!(!resumes(&loaded, &load(&config), &connector(&verifying(&authority))));
        let off = load(&TlsConfig { tickets: Duration::ZERO, ..config });
        assert!(!resumes(&off, &off, &connector(&verifying(&authority))));
        assert!(!resumes(&loaded, &off, &connector(&verifying(&authority))));
    }
}

#[test]
fn who_was_let_in_without_a_certificate_cannot_resume_once_one_is_required() {
    let (authority, other) = (Authority::new(), Authority::new());
    for config in each_version(&settings(&authority)) {
        let acceptor = Acceptor::new();
        let connector = connector(&verifying(&authority));
        let free = acceptor.load(&config, false).unwrap();
        established(&free, &connector, "a.example.org").talk();
        let clients = Some(ClientCertificates { authorities: authority.file(), required: true });
        let strict = acceptor.load(&TlsConfig { clients, ..config.clone() }, false).unwrap();
        assert!(pair(&strict, &connector, "a.example.org").handshake().is_err());
        // The same for who was let in by an authority that is not asked any more.
        let own = BackendTls { own: Some(authority.issue("client", &["c.example.org"])), ..verifying(&authority) };
        let own = super::connector(&own);
        assert!(resumes(&strict, &strict, &own));
        let clients = Some(ClientCertificates { authorities: other.file(), required: true });
        let moved = acceptor.load(&TlsConfig { clients, ..config }, false).unwrap();
        assert!(pair(&moved, &own, "a.example.org").handshake().is_err());
    }
}

#[test]
fn a_longer_lifetime_than_the_keys_have_is_cut_and_remarked_upon() {
    let authority = Authority::new();
    let config = TlsConfig { tickets: Duration::from_secs(86_400), ..settings(&authority) };
    let loaded = load(&config);
    assert!(loaded.remarks.len() == 1 && loaded.remarks[0].contains("12 h"), "{:?}", loaded.remarks);
    assert!(resumes(&loaded, &loaded, &connector(&verifying(&authority))));
}

#[test]
fn two_tickets_are_sent_so_that_two_connections_can_resume() {
    let authority = Authority::new();
    let (loaded, connector) = (load(&settings(&authority)), connector(&verifying(&authority)));
    established(&loaded, &connector, "a.example.org").talk();
    // Both begin before either has got new tickets.
    let mut both = [(); 2].map(|()| pair(&loaded, &connector, "a.example.org"));
    for pair in &mut both {
        pair.handshake().unwrap();
        assert!(pair.server.side.resumed());
    }
}
