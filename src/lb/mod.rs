//! The decision: which service a packet is for, and which backend serves its client.

pub mod acl;
pub mod flow;
pub mod fragment;
pub mod limit;
pub mod maglev;
mod sip;
pub mod tables;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use siphasher::sip::SipHasher13;

pub use tables::{Backend, Choice, Generation, Protocols, Service, Settings, Tables, TarpitList, Vip};

/// The key of every hash: balancers with the same seed and the same backends make the same choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seed(pub u128);

impl Seed {
    /// The two halves of the SipHash key.
    pub fn keys(self) -> (u64, u64) {
        ((self.0 >> 64) as u64, self.0 as u64)
    }
}

/// Who reads a log or an answer should not learn the seed: a short number that stands for it.
impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        let (k0, k1) = self.keys();
        write!(f, "#{:08x}", SipHasher13::new_with_keys(k0, k1).hash(b"fingerprint") as u32)
    }
}

/// The text is not a seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSeed;

impl fmt::Display for BadSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a seed: up to 32 hexadecimal digits, the same on every balancer (openssl rand -hex 16)")
    }
}

impl std::error::Error for BadSeed {}

impl FromStr for Seed {
    type Err = BadSeed;

    fn from_str(text: &str) -> Result<Seed, BadSeed> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadSeed);
        }
        u128::from_str_radix(text, 16).map(Seed).map_err(|_| BadSeed)
    }
}

/// Hashes clients: SipHash-1-3 of the address in network order (4 or 16 bytes), followed by the port in network order
/// (2 bytes) if that takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientHash {
    seed: Seed,
    with_port: bool,
}

impl ClientHash {
    /// A hash keyed by `seed`; `with_port` takes the client's port in (`-r`).
    pub fn new(seed: Seed, with_port: bool) -> ClientHash {
        ClientHash { seed, with_port }
    }

    /// The seed.
    pub fn seed(&self) -> Seed {
        self.seed
    }

    /// Does the client's port take part?
    pub fn with_port(&self) -> bool {
        self.with_port
    }

    /// The hash of a client.
    #[inline]
    pub fn of(&self, client: IpAddr, port: u16) -> u64 {
        let key = self.seed.keys();
        let port = u64::from(port.swap_bytes());
        match client {
            IpAddr::V4(address) => {
                let address = u64::from(u32::from_le_bytes(address.octets()));
                if self.with_port {
                    sip::hash(key, [], port << 32 | address, 6)
                } else {
                    sip::hash(key, [], address, 4)
                }
            }
            IpAddr::V6(address) => {
                let address = u128::from_le_bytes(address.octets());
                let words = [address as u64, (address >> 64) as u64];
                if self.with_port { sip::hash(key, words, port, 2) } else { sip::hash(key, words, 0, 0) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_counts_only_when_asked() {
        let client: IpAddr = "192.0.2.1".parse().unwrap();
        let plain = ClientHash::new(Seed(7), false);
        assert_eq!(plain.of(client, 1), plain.of(client, 2));
        let with_port = ClientHash::new(Seed(7), true);
        assert_ne!(with_port.of(client, 1), with_port.of(client, 2));
        assert_ne!(plain.of(client, 1), ClientHash::new(Seed(8), false).of(client, 1));
    }

    #[test]
    fn it_is_siphash_1_3_of_the_address_bytes() {
        let hash = ClientHash::new(Seed(0x0706050403020100_0f0e0d0c0b0a0908), true);
        let reference = SipHasher13::new_with_keys(0x0706050403020100, 0x0f0e0d0c0b0a0908);
        assert_eq!(hash.of("1.2.3.4".parse().unwrap(), 0x0506), reference.hash(&[1, 2, 3, 4, 5, 6]));
        let bytes: [u8; 18] = std::array::from_fn(|n| n as u8 + 1);
        let v6 = |length: usize| reference.hash(&bytes[..length]);
        let address = "102:304:506:708:90a:b0c:d0e:f10".parse().unwrap();
        assert_eq!(hash.of(address, 0x1112), v6(18));
        let plain = ClientHash { with_port: false, ..hash };
        assert_eq!(plain.of(address, 0x1112), v6(16));
        assert_eq!(plain.of("1.2.3.4".parse().unwrap(), 0x0506), v6(4));
    }

    #[test]
    fn seeds_are_hexadecimal() {
        assert_eq!("ff".parse(), Ok(Seed(255)));
        for bad in ["", "xyz", "+1", "123456789012345678901234567890123"] {
            assert_eq!(bad.parse::<Seed>(), Err(BadSeed), "{bad}");
        }
    }
}
