//! Backends that fail in each of their ways: out for the right reason, back when they serve again.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{BACKENDS, CLIENTS, Lab, Process, VIP4, VIP6, lab, number_after, wait_to_see, wait_until};

const INTERVAL: u32 = 500;
const FALL: u32 = 3;
/// The pace of most tests here. One that fails is to be out within `INTERVAL` x `FALL` + 1 s.
const PACE: [&str; 8] = ["--check-interval", "500", "--check-timeout", "400", "--rise", "2", "--fall", "3"];

/// The balancer and what it is watched by: who serves which client.
struct Watched<'a> {
    lab: &'a Lab,
    balancer: Process,
}

impl<'a> Watched<'a> {
    fn start(lab: &'a Lab, check: &str, rest: &[&str]) -> Watched<'a> {
        let control = lab.path("lb.sock");
        let mut words = vec!["-C", &control, "--check", check];
        words.extend(PACE);
        words.extend(rest);
        let backends = rest.iter().filter(|word| BACKENDS.contains(word)).count();
        Watched { lab, balancer: lab.balancer(&words, backends) }
    }

    /// `event` happens; the log says that be1 is down, for this `reason`.
    fn leaves(&self, what: &str, reason: &str, event: impl FnOnce()) {
        let before = self.balancer.output().len();
        let began = Instant::now();
        event();
        let mut out = None;
        self.balancer.wait_for(&format!("{what}: {reason}"), |log| {
            let new =
                || log.get(before..).unwrap_or_default().lines().filter(|line| line.contains("10.0.0.11 is down"));
            if out.is_none() {
                out = new().next().map(|first| (began.elapsed(), first.contains(reason)));
            }
            new().any(|line| line.contains(reason))
        });
        let (took, at_once) = out.expect("a line");
        println!("{what}: out after {} ms (at most {} ms): {reason}", took.as_millis(), INTERVAL * FALL + 1000);
        if !at_once {
            println!("  which is said after {} ms, and another reason before", began.elapsed().as_millis());
        }
    }

    /// `event` happens; be1 is in service again.
    fn returns(&self, what: &str, event: impl FnOnce()) {
        let began = Instant::now();
        event();
        wait_until("be1 to return", || self.lab.server("lb.sock", "10.0.0.11", "state") == "up");
        println!("{what}: back after {} ms", began.elapsed().as_millis());
    }

    /// After `event`, how long it takes until one line of the log contains all of `words`.
    fn says(&self, words: &[&str], event: impl FnOnce()) -> Duration {
        let before = self.balancer.output().len();
        let began = Instant::now();
        event();
        self.balancer.wait_for(&format!("{words:?}"), |log| {
            let mut new = log.get(before..).unwrap_or_default().lines();
            new.any(|line| words.iter().all(|word| line.contains(word)))
        });
        began.elapsed()
    }

    /// Who answers the eight clients.
    fn answers(&self) -> Answers {
        CLIENTS.iter().map(|n| self.lab.curl(&format!("10.0.0.{n}"), "http://10.0.0.100/")).collect()
    }

    /// Soon the clients are answered so. (Workers, and a program in the kernel, hear of a change a moment later than
    /// the log.)
    fn are_answered(&self, what: &str, good: impl Fn(&Answers) -> bool) {
        wait_to_see(what, || self.answers(), good);
    }

    /// Who serves them while all of `backends` are up. (One that had no processor for a second was out, and returns.)
    fn answers_of_all(&self, backends: &[&str]) -> Answers {
        let all_are_up = || backends.iter().all(|backend| self.lab.server("lb.sock", backend, "state") == "up");
        let looks = || (all_are_up(), self.answers(), self.answers(), all_are_up());
        let (_, answers, ..) = wait_to_see("an answer to everybody, of backends that are all up", looks, |looks| {
            let (before, first, second, after) = looks;
            *before && *after && first == second && first.iter().all(Result::is_ok)
        });
        answers
    }

    /// While be1 is out, its clients are served by others, and nobody else has moved.
    fn only_its_own_clients_move(&self, before: &Answers) {
        self.are_answered("only the clients of be1 to move", |now| {
            before.iter().zip(now).all(|(before, now)| {
                now.as_deref().is_ok_and(|host| host != "be1")
                    && (before.as_deref() == Ok("be1") || before.as_deref() == now.as_deref())
            })
        });
    }

    /// All are where they were.
    fn all_are_back(&self, before: &Answers) {
        self.are_answered("all to be where they were", |now| now == before);
    }
}

/// Who has answered each client, or what curl said.
type Answers = Vec<Result<String, String>>;

/// Clients that have been with be1, so that there is somebody to move.
fn own_clients(answers: &Answers) -> usize {
    answers.iter().filter(|answer| answer.as_deref() == Ok("be1")).count()
}

/// The process of nginx that serves; its parent only looks after it.
fn worker(nginx: &Process) -> Pid {
    let parent = nginx.pid();
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("its children");
    Pid::from_raw(children.trim().parse().expect("one child"))
}

/// nginx ends, and nothing listens any more.
fn end(web: &mut Process) {
    web.signal(Signal::SIGTERM);
    web.end();
}

#[test]
fn http_checks_find_what_is_wrong() {
    lab("checks::http_checks_find_what_is_wrong", &[], &["nginx", "curl"], |lab| {
        let mut web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, b""));
        let mut arguments = vec![VIP4];
        arguments.extend(BACKENDS);
        let watched = Watched::start(lab, "http:80/", &arguments);
        let before = watched.answers_of_all(&BACKENDS);
        assert!(own_clients(&before) > 0, "{before:?}");

        let address = |verb| drop(lab.run("be1", &["ip", "address", verb, "10.0.0.100/32", "dev", "lo"]));
        watched.leaves("the VIP is taken off", "no answer: is the VIP on its loopback?", || address("delete"));
        watched.only_its_own_clients_move(&before);
        watched.returns("the VIP is put on again", || address("add"));
        watched.all_are_back(&before);

        watched.leaves("the server is ended", "RST: nothing listens on 10.0.0.100:80", || end(&mut web[0]));
        watched.only_its_own_clients_move(&before);
        watched.returns("it is started again", || web[0] = lab.nginx("be1", b""));
        watched.all_are_back(&before);

        let hung = worker(&web[0]);
        watched.leaves("the server hangs after accept", "no HTTP answer", || {
            kill(hung, Signal::SIGSTOP).expect("it is there");
        });
        watched.only_its_own_clients_move(&before);
        watched.returns("it goes on", || kill(hung, Signal::SIGCONT).expect("it is there"));
        watched.all_are_back(&before);

        let cable = |state| drop(lab.run("sw", &["ip", "link", "set", "be1", state]));
        watched.leaves("the cable is pulled", "no answer to ARP", || cable("down"));
        watched.only_its_own_clients_move(&before);
        watched.returns("it is plugged in again", || cable("up"));
        watched.all_are_back(&before);
    });
}

