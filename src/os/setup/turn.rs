//! Waiting for whoever has set up the interface before: until it is put back, nobody else may look at it, or would take
//! what the other has switched off for what the owner wanted.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::lock::SetupLock;
use crate::os::system::setup_lock::holder;

/// Waits that are longer are said.
const UNSAID: Duration = Duration::from_millis(200);
/// Between two tries.
const INTERVAL: Duration = Duration::from_millis(20);

/// Takes the lock of `interface`, and waits for it, but no longer than `patience`.
///
/// # Errors
/// [`ErrorKind::ResourceBusy`]: another has it still; the message says who, and what to do.
pub(super) fn wait_for(interface: &str, patience: Duration) -> io::Result<SetupLock> {
    let began = Instant::now();
    let mut said = false;
    loop {
        if let Some(lock) = SetupLock::take(interface) {
            if said {
                tracing::info!("{interface}: it has been put back, after {:.1} s", began.elapsed().as_secs_f64());
            }
            return Ok(lock);
        }
        let waited = began.elapsed();
        if waited >= patience {
            return Err(io::Error::new(ErrorKind::ResourceBusy, refusal(holder(interface), waited)));
        }
        if waited >= UNSAID && !said {
            said = true;
            let who = holder(interface).map_or("another process".to_owned(), |pid| format!("process {pid}"));
            tracing::info!(
                "{interface}: still set up for {who}; waiting until it is put back, for up to {} s",
                patience.as_secs_f64().ceil()
            );
        }
        std::thread::sleep(INTERVAL.min(patience - waited));
    }
}

fn refusal(holder: Option<u32>, waited: Duration) -> String {
    let seconds = waited.as_secs_f64();
    let holder = holder.and_then(|pid| i32::try_from(pid).ok());
    match holder {
        // What is still there is the process that puts everything back.
        Some(pid) if kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH) => format!(
            "process {pid} had it set up and has ended, but the process that puts it back has not done so within \
             {seconds:.1} s; try again when that has ended (ps shows it as pen-dsr, with \"restore\" in its name)"
        ),
        _ => format!(
            "{} has it set up for netmap and would put it back while this one needs it; stop that one first, or, if this \
             one is for another ring of this NIC, start it with --no-ifconfig: what the first has set up holds for both, \
             as long as that runs",
            holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_process_and_what_to_do() {
        let living = refusal(Some(std::process::id()), Duration::from_secs(15));
        assert!(living.starts_with(&format!("process {} has it", std::process::id())), "{living}");
        assert!(living.contains("--no-ifconfig"), "{living}");
        assert!(refusal(None, Duration::ZERO).starts_with("another process has it"));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        let ended = refusal(Some(child.id()), Duration::from_secs(15));
        assert!(ended.contains("has ended") && ended.contains("within 15.0 s"), "{ended}");
    }
}
