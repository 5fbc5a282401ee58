//! Keeping the host's own view of the VIPs out: netmap(4) needs no help for that, and bpf(4) has none.

use std::io;

use crate::config::VipConfig;
use crate::os::Wanted;

/// Keeping the host's stack from the VIPs' frames: bpf cannot.
pub struct IngressDrop;

impl IngressDrop {
    /// Always refused.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`].
    pub fn install(_interface: &str, _vips: &[VipConfig], _wanted: &Wanted) -> io::Result<IngressDrop> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "bpf(4) leaves every frame to the host, too"))
    }
}
