//! Networks: an address and a prefix.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network {
    /// The address; the bits behind the prefix are zero.
    pub address: IpAddr,
    /// 0 to 32, or to 128.
    pub prefix: u8,
}

/// No network: a prefix longer than the address, or text that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPrefix;

impl fmt::Display for BadPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a network: an address, or ADDRESS/PREFIX with a prefix of 0 to 32 for IPv4, to 128 for IPv6")
    }
}

impl std::error::Error for BadPrefix {}

impl Network {
    /// The network of `address` whose first `prefix` bits count; the others become zero.
    ///
    /// # Errors
    /// A prefix longer than the address.
    pub fn new(address: IpAddr, prefix: u8) -> Result<Network, BadPrefix> {
        let address = match address {
            IpAddr::V4(a) if prefix <= 32 => IpAddr::V4(Ipv4Addr::from_bits(a.to_bits() & !hosts_v4(prefix))),
            IpAddr::V6(a) if prefix <= 128 => IpAddr::V6(Ipv6Addr::from_bits(a.to_bits() & !hosts_v6(prefix))),
            _ => return Err(BadPrefix),
        };
        Ok(Network { address, prefix })
    }

    /// Just this address.
    pub fn host(address: IpAddr) -> Network {
        Network { address, prefix: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Is `address` in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(a) => self.range_v4().is_some_and(|(first, last)| (first..=last).contains(&a.to_bits())),
            IpAddr::V6(a) => self.range_v6().is_some_and(|(first, last)| (first..=last).contains(&a.to_bits())),
        }
    }

    /// Its first address.
    pub fn first(&self) -> IpAddr {
        self.ends().0
    }

    /// Its last address.
    pub fn last(&self) -> IpAddr {
        self.ends().1
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        match (self.range_v4(), self.range_v6()) {
            (Some((a, b)), _) => (IpAddr::V4(Ipv4Addr::from_bits(a)), IpAddr::V4(Ipv4Addr::from_bits(b))),
            (_, Some((a, b))) => (IpAddr::V6(Ipv6Addr::from_bits(a)), IpAddr::V6(Ipv6Addr::from_bits(b))),
            _ => (self.address, self.address),
        }
    }

    /// First and last address as numbers; `None` for the other family.
    pub(super) fn range_v4(&self) -> Option<(u32, u32)> {
        let IpAddr::V4(address) = self.address else { return None };
        let hosts = hosts_v4(self.prefix);
        Some((address.to_bits() & !hosts, address.to_bits() | hosts))
    }

    /// First and last address as numbers; `None` for the other family.
    pub(super) fn range_v6(&self) -> Option<(u128, u128)> {
        let IpAddr::V6(address) = self.address else { return None };
        let hosts = hosts_v6(self.prefix);
        Some((address.to_bits() & !hosts, address.to_bits() | hosts))
    }
}

/// The bits behind a prefix.
fn hosts_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

/// The bits behind a prefix.
fn hosts_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = BadPrefix;

    /// `ADDRESS/PREFIX`, or an address alone, which is a network of one.
    fn from_str(text: &str) -> Result<Network, BadPrefix> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| BadPrefix)?;
        match prefix {
            None => Ok(Network::host(address)),
            Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
                Network::new(address, digits.parse().map_err(|_| BadPrefix)?)
            }
            Some(_) => Err(BadPrefix),
        }
    }
}

/// Adds the networks that hold exactly the addresses from `first` to `last`: at most 62.
pub(super) fn cover_v4(first: u32, last: u32, networks: &mut Vec<Network>) {
    let narrow = |network: (u128, u8)| Network {
        address: IpAddr::V4(Ipv4Addr::from_bits(network.0 as u32)),
        prefix: network.1.saturating_sub(96),
    };
    networks.extend(cover(u128::from(first), u128::from(last)).map(narrow));
}

/// Adds the networks that hold exactly the addresses from `first` to `last`: at most 254.
pub(super) fn cover_v6(first: u128, last: u128, networks: &mut Vec<Network>) {
    let network = |(address, prefix)| Network { address: IpAddr::V6(Ipv6Addr::from_bits(address)), prefix };
    networks.extend(cover(first, last).map(network));
}

/// The same on numbers of 128 bits: each network as large as its alignment and what is left allow.
fn cover(first: u128, last: u128) -> impl Iterator<Item = (u128, u8)> {
    let mut next = (first <= last).then_some(first);
    std::iter::from_fn(move || {
        let at = next?;
        let mut bits = at.trailing_zeros();
        let end = |bits: u32| at | u128::MAX.checked_shr(128 - bits).unwrap_or(0);
        while end(bits) > last {
            bits -= 1;
        }
        next = end(bits).checked_add(1).filter(|&at| at <= last);
        Some((at, (128 - bits) as u8))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_behind_the_prefix_are_masked() {
        for (text, shown) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3/0", "0.0.0.0/0"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("fd00::1:2/112", "fd00::1:0/112"),
            ("fd00::1/0", "::/0"),
            ("fd00::1", "fd00::1/128"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn bad_text_and_prefixes_are_refused() {
        for bad in ["", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/256", "be1"] {
            assert_eq!(bad.parse::<Network>(), Err(BadPrefix), "{bad}");
        }
        assert_eq!(Network::new("10.0.0.0".parse().unwrap(), 64), Err(BadPrefix));
    }

    #[test]
    fn contains_its_ends_and_nothing_beside_them() {
        let network: Network = "10.0.0.32/27".parse().unwrap();
        assert_eq!((network.first().to_string(), network.last().to_string()), ("10.0.0.32".into(), "10.0.0.63".into()));
        for (address, within) in [("10.0.0.31", false), ("10.0.0.32", true), ("10.0.0.63", true), ("10.0.0.64", false)]
        {
            assert_eq!(network.contains(address.parse().unwrap()), within, "{address}");
        }
        assert!(!network.contains("::10.0.0.32".parse().unwrap()));
        // Made by hand, with bits behind the prefix.
        let loose = Network { address: "10.0.0.40".parse().unwrap(), prefix: 27 };
        assert!(loose.contains("10.0.0.32".parse().unwrap()));
    }

    #[test]
    fn a_cover_is_exact_up_to_the_last_address() {
        assert_eq!(cover(0, u128::MAX).collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(cover(1, u128::MAX).count(), 128);
        assert_eq!(cover(5, 4).count(), 0);
        assert_eq!(cover(32, 255).collect::<Vec<_>>(), [(32, 123), (64, 122), (128, 121)]);
    }
}
