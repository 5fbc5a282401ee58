//! FreeBSD: netmap(4), bpf(4) through pnet, capsicum(4).

mod acks;
mod affinity;
mod compat;
pub(super) mod detach;
mod gateways;
mod ingress;
pub(super) mod link;
pub(super) mod local_address;
mod membership;
pub(super) mod offloads;
mod packet;
mod peer;
mod privileges;
mod ring;
mod sandbox;
pub(super) mod setup_lock;
mod stream;
mod transparent;
mod xdp;

/// The command that brings an interface up, and has it take all frames if that is wanted.
pub fn up_remedy(interface: &str, promiscuous: bool) -> String {
    format!("ifconfig {interface} up{}", if promiscuous { " promisc" } else { "" })
}

/// How unfinished checksums are avoided.
pub const CHECKSUM_REMEDY: &str = "set hw.vtnet.csum_disable=1 in /boot/loader.conf of this machine if it is virtual, and \
                                   ifconfig IF -txcsum -txcsum6 where they come from";

/// What to do when packet sockets are refused.
pub const PERMISSION_REMEDY: &str =
    "bpf(4) devices have to be readable and writable: run it as root, or give its user a devfs rule for bpf*";

pub use acks::{acknowledge, join_acks_with_answers, join_handshake_with_data};
pub use affinity::pin_thread;
pub use gateways::gateways;
pub use ingress::IngressDrop;
pub use link::link_state;
pub use membership::Memberships;
pub use offloads::active_offloads;
pub use packet::{
    AsideReceiver, FRAME_PREFIX, FilterControl, PacketSockets, READ_TIMEOUT, Waiter, open_packet_sockets, prepare_send,
};
pub use peer::peer_user;
pub use privileges::{KEEPS_CAPABILITIES, drop_privileges};
pub use ring::{OpenRing, RingSocket, open_rings, receive_queues};
pub use sandbox::limit_netmap;
pub use stream::{Pipe, SHORT_READ_IS_ALL, STREAM_INTEREST, share_port, unacknowledged};
pub use transparent::{bind_foreign, return_path};
pub use xdp::{KernelFlows, Program, Walk, has_hardware, has_program};
