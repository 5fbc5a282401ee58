//! The decision: which service a packet is for, and which backend serves its client.

pub mod acl;
pub mod flow;
pub mod fragment;
pub mod limit;
pub mod maglev;
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
#[derive(Clone, Copy, Debug)]
pub struct ClientHash {
    seed: Seed,
    hasher: SipHasher13,
    with_port: bool,
}

impl PartialEq for ClientHash {
    fn eq(&self, other: &ClientHash) -> bool {
        (self.seed, self.with_port) == (other.seed, other.with_port)
    }
}

impl ClientHash {
    /// A hash keyed by `seed`; `with_port` takes the client's port in (`-r`).
    pub fn new(seed: Seed, with_port: bool) -> ClientHash {
        let (k0, k1) = seed.keys();
        ClientHash { seed, hasher: SipHasher13::new_with_keys(k0, k1), with_port }
    }

    /// Does the client's port take part?
    pub fn with_port(&self) -> bool {
        self.with_port
    }

    /// The hash of a client.
    #[inline]
    pub fn of(&self, client: IpAddr, port: u16) -> u64 {
        let mut bytes = [0u8; 18];
        let length = match client {
            IpAddr::V4(address) => {
                bytes[..4].copy_from_slice(&address.octets());
                4
            }
            IpAddr::V6(address) => {
                bytes[..16].copy_from_slice(&address.octets());
                16
            }
        };
        let length = if self.with_port {
            bytes[length..length + 2].copy_from_slice(&port.to_be_bytes());
            length + 2
        } else {
            length
        };
        self.hasher.hash(&bytes[..length])
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
    }

    #[test]
    fn seeds_are_hexadecimal() {
        assert_eq!("ff".parse(), Ok(Seed(255)));
        for bad in ["", "xyz", "+1", "123456789012345678901234567890123"] {
            assert_eq!(bad.parse::<Seed>(), Err(BadSeed), "{bad}");
        }
    }
}
