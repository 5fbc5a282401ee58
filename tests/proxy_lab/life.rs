//! Servers that die, are drained and replaced, and proxies that are reloaded, ended and succeeded, all under load.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::browser::Visit;
use crate::harness::{
    Lab, MINUTES, PEN_DSR, PROXY4, Process, S1, S2, SECONDS, lab, skipped_for_want_of_users, wait_until,
};

const NEEDS: [&str; 1] = ["nginx"];
/// Browsers at a time.
const BROWSERS: usize = 6;
/// Answers between two events.
const SOME: usize = 200;
const MOMENT: Duration = Duration::from_millis(500);

/// How long connections may take to end by themselves, unless that is to be cut short, s.
const DRAIN: u32 = 600;

/// A proxy for HTTP, or for what comes, in front of these servers; as a file. A server that is there answers its checks in
/// time, one that has died refuses them at once.
fn toml(lab: &Lab, http: bool, servers: &[&str], drain: u32, more: &str) -> String {
    let servers: String = servers.iter().map(|host| format!("[[backend]]\nhost = \"{host}\"\nport = 80\n")).collect();
    let mode = if http { "mode = \"http\"\n" } else { "" };
    lab.file(
        "pen.toml",
        format!(
            "{servers}[[listen]]\naddress = \"{PROXY4}:8080\"\n{mode}[proxy.selection]\ntrack = false\n\
             [proxy.timeouts]\nconnect = 45\ndrain = {drain}\n\
             [health]\ncheck = \"tcp\"\ninterval = 5000\ntimeout = 5000\ndoubt-interval = 100\n{more}"
        ),
    )
}

fn address() -> String {
    format!("{PROXY4}:8080")
}

/// Nothing went wrong, and something was done.
pub fn content(what: &str, visit: &Visit) {
    println!(
        "{what}: {} answers by {} connections, {} requests sent again: {:?}",
        visit.count(),
        visit.connections,
        visit.repeated,
        visit.answers
    );
    assert!(
        visit.failures.is_empty(),
        "{what}: {} failures, such as {:?}",
        visit.failures.len(),
        &visit.failures[..visit.failures.len().min(5)]
    );
}

