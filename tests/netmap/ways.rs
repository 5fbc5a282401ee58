//! Ways to run: in the background, as another user, on given processors.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ends::End;
use crate::harness::{PEN_DSR, machine, run, wait_until};
use crate::load::{Load, macs, words};
use crate::system::NOBODY;

const FRAMES: u32 = 2000;

#[test]
fn the_background_forwards() {
    machine("ways::the_background_forwards", |machine| {
        let pipe = machine.word();
        let mut ends = [End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}}}2"))];
        let (pidfile, log) = (machine.path("pid"), machine.path("daemon.log"));
        let line = format!("-i netmap:{pipe}{{1 -o netmap:{pipe}{{2 {}", words());
        let mut command = Command::new(PEN_DSR);
        command.args(["--daemon", "-p", &pidfile, "--log-file", &log, "-C", &machine.path("control")]);
        run(command.args(line.split_whitespace()));
        let pid = || fs::read_to_string(&pidfile).ok()?.trim().parse().ok().map(Pid::from_raw);
        wait_until("the pid file", || pid().is_some());
        let pid = pid().expect("a number");
        let carried = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let macs = macs(&fs::read_to_string(&log).expect("a log"));
            Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], FRAMES);
            assert_eq!(machine.count("transmitted.frames"), u64::from(FRAMES));
        }));
        kill(pid, Signal::SIGTERM).expect("it runs");
        wait_until("its end", || !fs::exists(&pidfile).unwrap_or(true) && kill(pid, None).is_err());
        if let Err(panic) = carried {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn another_user_forwards() {
    machine("ways::another_user_forwards", |machine| {
        let pipe = machine.word();
        let line = format!("-u nobody -i netmap:{pipe}{{1 -o netmap:{pipe}{{2 {}", words());
        let balancer = machine.balancer(&line);
        let socket = fs::metadata(machine.path("control")).expect("a socket");
        assert_eq!(socket.uid(), NOBODY, "it has become nobody: {}", balancer.output());
        let mut ends = [End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}}}2"))];
        let macs = macs(&balancer.output());
        Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], FRAMES);
    });
}

#[test]
fn a_worker_runs_on_the_processor_that_is_given() {
    machine("ways::a_worker_runs_on_the_processor_that_is_given", |machine| {
        let pipe = machine.word();
        let balancer = machine.balancer(&format!("--cpus 0,1 -i netmap:{pipe}{{1 -o netmap:{pipe}{{2 {}", words()));
        let mut ends = [End::open(&format!("netmap:{pipe}}}1")), End::open(&format!("netmap:{pipe}}}2"))];
        let macs = macs(&balancer.output());
        Load::new(macs[0]).carry(&mut ends, (&[0], &[1]), macs[1], FRAMES);
        assert!(!balancer.output().contains("cannot be pinned"), "{}", balancer.output());
        if let Some(allowed) = crate::system::processors_of(balancer.pid(), "worker-0") {
            assert_eq!(allowed, "0");
        }
    });
}
