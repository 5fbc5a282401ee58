//! Which processor a thread runs on: sched_setaffinity(2).

use std::io;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Keeps the calling thread on processor number `cpu`, counted from 0.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_processor() {
        std::thread::spawn(|| {
            let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
            let last = (0..CpuSet::count()).rfind(|&cpu| allowed.is_set(cpu).unwrap()).unwrap();
            pin_thread(last).unwrap();
            let now = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
            let left: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| now.is_set(cpu).unwrap()).collect();
            assert_eq!(left, [last]);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        assert!(pin_thread(CpuSet::count() - 1).is_err());
        assert!(pin_thread(1 << 20).is_err());
    }
}
