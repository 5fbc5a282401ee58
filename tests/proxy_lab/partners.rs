//! HAProxy as the partner of the PROXY protocol, in front and behind, versions 1 and 2.

use crate::harness::{Lab, PROXY4, Process, S1, SECONDS, lab, wait_until};

const NEEDS: [&str; 3] = ["nginx", "curl", "haproxy"];

fn haproxy(lab: &Lab, host: &str, name: &str, frontend: &str, backend: &str, port: u16) -> Process {
    let config = format!(
        "global\n  maxconn 100\ndefaults\n  mode tcp\n  timeout connect 45s\n  timeout client 45s\n  timeout server 45s\n\
         frontend f\n  bind {frontend}\n  default_backend b\nbackend b\n  server s {backend}\n"
    );
    let path = lab.file(&format!("{name}.cfg"), config);
    let process = lab.start(host, &["haproxy", "-db", "-f", &path]);
    lab.wait_listening(host, "tcp", port);
    process
}

fn get(lab: &Lab, url: &str, client: &str) -> String {
    lab.run("client", &["curl", "-sS", "-m", SECONDS, "--interface", client, url])
}

#[test]
fn haproxy_in_front_tells_who_the_client_is() {
    lab("partners::haproxy_in_front_tells_who_the_client_is", &NEEDS, |lab| {
        let _nginx = lab.nginx("s1");
        let words =
            ["-H", "--accept-proxy", "127.0.0.1", "127.0.0.1:8080", "--listen", "10.1.0.254:8080", &format!("{S1}:80")];
        let _proxy = lab.proxy(&words);
        for (n, version) in ["send-proxy", "send-proxy-v2"].into_iter().enumerate() {
            let port = 8001 + n as u16;
            let backend = format!("127.0.0.1:8080 {version}");
            let _haproxy =
                haproxy(lab, "proxy", version, &format!("{PROXY4}:{port},[fd01::fe]:{port}"), &backend, port);
            assert_eq!(get(lab, &format!("http://{PROXY4}:{port}/?{version}4"), "10.1.0.3"), "s1");
            assert_eq!(get(lab, &format!("http://[fd01::fe]:{port}/?{version}6"), "fd01::2"), "s1");
            wait_until("the log", || lab.access("s1").contains(&format!("/?{version}6 ")));
            let log = lab.access("s1");
            let line = |word: String| log.lines().find(|line| line.contains(&word)).unwrap_or_default().to_owned();
            assert!(line(format!("{version}4 ")).contains("xff=10.1.0.3 "), "{log}");
            assert!(line(format!("{version}6 ")).contains("xff=fd01::2 "), "{log}");
        }
        // A stranger's word does not count.
        let said = lab.run(
            "client",
            &[
                "curl",
                "-sS",
                "-m",
                SECONDS,
                "--haproxy-protocol",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                "http://10.1.0.254:8080/?stranger",
            ],
        );
        assert!(said.starts_with('4') || said.starts_with('5'), "{said}");
        assert!(!lab.access("s1").contains("stranger"));
    });
}

#[test]
fn haproxy_behind_is_told_who_the_client_is() {
    lab("partners::haproxy_behind_is_told_who_the_client_is", &NEEDS, |lab| {
        let _nginx = lab.nginx_with(
            "s1",
            "set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;",
            "listen 127.0.0.1:80 proxy_protocol;",
        );
        let _haproxy = haproxy(lab, "s1", "behind", "10.2.0.11:8080 accept-proxy", "127.0.0.1:80 send-proxy", 8080);
        for (n, version) in ["v1", "v2"].into_iter().enumerate() {
            for (m, mode) in [&[][..], &["-H"]].into_iter().enumerate() {
                let port = format!("{}", 8001 + 2 * n + m);
                let (other, server) = (format!("127.0.0.1:1{port}"), format!("{S1}:8080"));
                let words = [mode, &["--send-proxy", version, "--listen", &port, &other, &server]].concat();
                let control = format!("ctl{port}");
                let _proxy = lab.proxy_as(&control, &words);
                for (host, client) in [("10.1.0.254", "10.1.0.2"), ("[fd01::fe]", "fd01::3")] {
                    for time in 0..2 {
                        let query = format!("{version}{m}{time}{}", client.len());
                        assert_eq!(get(lab, &format!("http://{host}:{port}/?{query}"), client), "s1");
                        let line = format!("{client} \"GET /?{query} ");
                        wait_until("the log", || lab.access("s1").contains(&line));
                    }
                }
            }
        }
    });
}