#[test]
fn http_checks_judge_the_status() {
    lab("checks::http_checks_judge_the_status", &["--backends", "2"], &["nginx", "curl"], |lab| {
        let _web = ["be1", "be2"].map(|host| lab.nginx(host, b""));
        let well = |host: &str| lab.directory.join(host).join("well");
        ["be1", "be2"].iter().for_each(|host| fs::write(well(host), "yes").expect("a file"));
        let watched = Watched::start(lab, "http:80/well", &[VIP4, BACKENDS[0], BACKENDS[1]]);
        let before = watched.answers_of_all(&BACKENDS[..2]);
        watched.leaves("the page is gone", "HTTP status 404", || fs::remove_file(well("be1")).expect("a file"));
        watched.only_its_own_clients_move(&before);
        watched.returns("the page is there", || fs::write(well("be1"), "yes").expect("a file"));
    });
}

#[test]
fn tcp_checks_work_in_ipv6() {
    lab("checks::tcp_checks_work_in_ipv6", &["--backends", "2"], &["nginx", "curl"], |lab| {
        let mut web = ["be1", "be2"].map(|host| lab.nginx(host, b""));
        let watched = Watched::start(lab, "tcp", &["[fd00::100]:80", BACKENDS[0], BACKENDS[1]]);
        let address = |verb| drop(lab.run("be1", &["ip", "address", verb, "fd00::100/128", "dev", "lo", "nodad"]));
        watched.leaves("the VIP is taken off", "no answer: is the VIP on its loopback?", || address("delete"));
        watched.returns("the VIP is put on again", || address("add"));
        watched.leaves("the server is ended", "RST: nothing listens on [fd00::100]:80", || end(&mut web[0]));
        let answers =
            || -> Answers { CLIENTS.iter().map(|n| lab.curl(&format!("fd00::{n}"), "http://[fd00::100]/")).collect() };
        wait_to_see("be2 to serve all", answers, |now| now.iter().all(|answer| answer.as_deref() == Ok("be2")));
        watched.returns("it is started again", || web[0] = lab.nginx("be1", b""));
    });
}

#[test]
fn echo_checks_tell_whether_the_vip_is_there() {
    lab("checks::echo_checks_tell_whether_the_vip_is_there", &["--backends", "2"], &[], |lab| {
        let watched = Watched::start(lab, "icmp", &[VIP4, "--vip", VIP6, BACKENDS[0], BACKENDS[1]]);
        for (vip, options) in [("10.0.0.100/32", &[][..]), ("fd00::100/128", &["nodad"][..])] {
            let address = |verb| {
                let mut words = vec!["ip", "address", verb, vip, "dev", "lo"];
                words.extend(options);
                lab.run("be1", &words);
            };
            watched.leaves(&format!("{vip} is taken off"), "no answer: is the VIP on its loopback?", || {
                address("delete");
            });
            watched.returns("it is put on again", || address("add"));
        }
    });
}

/// Who answers a query from `client` within three seconds, or what dig says.
fn ask(lab: &Lab, client: &str) -> String {
    let words = ["dig", "+short", "+time=3", "+tries=1", "-b", client, "@10.0.0.100", "who.test", "A"];
    lab.try_run("client", &words).1.trim().to_owned()
}

