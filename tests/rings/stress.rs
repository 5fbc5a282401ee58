//! Two threads on the same rings without a lock between them: the kernel's side at its own pace, and the port. What holds
//! them apart is the order in which `head`, `cur` and `tail` are written and read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netmap_sys::RingKind;
use pen_dsr::port::netmap::NetmapPort;
use pen_dsr::port::netmap::model::{Nic, Shape};
use pen_dsr::port::netmap::parts::deal;
use pen_dsr::port::{Port, waker};
use pen_dsr::verdict::Verdict;

/// Frames in all; each has its number in it, many times.
const FRAMES: u64 = 100_000;
/// On a machine that does something else it is less than that, when so much time has passed; but no less than `LEAST`.
const LONGEST: Duration = Duration::from_secs(30);
const LEAST: u64 = 2_000;
/// Looks without anything to do until a side lets others have the processor.
const SPINS: u32 = 200;

/// Ends the kernel's side, however the port's ends.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// After many `idle` looks, others have the processor: the other side may wait for it.
fn idle(is_idle: bool, idle: &mut u32) {
    *idle = if is_idle { *idle + 1 } else { 0 };
    if *idle > SPINS {
        *idle = 0;
        std::thread::yield_now();
    }
}

fn frame(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(8)
}

#[test]
fn a_kernel_at_its_own_pace_and_the_port_lose_nothing() {
    // Five slots: both are at each other's heels all the time.
    let nic = Nic::new(Shape { pairs: 1, host: false, slots: 5 });
    let (wakers, mut receivers): (Vec<_>, Vec<_>) = std::iter::once(waker().unwrap()).unzip();
    let mut parts = deal(nic.detached(), None, &wakers).expect("the model is sound");
    let wake = receivers.pop().expect("one");
    let mut port = NetmapPort::new(parts.pop().expect("one"), wake).expect("a port");
    let done = AtomicBool::new(false);
    let begun = Instant::now();

    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| {
            let (mut next, mut expected) = (0, 0);
            let (mut lost, mut spins, mut last_rounds) = (0, 0, 0);
            while last_rounds < 10 {
                // When the port has ended, what it has sent is still on its way.
                last_rounds += u32::from(done.load(Ordering::Acquire));
                let before = (next, expected);
                while next < FRAMES && nic.waiting(RingKind::NicRx, 0) < 8 {
                    nic.arrive(0, &frame(next));
                    next += 1;
                }
                nic.step();
                for sent in nic.take_sent(0) {
                    let number = u64::from_be_bytes(sent[..8].try_into().expect("eight bytes"));
                    assert!(sent == frame(number), "frame {number} is not whole");
                    assert!(number >= expected, "frame {number} after {expected}");
                    lost += number - expected;
                    expected = number + 1;
                }
                idle((next, expected) == before, &mut spins);
            }
            (expected, lost)
        });
        let end = End(&done);
        let (mut read, mut spins) = (0, 0);
        while read < FRAMES && (read < LEAST || begun.elapsed() < LONGEST) {
            let mut expected = read;
            let n = port.drive(64, &mut |_, frame: &mut [u8]| {
                assert!(*frame == *self::frame(expected), "frame {expected} is not whole, or not the next");
                expected += 1;
                Verdict::Transmit
            });
            let n = n.expect("the model does not fail") as u64;
            read += n;
            idle(n == 0, &mut spins);
        }
        // The last ones are on their way.
        port.wait(Some(Instant::now())).expect("the model does not fail");
        drop(end);
        let (sent, lost) = kernel.join().expect("the kernel's side found all in order");
        let failed = port.tally().send_failed;
        assert_eq!(lost + (read - sent), failed, "only what found no room is lost, and that is counted");
        println!("{read} frames in {:?}, {failed} of them found no room", begun.elapsed());
    });
    assert_eq!(nic.violations(), Vec::<String>::new());
    assert_eq!(nic.reinits(), 0, "head and cur were never seen where they must not be");
    nic.memory().audit().expect("every buffer in one slot");
}
