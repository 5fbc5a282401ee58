//! TLS as OpenSSL, curl and h2load see it.

use std::fs;
use std::path::Path;

use crate::harness::{Lab, MINUTES, PROXY4, Process, S1, SECONDS, lab, wait_until};

const NEEDS: [&str; 3] = ["nginx", "curl", "openssl"];

/// A certificate for `name` and its key, in one file of `folder`.
fn certificate(folder: &Path, name: &str) -> String {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let path = folder.join(format!("{name}.pem"));
    fs::write(&path, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    path.display().to_string()
}

/// A proxy with TLS in front of nginx on s1, with a default certificate and one by the client's wish.
fn pair(lab: &Lab, more: &[&str]) -> (Process, Process) {
    pair_within(lab, more, "")
}

/// The same; `limits` of the server, behind its port.
fn pair_within(lab: &Lab, more: &[&str], limits: &str) -> (Process, Process) {
    let nginx = lab.nginx("s1");
    let sites = lab.directory.join("sites");
    fs::create_dir(&sites).unwrap();
    let default = certificate(&lab.directory, "default.test");
    certificate(&sites, "www.test");
    let (listener, server) = (format!("{PROXY4}:8443"), format!("{S1}:80{limits}"));
    let words = [&["-E", &default, "--sni-path", sites.to_str().unwrap()][..], more, &[&listener, &server]].concat();
    (nginx, lab.proxy(&words))
}

fn s_client(lab: &Lab, words: &str) -> String {
    let command = format!(
        "printf 'GET / HTTP/1.0\\r\\nHost: a\\r\\n\\r\\n' | timeout {SECONDS} openssl s_client -connect {PROXY4}:8443 -ign_eof {words} 2>&1"
    );
    lab.run("client", &["sh", "-c", &command])
}

#[test]
fn openssl_gets_the_certificate_that_it_names_and_an_answer_by_each_version() {
    lab("secure::openssl_gets_the_certificate_that_it_names_and_an_answer_by_each_version", &NEEDS, |lab| {
        let _pair = pair(lab, &["-H"]);
        for version in ["-tls1_2", "-tls1_3"] {
            let said =
                s_client(lab, &format!("{version} -servername www.test -CAfile {}", lab.path("sites/www.test.pem")));
            assert!(
                said.contains("Verify return code: 0 (ok)") && said.contains("\ns1") && said.contains("closed\n"),
                "{said}"
            );
            let said =
                s_client(lab, &format!("{version} -servername other.test -CAfile {}", lab.path("default.test.pem")));
            assert!(said.contains("Verify return code: 0 (ok)") && said.contains("s1"), "{said}");
        }
        wait_until("the log", || lab.access("s1").lines().count() == 4);
        assert!(lab.access("s1").lines().all(|line| line.contains("xff=10.1.0.1 xfp=https ")), "{}", lab.access("s1"));
        // What is too old is refused.
        let said = lab
            .try_run(
                "client",
                &["openssl", "s_client", "-connect", "10.1.0.254:8443", "-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"],
            )
            .1;
        assert!(!said.contains("BEGIN CERTIFICATE"), "{said}");
    });
}

#[test]
fn protocols_are_agreed_on_by_alpn_and_curl_speaks_http_2() {
    lab("secure::protocols_are_agreed_on_by_alpn_and_curl_speaks_http_2", &NEEDS, |lab| {
        let _pair = pair(lab, &["-H"]);
        assert!(s_client(lab, "-alpn http/1.1").contains("ALPN protocol: http/1.1"));
        let command =
            format!("timeout {SECONDS} openssl s_client -connect {PROXY4}:8443 -alpn h2,http/1.1 </dev/null 2>&1");
        assert!(lab.run("client", &["sh", "-c", &command]).contains("ALPN protocol: h2"));
        let curl = |words: &[&str]| lab.run("client", &[&["curl", "-sSk", "-m", SECONDS], words].concat());
        for (option, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
            let url = format!("https://{PROXY4}:8443/?{version}");
            assert_eq!(curl(&[option, "-w", " %{http_version}", &url]), format!("s1 {version}"));
            let got = lab.path("got");
            let big = fs::read(lab.directory.join("s1/big")).unwrap();
            curl(&[option, "-o", &got, &format!("https://{PROXY4}:8443/big")]);
            assert!(fs::read(&got).unwrap() == big);
            let target = format!("https://{PROXY4}:8443/put/{version}");
            curl(&[option, "-T", &lab.path("s1/big"), "-o", "/dev/null", &target]);
            assert!(fs::read(lab.directory.join("s1/put").join(version)).unwrap() == big);
        }
        wait_until("the log", || lab.access("s1").contains("/?2 "));
        assert!(lab.access("s1").lines().all(|line| line.contains("xff=10.1.0.1 xfp=https ")), "{}", lab.access("s1"));
    });
}

#[test]
fn an_upload_that_is_refused_while_it_comes_has_its_response() {
    lab("secure::an_upload_that_is_refused_while_it_comes_has_its_response", &NEEDS, |lab| {
        let _pair = pair(lab, &["-H"]);
        // curl 7 takes it for a broken stream when it is told to stop together with the response.
        for option in ["--http1.1", "--http2"].repeat(5) {
            let (body, url) = (lab.path("s1/big"), format!("https://{PROXY4}:8443/little"));
            let words =
                ["curl", "-sSk", "-m", "45", option, "-T", &body, "-w", "%{http_code}", "-o", "/dev/null", &url];
            assert_eq!(lab.run("client", &words), "413", "{option}");
        }
    });
}

#[test]
fn h2load_gets_every_answer() {
    let name = "secure::h2load_gets_every_answer";
    lab(name, &[&NEEDS[..], &["h2load"]].concat(), |lab| {
        let _pair = pair(lab, &["-H"]);
        for words in [&["-n", "2000", "-c", "10", "-m", "20"][..], &["-n", "1000", "-c", "10", "--h1"]] {
            let url = format!("https://{PROXY4}:8443/");
            let said = lab.run("client", &[&["timeout", MINUTES, "h2load"], words, &[&url]].concat());
            let count = words[1];
            assert!(said.contains(&format!("{count} succeeded, 0 failed, 0 errored, 0 timeout")), "{said}");
            assert!(said.contains(&format!("status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx")), "{said}");
        }
        wait_until("the log", || lab.access("s1").lines().count() == 3000);
        assert!(lab.access("s1").lines().all(|line| line.contains("xff=10.1.0.1 xfp=https ")));
    });
}

#[test]
fn uploads_of_http2_that_wait_for_a_place_do_not_hold_up_the_one_that_has_it() {
    let name = "secure::uploads_of_http2_that_wait_for_a_place_do_not_hold_up_the_one_that_has_it";
    lab(name, &[&NEEDS[..], &["h2load"]].concat(), |lab| {
        // If they did, they would wait for all that time.
        let _pair = pair_within(lab, &["-H", "-t", MINUTES], "::1");
        let (body, url) = (lab.path("s1/big"), format!("https://{PROXY4}:8443/put/up"));
        let words =
            ["timeout", MINUTES, "h2load", "-n", "12", "-c", "2", "-m", "6", "-d", &body, "-H", ":method: PUT", &url];
        let said = lab.run("client", &words);
        assert!(said.contains("12 succeeded, 0 failed, 0 errored, 0 timeout"), "{said}");
        assert!(fs::read(lab.directory.join("s1/put/up")).unwrap() == fs::read(body).unwrap());
    });
}
