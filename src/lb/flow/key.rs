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
    /// SipHash-1-3 of words of eight bytes, little-endian: for IPv4 client and VIP in one; for IPv6 two for each; then
    /// the client's port, the VIP's port and the protocol. Whole words, as bytes that are put together from parts have to
    /// leave the processor's store buffer before they can be read as words.
    #[inline]
    pub(super) fn tag(&self, (k0, k1): (u64, u64)) -> Tag {
        let hasher = SipHasher13::new_with_keys(k0, k1);
        let ports = u64::from(self.client_port) << 32 | u64::from(self.vip_port) << 16 | u64::from(self.protocol);
        let mut bytes = [0u8; 40];
        let mut put = |n: usize, word: u64| bytes[8 * n..8 * n + 8].copy_from_slice(&word.to_le_bytes());
        let hash = match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                put(0, u64::from(client.to_bits()) << 32 | u64::from(vip.to_bits()));
                put(1, ports);
                hasher.hash(&bytes[..16])
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let (client, vip) = (client.to_bits(), vip.to_bits());
                put(0, (client >> 64) as u64);
                put(1, client as u64);
                put(2, (vip >> 64) as u64);
                put(3, vip as u64);
                put(4, ports);
                hasher.hash(&bytes)
            }
            // No packet has addresses of two families.
            _ => hasher.hash(&[]),
        };
        Tag(hash.max(1))
    }
}