/// Kills it and what it has started.
fn kill(lab: &Lab, host: &str, nginx: Process) {
    let pids = lab.run("proxy", &["ip", "netns", "pids", host]);
    for pid in pids.split_whitespace().filter_map(|word| word.parse().ok()) {
        let command = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if command.starts_with("nginx") {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    drop(nginx);
}

#[test]
fn a_server_that_is_killed_is_replaced_and_returns() {
    lab("life::a_server_that_is_killed_is_replaced_and_returns", &NEEDS, |lab| {
        let (_one, two) = (lab.nginx("s1"), lab.nginx("s2"));
        let _proxy = lab.proxy(&["-c", &toml(lab, true, &[S1, S2], DRAIN, "")]);
        let browsers = lab.browse(BROWSERS, &address());
        browsers.go_on(SOME);
        kill(lab, "s2", two);
        browsers.go_on(2 * SOME);
        let visit = browsers.stop();
        // What it was asked just then, the other one is asked again.
        content("killed", &visit);
        assert_eq!(visit.answers.len(), 2);
        let browsers = lab.browse(BROWSERS, &address());
        browsers.go_on(SOME);
        content("one server", &browsers.stop());
        let _two = lab.nginx("s2");
        let browsers = lab.browse(BROWSERS, &address());
        wait_until("its return", || lab.access("s2").lines().count() > visit.answers["s2"] + 20);
        content("both again", &browsers.stop());
    });
}

#[test]
fn a_server_that_is_drained_gets_no_more_and_loses_nothing() {
    lab("life::a_server_that_is_drained_gets_no_more_and_loses_nothing", &NEEDS, |lab| {
        let _servers = (lab.nginx("s1"), lab.nginx("s2"));
        let _proxy = lab.proxy(&["-c", &toml(lab, true, &[S1, S2], DRAIN, "")]);
        let browsers = lab.browse(BROWSERS, &address());
        browsers.go_on(SOME);
        lab.ctl("ctl", &format!("drain {S2}:80"));
        browsers.each_goes_on();
        let before = browsers.heard("s2");
        browsers.go_on(SOME);
        let after = browsers.heard("s2");
        assert!(before > 0 && after == before, "{before} requests, then {after}");
        lab.ctl("ctl", &format!("undrain {S2}:80"));
        wait_until("its return", || browsers.heard("s2") > before + 20);
        content("drain", &browsers.stop());
    });
}

#[test]
fn other_servers_by_reload_cost_no_request() {
    lab("life::other_servers_by_reload_cost_no_request", &NEEDS, |lab| {
        let _servers = (lab.nginx("s1"), lab.nginx("s2"));
        for http in [true, false] {
            let control = format!("ctl-{http}");
            let proxy = lab.proxy_as(&control, &["-c", &toml(lab, http, &[S1], DRAIN, "")]);
            let browsers = lab.browse(BROWSERS, &address());
            for (n, servers) in [&[S2][..], &[S1, S2], &[S1], &[S2, S1]].into_iter().enumerate() {
                browsers.go_on(SOME / 2);
                toml(lab, http, servers, DRAIN, "");
                proxy.signal(Signal::SIGHUP);
                // "reloaded, with 2 changes"
                proxy.wait_for("the reload", |log| log.matches("reloaded").count() > n);
                browsers.hear(if servers[0] == S1 { "s1" } else { "s2" });
            }
            browsers.go_on(SOME);
            let visit = browsers.stop();
            assert!(visit.answers.len() == 2, "{visit:?}");
            content(&format!("reload, http {http}"), &visit);
        }
    });
}

/// Starts a download of the file /huge, and waits until a part of it is there; in the end it says how much it was.
fn download(lab: &Lab, rate: &str) -> Process {
    let file = lab.path("download");
    let _ = fs::remove_file(&file);
    let words = ["curl", "-sS", "-m", MINUTES, "--limit-rate", rate, "-o", &file, "-w", "%{size_download}"];
    let slow = lab.start("client", &[&words[..], &["http://10.1.0.254:8080/huge"]].concat());
    slow.wait_for("the download to begin", |_| fs::metadata(&file).is_ok_and(|file| file.len() > 0));
    slow
}

/// Bytes of a file of which a part has not left its server when the client has read a little.
const HUGE: u64 = 48 << 20;

#[test]
fn a_proxy_that_ends_lets_requests_finish_and_a_second_term_does_not_wait() {
    lab("life::a_proxy_that_ends_lets_requests_finish_and_a_second_term_does_not_wait", &NEEDS, |lab| {
        let _nginx = lab.nginx("s1");
        // More than all sockets on the way have room for.
        let huge = fs::File::create(lab.directory.join("s1/huge")).unwrap();
        huge.set_len(HUGE).unwrap();
        for http in [true, false] {
            let mut proxy = lab.proxy_as(&format!("ctl-{http}"), &["-c", &toml(lab, http, &[S1], DRAIN, "")]);
            let browsers = lab.browse(BROWSERS, &address());
            browsers.go_on(SOME);
            let slow = download(lab, "16M");
            proxy.signal(Signal::SIGTERM);
            // Who connects from now on is refused, not left hanging; who was being served is served to the end.
            slow.wait_for("the slow download", |said| said.trim() == HUGE.to_string());
            if http {
                // They have to connect anew.
                browsers.fail();
            } else {
                // Connections whose requests are not known end by themselves: these clients go on over theirs.
                assert!(proxy.try_end().is_none());
            }
            let visit = browsers.stop();
            let (refused, cut): (Vec<_>, Vec<_>) = visit.failures.iter().partition(|why| why.contains("refused"));
            println!("TERM, http {http}: {} answers, {} refused afterwards", visit.count(), refused.len());
            assert!(cut.is_empty(), "{cut:?}");
            assert!(proxy.end().success(), "{}", proxy.output());
        }
        let mut proxy = lab.proxy_as("ctl3", &["-c", &toml(lab, false, &[S1], DRAIN, "")]);
        let _slow = download(lab, "100K");
        proxy.signal(Signal::SIGTERM);
        proxy.wait_for("the end to begin", |log| log.contains("no more connections are accepted"));
        thread::sleep(MOMENT);
        assert!(proxy.try_end().is_none(), "{}", proxy.output());
        proxy.signal(Signal::SIGTERM);
        proxy.end();
    });
}

#[test]
fn a_successor_takes_over_and_no_request_is_lost() {
    lab("life::a_successor_takes_over_and_no_request_is_lost", &NEEDS, |lab| {
        let _servers = (lab.nginx("s1"), lab.nginx("s2"));
        for http in [true, false] {
            let handover = format!("[proxy]\nhandover = {:?}\n", lab.path(&format!("handover-{http}")));
            // Connections whose requests are not known do not end by themselves.
            let file = toml(lab, http, &[S1, S2], if http { DRAIN } else { 2 }, &handover);
            let mut current = lab.start("proxy", &[PEN_DSR, "-c", &file]);
            current.wait_for("the proxy", |log| log.contains("the proxy listens"));
            let browsers = lab.browse(BROWSERS, &address());
            for n in 0..3 {
                browsers.go_on(SOME);
                let next = lab.start("proxy", &[PEN_DSR, "-c", &file]);
                next.wait_for("the successor", |log| log.contains("the proxy listens"));
                let mut old = std::mem::replace(&mut current, next);
                let status = old.end();
                assert!(status.success(), "number {n}: {status}\n{}", old.output());
            }
            browsers.go_on(SOME);
            let visit = browsers.stop();
            if http {
                content("takeover", &visit);
            } else {
                // Of a connection whose requests are not known, one may be under way when the time to end is over.
                println!(
                    "takeover of plain connections: {} answers, {} failures: {:?}",
                    visit.count(),
                    visit.failures.len(),
                    visit.failures
                );
                assert!(
                    visit.failures.len() <= 3 * BROWSERS
                        && !visit.failures.iter().any(|why| why.contains("connecting"))
                );
            }
        }
    });
}

#[test]
fn without_privileges_in_another_root_it_serves_transparently_and_reloads() {
    let name = "life::without_privileges_in_another_root_it_serves_transparently_and_reloads";
    lab(name, &["nginx", "curl", "nft", "openssl"], |lab| {
        if skipped_for_want_of_users(name) {
            return;
        }
        let _nginx = lab.nginx("s1");
        lab.transparent("up");
        // What is read again is looked for by its name below the new root.
        let root = lab.directory.join("root");
        let within = root.join(lab.directory.strip_prefix("/").unwrap());
        std::fs::create_dir_all(&within).unwrap();
        let site = lab.path("site.pem");
        let write = |name: &str, content: String| {
            std::fs::write(within.join(name), &content).unwrap();
            lab.file(name, content)
        };
        let certificate = |common: &str| {
            let made = rcgen::generate_simple_self_signed([common.to_owned()]).unwrap();
            write("site.pem", format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem()));
        };
        certificate("first.test");
        let toml = |more: &str| {
            write(
                "drop.toml",
                format!(
                    "{more}user = \"nobody\"\n[proxy]\nchroot = {root:?}\n[[backend]]\nhost = \"{S1}\"\nport = 80\n\
                     [[listen]]\naddress = \"{PROXY4}:80\"\ntransparent = true\n\
                     [[listen]]\naddress = \"{PROXY4}:443\"\ntransparent = true\n[listen.tls]\ncertificate = {site:?}\n"
                ),
            )
        };
        let proxy = lab.proxy(&["-c", &toml("")]);
        let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.pid())).unwrap();
        println!(
            "{}",
            status
                .lines()
                .filter(|line| line.starts_with("Uid") || line.starts_with("CapEff"))
                .collect::<Vec<_>>()
                .join(", ")
        );
        assert!(!status.contains("Uid:\t0"), "{status}");
        assert_eq!(std::fs::read_link(format!("/proc/{}/root", proxy.pid())).unwrap(), root);
        let subject = || {
            let command = format!(
                "openssl s_client -connect {PROXY4}:443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName"
            );
            lab.run("client", &["sh", "-c", &command])
        };
        for client in ["10.1.0.1", "10.1.0.2"] {
            assert_eq!(
                lab.run("client", &["curl", "-sS", "-m", SECONDS, "--interface", client, "http://10.1.0.254/"]),
                "s1"
            );
            wait_until("the log", || lab.access("s1").contains(&format!("{client} \"GET")));
        }
        assert!(subject().contains("first.test"));
        // What is wrong changes nothing; what is right is taken over.
        toml("nonsense = 1\n");
        proxy.signal(Signal::SIGHUP);
        proxy.wait_for("the refusal", |log| log.contains("nonsense"));
        assert_eq!(lab.run("client", &["curl", "-sS", "-m", SECONDS, "http://10.1.0.254/"]), "s1");
        toml("");
        certificate("second.test");
        proxy.signal(Signal::SIGHUP);
        wait_until("the new certificate", || subject().contains("second.test"));
        assert_eq!(lab.run("client", &["curl", "-sSk", "-m", SECONDS, "https://10.1.0.254/"]), "s1");
    });
}
