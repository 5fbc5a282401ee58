//! On a veth pair, in a sandbox (scripts/sandbox) of each test.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pen_dsr::os::{self, Link, MacFilter, Purpose, Setup};

/// scripts/sandbox says with this that no namespaces can be made.
const EX_TEMPFAIL: i32 = 75;
/// Nothing here takes this long, unless it does not work.
const PATIENCE: Duration = Duration::from_secs(45);
/// Tells this program, started by one of its tests, to hold an interface.
const HOLDS: &str = "PEN_DSR_TEST_HOLDS";
/// What a process that keeps an interface is called.
const KEEPER: &str = "pen-dsr-restore";

#[test]
fn offloads_are_off_while_it_is_set_up_and_afterwards_exactly_as_before() {
    sandboxed(|| {
        make_pair();
        // What was off before, stays off afterwards.
        run("ethtool -K here gro on tso off rxvlan off");
        let before = run("ethtool -k here");
        let mut setup = Setup::apply("here", MacFilter::Own).unwrap();
        let off = setup.switched_off().join(" ");
        assert_eq!(
            off.split(' ').filter(|word| ["rx", "tx", "gso", "gro", "txvlan"].contains(word)).count(),
            5,
            "{off}"
        );
        assert!(!off.contains("tso") && !off.contains("rxvlan"), "{off}");
        assert_eq!(setup.left_on(), [""; 0]);
        assert_eq!(os::active_offloads("here", Purpose::Netmap).unwrap(), None);
        for feature in ["rx-checksumming", "tx-checksumming", "generic-segmentation-offload", "tx-vlan-offload"] {
            let now = run("ethtool -k here");
            assert!(now.contains(&format!("{feature}: off")), "{feature}\n{now}");
        }
        assert_ne!(run("ethtool -k here"), before);
        setup.restore().unwrap();
        assert_eq!(run("ethtool -k here"), before);
        // A second time, and the drop, find nothing to do.
        run("ethtool -K here gro off");
        setup.restore().unwrap();
        drop(setup);
        assert!(run("ethtool -k here").contains("generic-receive-offload: off"));
        assert_eq!(keepers(), [0; 0]);
    });
}

#[test]
fn the_command_that_is_named_switches_off_all_that_is_on() {
    sandboxed(|| {
        make_pair();
        let active = os::active_offloads("here", Purpose::Netmap).unwrap().expect("a veth has offloads");
        assert!(active.remedy.starts_with("ethtool -K here rx off tx off "), "{}", active.remedy);
        run(&active.remedy);
        assert_eq!(os::active_offloads("here", Purpose::Netmap).unwrap(), None);
    });
}

#[test]
fn an_interface_is_brought_up_and_taken_down_again() {
    sandboxed(|| {
        make_pair();
        run("ip link set here down");
        let before = run("ip -d link show here");
        let setup = Setup::apply("here", MacFilter::Promiscuous).unwrap();
        assert!(setup.brought_up());
        let now = run("ip -d link show here");
        assert!(now.contains(",UP") && now.contains("promiscuity 1"), "{now}");
        drop(setup);
        assert_eq!(link_without_state(&run("ip -d link show here")), link_without_state(&before));
        // What was up and promiscuous before is left so.
        run("ip link set here up promisc on");
        drop(Setup::apply("here", MacFilter::Promiscuous).unwrap());
        let now = run("ip -d link show here");
        assert!(now.contains(",UP") && now.contains("promiscuity 1"), "{now}");
    });
}

#[test]
fn a_process_that_is_killed_has_its_interface_put_back() {
    sandboxed(|| {
        make_pair();
        run("ip link set here down");
        let before = run("ethtool -k here");
        let mut holder = Holder::start("here");
        let [keeper] = keepers()[..] else { panic!("{:?}", keepers()) };
        // It holds nothing of the other's, and is not for signals that are meant for that.
        if let Ok(open) = fs::read_dir(format!("/proc/{keeper}/fd")) {
            assert_eq!(open.count(), 3);
        }
        for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGPIPE] {
            kill(Pid::from_raw(keeper), signal).unwrap();
        }
        thread::sleep(Duration::from_millis(100));
        assert_eq!(os::active_offloads("here", Purpose::Netmap).unwrap(), None);
        holder.child.kill().unwrap();
        wait_until("everything is as it was", || run("ethtool -k here") == before && keepers().is_empty());
        assert!(run("ip link show here").contains("state DOWN"));
    });
}

