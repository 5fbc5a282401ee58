//! What is said once of what the workers have counted.

use tracing::warn;

use super::Appliance;
use crate::counters::Counters;
use crate::os;

impl Appliance {
    /// Says once that frames come with unfinished checksums, and how that is avoided.
    pub(super) fn note_finishing(&mut self, counters: &Counters) {
        if !self.finishing && counters.finished.get() > 0 {
            self.finishing = true;
            warn!(
                "{}: frames come with checksums that their sender left to the hardware; they are finished here, which takes time: {}",
                self.ground.name(),
                os::CHECKSUM_REMEDY
            );
        }
    }

    /// Says that a worker of the driver ring sends in a slower way from now on.
    pub(super) fn note_giving_up(&mut self, counters: &Counters) {
        let before = std::mem::replace(&mut self.gave_up, counters.gave_up.get());
        if self.gave_up > before {
            warn!(
                "{}: a tx queue took nothing from AF_XDP; what waited there counts as not sent, and its worker sends by packet sockets until the interface was down",
                self.ground.name()
            );
        }
    }
}
