//! `openssl s_client` as the client, on loopback.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::super::{Received, Scratch};
use super::*;
use crate::config::proxy::{ClientCertificates, TlsVersion};

/// Whether openssl is here; says that the test is skipped where it is not.
fn have_openssl() -> bool {
    let found =
        Command::new("openssl").arg("version").stdout(Stdio::null()).status().is_ok_and(|status| status.success());
    if !found {
        println!("SKIPPED: openssl is not installed");
    }
    found
}

/// Runs it and returns what it printed.
fn openssl(arguments: &[&str]) -> String {
    let output = Command::new("openssl").args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {text}");
    text
}

/// What the client printed when connecting, and what the server found. The server greets, waits for a line or the end,
/// and ends.
fn connect(loaded: &Loaded, arguments: &[&str]) -> (String, Result<TlsSide, String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = Arc::clone(&loaded.config);
    let server = thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        serve(&mut socket, TlsSide::accept(config).unwrap())
    });
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &address])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It closes its direction when its input ends: after the greeting, as the server waits for that.
    let mut input = client.stdin.take().unwrap();
    let _ = input.write_all(b"a line\n");
    let served = server.join().unwrap();
    drop(input);
    let output = client.wait_with_output().unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    let _ = write!(text, "{}", String::from_utf8_lossy(&output.stderr));
    (text, served)
}

/// The server's part, over a socket that blocks: what it waits for at most a minute.
fn serve(socket: &mut TcpStream, mut side: TlsSide) -> Result<TlsSide, String> {
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (mut scratch, mut into) = (Scratch::new(), vec![0; 65_536]);
    match side.receive(socket, &mut scratch, &mut into) {
        Ok(Received::Plain(length)) => {
            assert_eq!(&into[..length], b"a line\n");
            let text = b"a greeting\n";
            assert_eq!(side.send(socket, &mut scratch, text).unwrap(), text.len());
            assert!(side.shutdown(socket).unwrap());
            Ok(side)
        }
        Ok(other) => Err(format!("{other:?}")),
        Err(error) => {
            // What else the client sends: closing before it is read would take the alert from the client.
            let _ = socket.shutdown(std::net::Shutdown::Write);
            let _ = socket.read_to_end(&mut Vec::new());
            Err(error.to_string())
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn openssl_agrees_on_version_suite_protocol_and_name_and_verifies_the_chain() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let www = authority.issue("www", &["www.example.net"]);
    let config = TlsConfig { names: vec![("www.example.net".into(), www)], ..settings(&authority) };
    let loaded = Acceptor::new().load(&config, true).unwrap();
    let root = authority.file();
    for (version, name, suite) in
        [("-tls1_3", "TLSv1.3", "TLS_AES_128_GCM_SHA256"), ("-tls1_2", "TLSv1.2", "ECDHE-ECDSA-AES128-GCM-SHA256")]
    {
        let arguments = ["-CAfile", text(&root), "-verify_return_error", "-servername", "www.example.net"];
        let verify = ["-verify_hostname", "www.example.net", "-alpn", "http/1.1,h2", version];
        let (printed, served) = connect(&loaded, &[arguments.as_slice(), &verify].concat());
        let served = served.unwrap();
        assert_eq!(served.version(), Some(name));
        assert_eq!((served.server_name(), served.alpn()), (Some("www.example.net"), Some(b"h2".as_slice())));
        for part in [suite, name, "ALPN protocol: h2", "Verify return code: 0 (ok)", "a greeting", "CN = www"] {
            assert!(printed.contains(part), "{part}: {printed}");
        }
    }
}

#[test]
fn openssl_is_refused_a_version_that_is_not_spoken() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let loaded = load(&TlsConfig { oldest: TlsVersion::V13, ..settings(&authority) });
    let (printed, served) = connect(&loaded, &["-tls1_2"]);
    assert!(served.is_err());
    assert!(printed.contains("alert protocol version"), "{printed}");
}

#[test]
fn openssl_resumes_over_a_reload() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let acceptor = Acceptor::new();
    for version in ["-tls1_3", "-tls1_2"] {
        let session = authority.path("session.pem");
        let before = acceptor.load(&settings(&authority), false).unwrap();
        let name = ["-servername", "a.example.org", version];
        let (printed, served) = connect(&before, &[name.as_slice(), &["-sess_out", text(&session)]].concat());
        assert!(!served.unwrap().resumed() && printed.contains("New, TLSv1"), "{printed}");
        let after = acceptor.load(&settings(&authority), false).unwrap();
        let (printed, served) = connect(&after, &[name.as_slice(), &["-sess_in", text(&session)]].concat());
        assert!(served.unwrap().resumed(), "{printed}");
        assert!(printed.contains("Reused, TLSv1"), "{printed}");
    }
}

