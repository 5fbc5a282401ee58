//! What makes packets one flow.

use std::net::IpAddr;

use siphasher::sip::SipHasher13;

/// The five-tuple of a flow, from the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// The client's address.
    pub client: IpAddr,
    /// Its port.
    pub client_port: u16,
    /// The virtual address.
    pub vip: IpAddr,
    /// The port there.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
}

/// The name of a flow in a flow table: a keyed hash, never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub(super) u64);

impl Tag {
    /// As it goes over the wire.
    pub(crate) fn number(self) -> u64 {
        self.0
    }

    /// Back from there; 0 is nobody's.
    pub(crate) fn from_number(number: u64) -> Option<Tag> {
        (number != 0).then_some(Tag(number))
    }
}

impl Flow {
    /// SipHash-1-3 of client, VIP, client's port, VIP's port (network order) and protocol.
    #[inline]
    pub(super) fn tag(&self, (k0, k1): (u64, u64)) -> Tag {
        let mut bytes = [0u8; 37];
        let addresses = match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                bytes[..4].copy_from_slice(&client.octets());
                bytes[4..8].copy_from_slice(&vip.octets());
                8
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                bytes[..16].copy_from_slice(&client.octets());
                bytes[16..32].copy_from_slice(&vip.octets());
                32
            }
            // No packet has addresses of two families.
            _ => 0,
        };
        bytes[addresses..addresses + 2].copy_from_slice(&self.client_port.to_be_bytes());
        bytes[addresses + 2..addresses + 4].copy_from_slice(&self.vip_port.to_be_bytes());
        bytes[addresses + 4] = self.protocol;
        let hash = SipHasher13::new_with_keys(k0, k1).hash(&bytes[..addresses + 5]);
        Tag(hash.max(1))
    }
}
