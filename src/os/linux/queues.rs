//! How many queues an interface receives and sends by: `ETHTOOL_GCHANNELS` (linux/ethtool.h). Not from /sys, which shows the network
//! namespace of whoever mounted it.

use std::io;
use std::os::fd::AsFd;

use super::offloads::{Request, ethtool};
use crate::os::ifname::IfName;
use crate::os::setup::request_socket;

const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ethtool_channels`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    most_rx: u32,
    most_tx: u32,
    most_other: u32,
    most_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

// SAFETY: of fixed size.
unsafe impl Request for Channels {}

/// The queues that `interface` receives by; 1 if its driver does not say.
pub fn receive_queues(interface: &str) -> usize {
    channels(interface).map_or(1, |channels| at_least_one(channels.rx, channels.combined))
}

/// The queues that `interface` sends by; 1 if its driver does not say.
pub(super) fn transmit_queues(interface: &str) -> usize {
    channels(interface).map_or(1, |channels| at_least_one(channels.tx, channels.combined))
}

fn at_least_one(own: u32, combined: u32) -> usize {
    (own.saturating_add(combined) as usize).max(1)
}

fn channels(interface: &str) -> io::Result<Channels> {
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    ethtool(request_socket()?.as_fd(), IfName::new(interface)?, &mut channels)?;
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_say_has_one() {
        for name in ["lo", "no-such0"] {
            assert_eq!((receive_queues(name), transmit_queues(name)), (1, 1));
        }
    }
}
