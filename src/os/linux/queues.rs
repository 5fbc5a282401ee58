//! How many queues an interface receives by: `ETHTOOL_GCHANNELS` (linux/ethtool.h). Not from /sys, which shows the network
//! namespace of whoever mounted it.

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
    let mut channels = Channels { cmd: ETHTOOL_GCHANNELS, ..Channels::default() };
    let asked =
        request_socket().and_then(|socket| Ok(ethtool(socket.as_fd(), IfName::new(interface)?, &mut channels)?));
    match asked {
        Ok(()) => (channels.rx.saturating_add(channels.combined) as usize).max(1),
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_that_does_not_say_has_one() {
        assert_eq!(receive_queues("lo"), 1);
        assert_eq!(receive_queues("no-such0"), 1);
    }
}
