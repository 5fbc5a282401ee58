//! Linux: packet(7) sockets, nftables, ethtool's offloads, capabilities(7).

mod acks;
mod affinity;
pub(super) mod detach;
mod filter;
mod gateways;
mod ingress;
pub(super) mod link;
pub(super) mod local_address;
mod membership;
mod netlink;
pub(super) mod offloads;
mod option;
mod peer;
mod privileges;
mod queues;
mod ring;
mod sandbox;
pub(super) mod setup_lock;
mod socket;
mod stream;
mod transparent;
mod waiter;
mod xdp;
mod xsk;

/// The command that brings an interface up, and has it take all frames if that is wanted.
pub fn up_remedy(interface: &str, promiscuous: bool) -> String {
    format!("ip link set {interface} up{}", if promiscuous { " promisc on" } else { "" })
}

/// How unfinished checksums are avoided.
pub const CHECKSUM_REMEDY: &str = "switch tx checksum offload off where they come from (ethtool -K IF tx off there)";

/// What to do when packet sockets are refused.
pub const PERMISSION_REMEDY: &str =
    "packet sockets need CAP_NET_RAW and CAP_NET_ADMIN: run it as root, or setcap cap_net_raw,cap_net_admin+ep pen-dsr";

pub use acks::{acknowledge, join_acks_with_answers, join_handshake_with_data};
pub use affinity::pin_thread;
pub use gateways::gateways;
pub use ingress::IngressDrop;
pub use link::link_state;
pub use membership::Memberships;
pub use offloads::{active_offloads, has_hardware};
pub use peer::peer_user;
pub use privileges::{KEEPS_CAPABILITIES, drop_privileges};
pub use queues::receive_queues;
pub use ring::{OpenRing, RingSocket, open_rings};
pub use sandbox::limit_netmap;
pub use socket::{
    AsideReceiver, FRAME_PREFIX, FilterControl, PacketSockets, READ_TIMEOUT, open_packet_sockets, prepare_send,
};
pub use stream::{Pipe, SHORT_READ_IS_ALL, STREAM_INTEREST, share_port, unacknowledged};
pub use transparent::{bind_foreign, return_path};
pub use waiter::Waiter;
pub use xdp::{KernelFlows, Program, Walk, has_program};
