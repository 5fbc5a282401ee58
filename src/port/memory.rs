//! A port whose wire is two queues: for tests, simulation and benchmarks.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::{Arm, Port, Tally};
use crate::verdict::Verdict;

/// Frames wait in `incoming`; what is sent collects in `sent`, what the host got in `to_host`.
#[derive(Debug, Default)]
pub struct MemoryPort {
    /// To be read, oldest first.
    pub incoming: VecDeque<Vec<u8>>,
    /// Sent, oldest first.
    pub sent: Vec<Vec<u8>>,
    /// Left to the host, oldest first.
    pub to_host: Vec<Vec<u8>>,
    /// Dropped.
    pub dropped: u64,
}

impl Port for MemoryPort {
    fn drive(&mut self, budget: usize, decide: &mut impl FnMut(Arm, &mut [u8]) -> Verdict) -> io::Result<usize> {
        let mut n = 0;
        while n < budget {
            let Some(mut frame) = self.incoming.pop_front() else {
                break;
            };
            n += 1;
            match decide(Arm::Front, &mut frame) {
                Verdict::Transmit => self.sent.push(frame),
                Verdict::Host => self.to_host.push(frame),
                Verdict::Drop(_) => self.dropped += 1,
            }
        }
        Ok(n)
    }

    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sent.push(frame.to_vec());
        Ok(())
    }

    fn wait(&mut self, _until: Option<Instant>) -> io::Result<()> {
        Ok(())
    }

    fn tally(&mut self) -> Tally {
        Tally::default()
    }
}
