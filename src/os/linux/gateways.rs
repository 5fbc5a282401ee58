//! The routers that this host sends to.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The gateways of all routes of this network namespace, each once (`/proc/net/route`, `/proc/net/ipv6_route`).
pub fn gateways() -> Vec<IpAddr> {
    let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
    let all = v4.lines().skip(1).filter_map(gateway_v4).chain(v6.lines().filter_map(gateway_v6));
    let mut gateways: Vec<IpAddr> = Vec::new();
    for gateway in all.filter(|gateway| !gateway.is_unspecified()) {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

/// The third column, as this machine holds it in memory.
fn gateway_v4(line: &str) -> Option<IpAddr> {
    let word = line.split_whitespace().nth(2)?;
    let bits = u32::from_str_radix(word, 16).ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(bits.to_ne_bytes())))
}

/// The fifth column.
fn gateway_v6(line: &str) -> Option<IpAddr> {
    let word = line.split_whitespace().nth(4)?;
    Some(IpAddr::V6(Ipv6Addr::from_bits(u128::from_str_radix(word, 16).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_their_gateways() {
        let line = "eth0\t00000000\tFE00000A\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        if cfg!(target_endian = "little") {
            assert_eq!(gateway_v4(line), Some("10.0.0.254".parse().unwrap()));
        }
        let line = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fd0000000000000000000000000000fe 00000400 00000001 00000000 00000003 eth0";
        assert_eq!(gateway_v6(line), Some("fd00::fe".parse().unwrap()));
        assert_eq!(gateway_v4("nothing"), None);
    }
}
