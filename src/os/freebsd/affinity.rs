//! Which processor a thread runs on: cpuset_setaffinity(2).

use std::io;

use nix::errno::Errno;

/// Bits of a set of processors: the most that FreeBSD 14 takes.
const MOST: usize = 1024;
/// Bytes of a set, as of FreeBSD 12 and of 14. A kernel refuses sets that are shorter than its own, and older ones those
/// that are longer.
const SIZES: [usize; 2] = [32, 128];

/// Keeps the calling thread on processor number `cpu`, counted from 0.
///
/// # Errors
/// There is no such processor, or this process may not use it.
pub fn pin_thread(cpu: usize) -> io::Result<()> {
    if cpu >= MOST {
        return Err(Errno::EINVAL.into());
    }
    let mut set = [0u64; MOST / 64];
    set[cpu / 64] = 1 << (cpu % 64);
    let mut outcome = Err(Errno::EINVAL);
    for size in SIZES.into_iter().filter(|size| cpu < 8 * size) {
        // SAFETY: the set has at least `size` bytes, is aligned as longs are, and outlives the call. -1 is this thread.
        outcome = Errno::result(unsafe {
            let set = set.as_ptr().cast::<libc::cpuset_t>();
            libc::cpuset_setaffinity(libc::CPU_LEVEL_WHICH, libc::CPU_WHICH_TID, -1, size, set)
        });
        if outcome != Err(Errno::ERANGE) {
            break;
        }
    }
    outcome?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_has_one_processor() {
        std::thread::spawn(|| {
            pin_thread(0).unwrap();
            assert_eq!(std::thread::available_parallelism().unwrap().get(), 1);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_processor_that_is_not_there_is_refused() {
        assert!(pin_thread(MOST - 1).is_err());
        assert!(pin_thread(1 << 20).is_err());
    }
}
