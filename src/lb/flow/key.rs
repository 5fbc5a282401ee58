//! What makes packets one flow.

use std::net::IpAddr;

use crate::lb::sip;

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
    /// the client's port, the VIP's port and the protocol.
    #[inline(always)]
    pub(super) fn tag(&self, key: (u64, u64)) -> Tag {
        let ports = u64::from(self.client_port) << 32 | u64::from(self.vip_port) << 16 | u64::from(self.protocol);
        let hash = match (self.client, self.vip) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                sip::hash(key, [u64::from(client.to_bits()) << 32 | u64::from(vip.to_bits()), ports], 0, 0)
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let (client, vip) = (client.to_bits(), vip.to_bits());
                let words = [(client >> 64) as u64, client as u64, (vip >> 64) as u64, vip as u64, ports];
                sip::hash(key, words, 0, 0)
            }
            // No packet has addresses of two families.
            _ => sip::hash(key, [], 0, 0),
        };
        Tag(hash.max(1))
    }
}

#[cfg(test)]
mod tests {
    use siphasher::sip::SipHasher13;

    use super::*;

    #[test]
    fn tags_are_what_files_and_other_balancers_know() {
        let flow = |client: &str, vip: &str| Flow {
            client: client.parse().unwrap(),
            client_port: 0x0102,
            vip: vip.parse().unwrap(),
            vip_port: 0x0304,
            protocol: 6,
        };
        let reference = |words: &[u64]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            Tag(SipHasher13::new_with_keys(3, 4).hash(&bytes))
        };
        let ports = 0x0102_0304_0006;
        assert_eq!(flow("1.2.3.4", "5.6.7.8").tag((3, 4)), reference(&[0x0102_0304_0506_0708, ports]));
        let v6 = [0x0001_0002_0003_0004, 0x0005_0006_0007_0008, 0x000a_0000_0000_0000, 0x000b, ports];
        assert_eq!(flow("1:2:3:4:5:6:7:8", "a::b").tag((3, 4)), reference(&v6));
    }
}