#[test]
fn dns_checks_ask_a_name_server() {
    lab("checks::dns_checks_ask_a_name_server", &["--backends", "2"], &["dig", "dnsmasq"], |lab| {
        let mut servers = ["be1", "be2"].map(|host| lab.dnsmasq(host));
        let watched = Watched::start(lab, "dns/who.test", &["-U", "10.0.0.100:53", BACKENDS[0], BACKENDS[1]]);
        watched.leaves("the name server is ended", "nothing listens on 10.0.0.100:53", || end(&mut servers[0]));
        let answers = || CLIENTS.map(|n| ask(lab, &format!("10.0.0.{n}")));
        wait_to_see("be2 to answer all", answers, |now| now.iter().all(|answer| answer == "192.0.2.2"));
        watched.returns("it is started again", || servers[0] = lab.dnsmasq("be1"));
        watched.leaves("it hangs", "no answer", || servers[0].signal(Signal::SIGSTOP));
        watched.returns("it goes on", || servers[0].signal(Signal::SIGCONT));
    });
}

#[test]
fn when_too_few_are_up_all_are_used() {
    lab("checks::when_too_few_are_up_all_are_used", &[], &["nginx", "curl"], |lab| {
        let mut web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, b""));
        let mut arguments = vec!["--panic", "50", VIP4];
        arguments.extend(BACKENDS);
        let watched = Watched::start(lab, "tcp:80", &arguments);
        let before = watched.answers_of_all(&BACKENDS);
        watched.leaves("one of three is ended", "RST: nothing listens", || end(&mut web[0]));
        watched.only_its_own_clients_move(&before);
        watched.says(&["PANIC"], || end(&mut web[1]));
        // Where nothing listens, clients are refused: that is what it means to use all.
        watched.are_answered("those of be3 alone to be served", |now| {
            let with_be3 = |answer: &Result<String, String>| answer.as_deref() == Ok("be3");
            before
                .iter()
                .zip(now)
                .all(|(before, now)| with_be3(now) == with_be3(before) && now.is_ok() == with_be3(now))
        });
        watched.says(&["the panic is over"], || web[1] = lab.nginx("be2", b""));
        watched.only_its_own_clients_move(&before);
    });
}

#[test]
fn without_a_backend_clients_are_refused_or_left_waiting() {
    let name = "checks::without_a_backend_clients_are_refused_or_left_waiting";
    lab(name, &["--backends", "1"], &["nginx", "curl", "dig"], |lab| {
        for (policy, tcp, udp) in [("reject", "(7)", "refused"), ("drop", "(28)", "timed out")] {
            let mut web = lab.nginx("be1", b"");
            let watched = Watched::start(lab, "http:80", &["--when-empty", policy, VIP4, BACKENDS[0]]);
            watched.answers_of_all(&BACKENDS[..1]);
            watched.leaves("the only server is ended", "RST: nothing listens", || end(&mut web));
            let began = Instant::now();
            let refused = wait_to_see(
                &format!("curl to say {tcp}"),
                || lab.curl("10.0.0.1", "http://10.0.0.100/"),
                |answer| answer.as_ref().is_err_and(|said| said.contains(tcp)),
            );
            println!("--when-empty {policy}: after {} ms, {refused:?}", began.elapsed().as_millis());
            let answer = wait_to_see(
                &format!("dig to say {udp:?}"),
                || ask(lab, "10.0.0.1"),
                |answer| answer.lines().next().is_some_and(|said| said.contains(udp)),
            );
            println!("--when-empty {policy}: {}", answer.lines().next().unwrap_or_default());
            let lost = number_after(&watched.balancer.statistics(), "no-backend");
            assert!(policy == "reject" || lost > 0);
        }
    });
}

#[test]
fn an_emergency_backend_serves_when_nobody_else_does() {
    let name = "checks::an_emergency_backend_serves_when_nobody_else_does";
    lab(name, &[], &["nginx", "curl"], |lab| {
        let mut web = ["be1", "be2", "be3"].map(|host| lab.nginx(host, b""));
        let watched = Watched::start(lab, "tcp:80", &["-e", "10.0.0.13", VIP4, BACKENDS[0], BACKENDS[1]]);
        let before = watched.answers_of_all(&BACKENDS[..2]);
        assert!(before.iter().all(|answer| answer.as_deref().is_ok_and(|host| host != "be3")), "{before:?}");
        watched.leaves("one of two is ended", "RST: nothing listens", || end(&mut web[0]));
        watched
            .are_answered("the other one to serve all", |now| now.iter().all(|answer| answer.as_deref() == Ok("be2")));
        watched.says(&["10.0.0.12 is down"], || end(&mut web[1]));
        watched.are_answered("the emergency backend to serve all", |now| {
            now.iter().all(|answer| answer.as_deref() == Ok("be3"))
        });
        watched.returns("one is started again", || web[0] = lab.nginx("be1", b""));
        watched.are_answered("who has returned to serve all", |now| {
            now.iter().all(|answer| answer.as_deref() == Ok("be1"))
        });
    });
}