#[test]
fn openssl_shows_its_certificate_where_one_is_required() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let clients = Some(ClientCertificates { authorities: authority.file(), required: true });
    let loaded = load(&TlsConfig { clients, ..settings(&authority) });
    let own = authority.issue("client", &["client.example.org"]);
    let (chain, key) = (own.chain.clone(), own.key.clone());
    for version in ["-tls1_3", "-tls1_2"] {
        let (_, served) = connect(&loaded, &[version, "-cert", text(&chain), "-key", text(&key)]);
        assert!(served.unwrap().peer_certificate().is_some());
        let (_, served) = connect(&loaded, &[version]);
        assert!(served.err().unwrap().contains("no certificates"));
    }
}

#[test]
fn openssl_is_stapled_what_its_responder_has_said() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let mut files = authority.issue("default", &["a.example.org"]);
    let (root, key, response) = (authority.file(), authority.path("authority.key"), authority.path("response.der"));
    let listed = openssl(&["x509", "-in", text(&files.chain), "-noout", "-serial"]);
    let serial = listed.trim().trim_start_matches("serial=");
    let index = authority.write("index.txt", format!("V\t21000101000000Z\t\t{serial}\tunknown\t/CN=default\n"));
    let (root, key) = (text(&root), text(&key));
    let ask = ["ocsp", "-issuer", root, "-cert", text(&files.chain), "-respout", text(&response), "-noverify"];
    openssl(
        &[ask.as_slice(), &["-index", text(&index), "-CA", root, "-rsigner", root, "-rkey", key, "-ndays", "1"]]
            .concat(),
    );
    files.ocsp = Some(response);
    let loaded = load(&TlsConfig { default: Some(files.clone()), ..TlsConfig::default() });
    assert_eq!(loaded.remarks, Vec::<String>::new());
    for version in ["-tls1_3", "-tls1_2"] {
        let (printed, served) = connect(&loaded, &["-status", "-CAfile", root, version]);
        served.unwrap();
        for part in ["OCSP Response Status: successful", "Cert Status: good", &serial.to_uppercase()] {
            assert!(printed.contains(part), "{part}: {printed}");
        }
    }
    files.ocsp = None;
    let loaded = load(&TlsConfig { default: Some(files), ..TlsConfig::default() });
    assert!(connect(&loaded, &["-status"]).0.contains("no response sent"));
}

#[test]
fn keys_in_every_notation_that_openssl_writes_are_read() {
    if !have_openssl() {
        return;
    }
    let authority = Authority::new();
    let chain = authority.path("chain.crt");
    for (make, convert, begin) in [
        (["genrsa", "-traditional", "2048"].as_slice(), None, "BEGIN RSA PRIVATE KEY"),
        (&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], None, "BEGIN PRIVATE KEY"),
        (&["ecparam", "-genkey", "-name", "prime256v1", "-noout"], None, "BEGIN EC PRIVATE KEY"),
        (&["ecparam", "-genkey", "-name", "secp384r1", "-noout"], Some("pkcs8"), "BEGIN PRIVATE KEY"),
        (&["genpkey", "-algorithm", "ED25519"], None, "BEGIN PRIVATE KEY"),
    ] {
        let output = Command::new("openssl").args(make).output().unwrap();
        let mut key = authority.write("any.key", output.stdout);
        if let Some(notation) = convert {
            let converted = authority.path("converted.key");
            openssl(&[notation, "-topk8", "-nocrypt", "-in", text(&key), "-out", text(&converted)]);
            key = converted;
        }
        assert!(fs::read_to_string(&key).unwrap().contains(begin), "{make:?}");
        let names = "subjectAltName=DNS:a.example.org";
        let sign = ["req", "-x509", "-new", "-key", text(&key), "-subj", "/CN=any", "-addext", names];
        openssl(&[sign.as_slice(), &["-out", text(&chain)]].concat());
        let loaded = load(&TlsConfig { default: Some(files(chain.clone(), key)), ..TlsConfig::default() });
        let (printed, served) = connect(&loaded, &["-servername", "a.example.org"]);
        served.unwrap();
        assert!(printed.contains("a greeting"), "{make:?}: {printed}");
    }
}
