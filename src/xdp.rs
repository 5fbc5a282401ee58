//! Direct Server Return in the kernel (XDP): what the program there is told, and what it tells.
//!
//! `src/bpf/dsr.bpf.c` is the program. It decides by an image of the same [`Tables`](crate::lb::Tables) as the engine, and
//! passes on what takes more than that, which reaches the engine by packet sockets.

pub mod image;
pub mod kernel;
pub mod layout;

use std::path::Path;

use crate::config::XdpMode;

/// Where the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the NIC's driver.
    Native,
    /// Behind it.
    Generic,
}

impl Attached {
    /// The word in options, logs and the names of what is pinned.
    pub fn name(self) -> &'static str {
        match self {
            Attached::Native => "native",
            Attached::Generic => "generic",
        }
    }
}

/// The modes to be tried for `interface`, the best first. In the NIC's driver a program is before all that the kernel makes
/// of frames, and so is much faster; but a virtual interface loses by that what lets it pass on large segments whole.
pub fn modes(mode: XdpMode, is_real: bool) -> &'static [Attached] {
    match mode {
        XdpMode::Native => &[Attached::Native],
        XdpMode::Generic => &[Attached::Generic],
        XdpMode::Auto if is_real => &[Attached::Native, Attached::Generic],
        XdpMode::Auto => &[Attached::Generic],
    }
}

/// Where the program stays when the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Pin<'a> {
    /// A folder of a BPF file system.
    pub folder: &'a Path,
    /// Stands for what names the flows.
    pub key: u64,
    /// Do numbers of backends mean what they meant to the process before this one?
    pub keeps: bool,
}

/// What the program does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// No further (XDP_DROP).
    Drop,
    /// To the host, and to the engine (XDP_PASS).
    Pass,
    /// Back to the wire (XDP_TX).
    Transmit,
    /// None of its own.
    Other(u32),
}

impl Action {
    /// That of the number that the program returns.
    pub fn from_number(number: u32) -> Action {
        match number {
            1 => Action::Drop,
            2 => Action::Pass,
            3 => Action::Transmit,
            other => Action::Other(other),
        }
    }
}
