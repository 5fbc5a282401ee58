//! Linux: packet(7) sockets, nftables, capabilities(7).

mod filter;
mod gateways;
mod ingress;
mod membership;
mod privileges;
mod socket;
mod waiter;

/// What to do when packet sockets are refused.
pub const PERMISSION_REMEDY: &str =
    "packet sockets need CAP_NET_RAW and CAP_NET_ADMIN: run it as root, or setcap cap_net_raw,cap_net_admin+ep pen-dsr";

pub use gateways::gateways;
pub use ingress::IngressDrop;
pub use membership::Memberships;
pub use privileges::drop_privileges;
pub use socket::{
    AsideReceiver, FRAME_PREFIX, FilterControl, PacketSockets, READ_TIMEOUT, open_packet_sockets, prepare_send,
};
pub use waiter::Waiter;