#[test]
fn a_keeper_that_is_killed_leaves_it_to_the_process_itself() {
    sandboxed(|| {
        make_pair();
        let before = run("ethtool -k here");
        let mut setup = Setup::apply("here", MacFilter::Own).unwrap();
        for keeper in keepers() {
            kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
        }
        assert!(setup.renew().is_err());
        assert_ne!(run("ethtool -k here"), before);
        setup.restore().unwrap();
        assert_eq!(run("ethtool -k here"), before);
    });
}

#[test]
fn a_process_that_is_started_while_another_is_put_back_waits_and_keeps_its_own() {
    sandboxed(|| {
        make_pair();
        run("ip link set here down");
        let before = run("ethtool -k here");
        let mut first = Holder::start("here");
        let [keeper] = keepers()[..] else { panic!("{:?}", keepers()) };
        // As a driver that takes its time.
        kill(Pid::from_raw(keeper), Signal::SIGSTOP).unwrap();
        first.child.kill().unwrap();
        first.child.wait().unwrap();
        let mut second = Holder::spawn("here");
        second.hear_that("still set up for process");
        assert_eq!(keepers(), [keeper]);
        kill(Pid::from_raw(keeper), Signal::SIGCONT).unwrap();
        assert_eq!(second.hear(), "held");
        for word in [format!("here: still set up for process {}", first.child.id()), "has been put back".to_owned()] {
            assert!(second.log.contains(&word), "{word}: {}", second.log);
        }
        // Nobody switches anything on any more.
        let end = Instant::now() + Duration::from_secs(1);
        while Instant::now() < end {
            assert_eq!(second.say("look"), "");
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(keepers().len(), 1);
        assert_eq!(second.say("restore"), "restored");
        assert_eq!(run("ethtool -k here"), before);
        assert!(run("ip link show here").contains("state DOWN"));
    });
}

#[test]
fn a_process_is_refused_what_another_holds_and_told_who_that_is() {
    sandboxed(|| {
        make_pair();
        let before = run("ethtool -k here");
        let mut holder = Holder::start("here");
        let refused = || {
            let (patience, began) = (Duration::from_millis(300), Instant::now());
            let e = Setup::apply_within(patience, "here", MacFilter::Own).unwrap_err();
            assert!(began.elapsed() >= patience, "{:?}", began.elapsed());
            assert_eq!(e.kind(), std::io::ErrorKind::ResourceBusy);
            e.to_string()
        };
        let why = refused();
        assert!(why.contains(&format!("process {} has it", holder.child.id())), "{why}");
        assert!(why.contains("--no-ifconfig"), "{why}");
        assert_eq!(holder.say("look"), "");
        // Another interface is another's turn.
        drop(Setup::apply_within(Duration::ZERO, "there", MacFilter::Own).unwrap());
        // One that has put it back may go on living; one that has ended is said to have.
        assert_eq!(holder.say("restore"), "restored");
        drop(Setup::apply_within(PATIENCE, "here", MacFilter::Own).unwrap());
        let mut holder = Holder::start("here");
        let [keeper] = keepers()[..] else { panic!("{:?}", keepers()) };
        kill(Pid::from_raw(keeper), Signal::SIGSTOP).unwrap();
        holder.child.kill().unwrap();
        holder.child.wait().unwrap();
        let why = refused();
        assert!(why.contains(&format!("process {} had it", holder.child.id())), "{why}");
        kill(Pid::from_raw(keeper), Signal::SIGCONT).unwrap();
        wait_until("everything is as it was", || run("ethtool -k here") == before && keepers().is_empty());
    });
}

#[test]
fn a_process_that_goes_to_the_background_is_named_as_the_one_it_then_is() {
    sandboxed(|| {
        make_pair();
        let mut holder = Holder::start("here");
        let pid = holder.say("background");
        assert_ne!(pid, holder.child.id().to_string());
        assert_eq!(holder.say("look"), "");
        let why = Setup::apply_within(Duration::ZERO, "here", MacFilter::Own).unwrap_err().to_string();
        assert!(why.contains(&format!("process {pid} has it")), "{why}");
        assert_eq!(holder.say("restore"), "restored");
    });
}

#[test]
fn a_process_whose_keeper_was_killed_still_has_its_turn() {
    sandboxed(|| {
        make_pair();
        let mut holder = Holder::start("here");
        for keeper in keepers() {
            kill(Pid::from_raw(keeper), Signal::SIGKILL).unwrap();
        }
        wait_until("the keeper is gone", || keepers().is_empty());
        assert!(Setup::apply_within(Duration::ZERO, "here", MacFilter::Own).is_err());
        assert_eq!(holder.say("restore"), "restored");
        drop(Setup::apply_within(PATIENCE, "here", MacFilter::Own).unwrap());
    });
}

#[test]
fn what_somebody_else_changes_is_noticed_and_mended() {
    sandboxed(|| {
        make_pair();
        run("ethtool -K here gro on tso off");
        let before = run("ethtool -k here");
        let mut setup = Setup::apply("here", MacFilter::Promiscuous).unwrap();
        assert_eq!(setup.disturbed().unwrap(), [""; 0]);
        run("ethtool -K here gro on");
        assert_eq!(setup.disturbed().unwrap(), ["gro"]);
        run("ip link set here down promisc off");
        assert_eq!(setup.disturbed().unwrap(), ["gro", "down", "not promiscuous"]);
        setup.renew().unwrap();
        assert_eq!(setup.disturbed().unwrap(), [""; 0]);
        // Also what had been off before; if it is left at that, nothing is put back that was not found.
        run("ethtool -K here tx on tso on");
        assert!(setup.disturbed().unwrap().contains(&"tso"), "{:?}", setup.disturbed());
        run("ethtool -K here tx off tso off");
        setup.restore().unwrap();
        assert_eq!(run("ethtool -k here"), before);
        run("ip link del here");
        assert!(setup.disturbed().is_err());
    });
}

#[test]
fn a_process_without_privileges_renews_and_restores_all_the_same() {
    sandboxed(|| {
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        if map.split_whitespace().nth(2).and_then(|n| n.parse().ok()).unwrap_or(0u64) < 65535 {
            return skip("this user namespace has one user only");
        }
        make_pair();
        let before = run("ethtool -k here");
        let mut holder = Holder::start("here");
        assert_eq!(holder.say("forgo"), "refused", "root's requests have to be refused by now");
        run("ip link del here");
        make_pair();
        assert_eq!(run("ethtool -k here"), before);
        assert_eq!(holder.say("renew"), "renewed");
        assert_eq!(os::active_offloads("here", Purpose::Netmap).unwrap(), None);
        assert_eq!(holder.say("look"), "");
        run("ethtool -K here rx on");
        assert_eq!(holder.say("look"), "rx");
        assert_eq!(holder.say("renew"), "renewed");
        assert_eq!(holder.say("restore"), "restored");
        assert_eq!(run("ethtool -k here"), before);
    });
}

#[test]
fn an_interface_that_has_gone_is_no_error_and_a_new_one_is_left_alone() {
    sandboxed(|| {
        make_pair();
        let mut setup = Setup::apply("here", MacFilter::Own).unwrap();
        run("ip link del here");
        assert_eq!(setup.renew().unwrap_err().kind(), std::io::Error::from_raw_os_error(libc::ENODEV).kind());
        make_pair();
        run("ethtool -K here tx off gro off");
        let before = run("ethtool -k here");
        setup.restore().unwrap();
        assert_eq!(run("ethtool -k here"), before);
        let mut gone = Setup::apply("here", MacFilter::Own).unwrap();
        run("ip link del here");
        gone.restore().unwrap();
    });
}

#[test]
fn an_interface_that_cannot_be_set_up_is_said_so() {
    sandboxed(|| {
        let gone = Setup::apply("here", MacFilter::Own).unwrap_err();
        assert!(gone.to_string().contains("No such device"), "{gone}");
        assert!(Setup::apply("a-name-that-is-too-long", MacFilter::Own).is_err());
        assert_eq!(keepers(), [0; 0]);
    });
}

#[test]
fn two_interfaces_are_kept_apart() {
    sandboxed(|| {
        make_pair();
        let before = [run("ethtool -k here"), run("ethtool -k there")];
        let first = Setup::apply("here", MacFilter::Own).unwrap();
        let second = Setup::apply("there", MacFilter::Own).unwrap();
        // The second keeper must not keep the first one's orders open.
        drop(first);
        assert_eq!(run("ethtool -k here"), before[0]);
        assert_ne!(run("ethtool -k there"), before[1]);
        drop(second);
        assert_eq!(run("ethtool -k there"), before[1]);
    });
}

#[test]
fn the_link_is_what_the_other_end_makes_it() {
    sandboxed(|| {
        make_pair();
        wait_until("the link is up", || os::link_state("here").unwrap() == Link::Up);
        run("ip link set there down");
        wait_until("the link is down", || os::link_state("here").unwrap() == Link::Down);
        assert!(os::link_state("nowhere").is_err());
    });
}

/// Runs `body` in a sandbox of its own, if it can.
fn sandboxed(body: impl FnOnce()) {
    if let Some(interface) = std::env::var_os(HOLDS) {
        return hold(interface.to_str().expect("a name"));
    }
    if std::env::var_os("PEN_DSR_SANDBOX").is_some() {
        return body();
    }
    if !["/usr/sbin/ethtool", "/sbin/ethtool", "/usr/bin/ethtool"].iter().any(|path| Path::new(path).exists()) {
        return skip("ethtool is not installed");
    }
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/sandbox"))
        .arg(std::env::current_exe().expect("own path"))
        .args(["--exact", &test_name(), "--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .output()
        .expect("scripts/sandbox runs");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(EX_TEMPFAIL) {
        return skip(errors.trim());
    }
    // The inner run's own bookkeeping is not for whoever counts tests.
    said.lines().filter(|line| line.contains("SKIPPED")).for_each(|line| println!("{line}"));
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed, "in the sandbox ({}):\n{said}{errors}", output.status);
}

/// The test harness names a test's thread after it.
fn test_name() -> String {
    thread::current().name().expect("a test's thread").to_owned()
}

fn skip(why: &str) {
    println!("SKIPPED offloads::{}: {why}", test_name());
}

/// `here` and `there`, both up.
fn make_pair() {
    run("ip link add here type veth peer name there");
    run("ip link set here up");
    run("ip link set there up");
}

/// What a command prints; it has to succeed.
fn run(line: &str) -> String {
    let mut words = line.split(' ');
    let output = Command::new(words.next().expect("a command")).args(words).stdin(Stdio::null()).output().expect(line);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// A link down is first shown as LOWERLAYERDOWN or DOWN, whatever it was before.
fn link_without_state(shown: &str) -> String {
    shown.split_whitespace().filter(|word| !word.contains("DOWN")).collect::<Vec<_>>().join(" ")
}

/// The processes that keep an interface, of this sandbox.
fn keepers() -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("a list of processes").flatten();
    let is_keeper = |directory: &Path| {
        let comm = fs::read_to_string(directory.join("comm")).unwrap_or_default();
        // One that has ended, but that nobody has waited for yet, has no command line.
        comm.trim() == KEEPER && fs::read(directory.join("cmdline")).is_ok_and(|line| !line.is_empty())
    };
    processes
        .filter(|entry| is_keeper(&entry.path()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// This program in another process, which holds an interface.
struct Holder {
    child: Child,
    stdin: ChildStdin,
    said: BufReader<std::process::ChildStdout>,
    /// The lines that were not for us, so far.
    log: String,
}

impl Holder {
    fn start(interface: &str) -> Holder {
        let mut holder = Holder::spawn(interface);
        assert_eq!(holder.hear(), "held");
        holder
    }

    /// One that does not hold it yet.
    fn spawn(interface: &str) -> Holder {
        let mut child = Command::new(std::env::current_exe().expect("own path"))
            .args(["--exact", &test_name(), "--nocapture", "--test-threads=1"])
            .env(HOLDS, interface)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program runs");
        let (stdin, stdout) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
        Holder { child, stdin, said: BufReader::new(stdout), log: String::new() }
    }

    fn say(&mut self, order: &str) -> String {
        writeln!(self.stdin, "{order}").expect("the holder lives");
        self.hear()
    }

    /// Waits until it logs a line with `words`.
    fn hear_that(&mut self, words: &str) {
        while !self.log.contains(words) {
            assert_ne!(self.said.read_line(&mut self.log).expect("text"), 0, "the holder has ended: {}", self.log);
        }
    }

    /// The next line that is for us.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.said.read_line(&mut line).expect("text"), 0, "the holder has ended");
            if let Some((_, said)) = line.split_once("holder: ") {
                return said.trim().to_owned();
            }
            self.log += &line;
        }
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The life of a [`Holder`]'s process.
fn hold(interface: &str) {
    tracing_subscriber::fmt().with_writer(std::io::stdout).with_ansi(false).init();
    let mut setup = Setup::apply(interface, MacFilter::Promiscuous).expect("an interface to hold");
    println!("holder: held");
    for order in std::io::stdin().lines() {
        match order.expect("text").as_str() {
            "forgo" => {
                let nobody = nix::unistd::User::from_name("nobody").expect("users").expect("nobody");
                nix::unistd::setgid(nobody.gid).expect("root");
                nix::unistd::setuid(nobody.uid).expect("root");
                let refused = Command::new("ip").args(["link", "set", "here", "down"]).output().expect("ip runs");
                println!("holder: {}", if refused.status.success() { "permitted" } else { "refused" });
            }
            "renew" => {
                setup.renew().expect("renewed");
                println!("holder: renewed");
            }
            "background" => {
                nix::unistd::daemon(true, true).expect("in the background");
                println!("holder: {}", std::process::id());
            }
            "look" => println!("holder: {}", setup.disturbed().expect("it is there").join(" ")),
            "restore" => {
                setup.restore().expect("restored");
                println!("holder: restored");
            }
            other => panic!("{other}"),
        }
    }
}
