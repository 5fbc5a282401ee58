//! Whether a rule looks for packets that belong to a transparent socket: nftables' `socket transparent`, or the same by
//! iptables-nft (`-m socket`). What the rule does then is not looked at.

use std::io;

use nix::sys::socket::SockProtocol;

use crate::os::system::netlink::{Netlink, attributes, find};

const NFT_MSG_GETRULE: u16 = 10 << 8 | 7;
const NFTA_RULE_EXPRESSIONS: u16 = 4;
const NFTA_EXPR_NAME: u16 = 1;
const NFTA_EXPR_DATA: u16 = 2;
const NFTA_META_KEY: u16 = 2;
const NFTA_CMP_DATA: u16 = 3;
/// NFTA_SOCKET_KEY, NFTA_MATCH_NAME, NFTA_DATA_VALUE.
const FIRST: u16 = 1;
const NFT_SOCKET_TRANSPARENT: u32 = 0;
const NFT_META_NFPROTO: u32 = 15;
/// `struct nfgenmsg`.
const HEADER: usize = 4;
/// Families of tables: both kinds of IP, IPv4, IPv6.
const INET: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// Who looks for transparent sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SocketMarks {
    v4: bool,
    v6: bool,
    /// There are rules of the older iptables, too, which cannot be read here.
    pub(super) older: bool,
}

impl SocketMarks {
    pub(super) fn in_family(&self, ipv4: bool) -> bool {
        if ipv4 { self.v4 } else { self.v6 }
    }
}

/// Looks through all rules of this network namespace.
///
/// # Errors
/// Not permitted (it takes CAP_NET_ADMIN).
pub(super) fn socket_marks() -> io::Result<SocketMarks> {
    let mut found = SocketMarks { older: older_mangle(), ..SocketMarks::default() };
    let rules = match Netlink::open(SockProtocol::NetlinkNetFilter)?.list(NFT_MSG_GETRULE, &[0; HEADER]) {
        Ok(rules) => rules,
        // A kernel without nftables has none.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL)) => Vec::new(),
        Err(e) => return Err(e),
    };
    for rule in rules {
        let Some((header, rest)) = rule.split_first_chunk::<HEADER>() else { continue };
        if let Some(only) = looks_for_sockets(rest) {
            let family = only.unwrap_or(header[0]);
            found.v4 |= matches!(family, INET | IPV4);
            found.v6 |= matches!(family, INET | IPV6);
        }
    }
    Ok(found)
}

/// If the rule looks for transparent sockets: the family that it is for alone, if it says one.
fn looks_for_sockets(rule: &[u8]) -> Option<Option<u8>> {
    let (mut sockets, mut family, mut family_next) = (false, None, false);
    for (_, expression) in attributes(find(rule, NFTA_RULE_EXPRESSIONS)?) {
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        let of_family = std::mem::take(&mut family_next);
        match find(expression, NFTA_EXPR_NAME)? {
            b"socket\0" => sockets |= find(data, FIRST).and_then(big_endian) == Some(NFT_SOCKET_TRANSPARENT),
            b"match\0" => sockets |= find(data, FIRST).is_some_and(|name| name.starts_with(b"socket\0")),
            b"meta\0" => family_next = find(data, NFTA_META_KEY).and_then(big_endian) == Some(NFT_META_NFPROTO),
            b"cmp\0" if of_family => {
                family =
                    find(data, NFTA_CMP_DATA).and_then(|value| find(value, FIRST)).and_then(<[u8]>::first).copied();
            }
            _ => {}
        }
    }
    sockets.then_some(family)
}

fn big_endian(value: &[u8]) -> Option<u32> {
    value.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Has the older iptables rules in its mangle table?
fn older_mangle() -> bool {
    ["/proc/thread-self/net/ip_tables_names", "/proc/thread-self/net/ip6_tables_names"]
        .iter()
        .any(|path| std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == "mangle")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::system::netlink::attribute;

    fn nest(kind: u16, inner: &[u8]) -> Vec<u8> {
        let mut outer = Vec::new();
        attribute(&mut outer, kind, inner);
        outer
    }

    fn expression(name: &[u8], kind: u16, value: &[u8]) -> Vec<u8> {
        nest(1, &[nest(NFTA_EXPR_NAME, name), nest(NFTA_EXPR_DATA, &nest(kind, value))].concat())
    }

    fn rule(expressions: &[Vec<u8>]) -> Vec<u8> {
        nest(NFTA_RULE_EXPRESSIONS, &expressions.concat())
    }

    #[test]
    fn a_rule_that_looks_for_transparent_sockets_is_told_from_others() {
        let one = |name: &[u8], value: &[u8]| looks_for_sockets(&rule(&[expression(name, FIRST, value)]));
        assert_eq!(one(b"socket\0", &0u32.to_be_bytes()), Some(None));
        assert_eq!(one(b"match\0", b"socket\0"), Some(None));
        assert_eq!(one(b"socket\0", &1u32.to_be_bytes()), None); // socket mark
        assert_eq!(one(b"match\0", b"tcp\0"), None);
        assert_eq!(one(b"meta\0", &0u32.to_be_bytes()), None);
        assert_eq!(looks_for_sockets(&[]), None);
    }

    #[test]
    fn a_rule_for_one_family_is_not_taken_for_the_other() {
        let family = |family: u8| {
            let key = expression(b"meta\0", NFTA_META_KEY, &NFT_META_NFPROTO.to_be_bytes());
            let compared = expression(b"cmp\0", NFTA_CMP_DATA, &nest(FIRST, &[family]));
            looks_for_sockets(&rule(&[key, compared, expression(b"socket\0", FIRST, &[0; 4])]))
        };
        assert_eq!(family(IPV4), Some(Some(IPV4)));
        assert_eq!(family(IPV6), Some(Some(IPV6)));
    }
}
