//! Rules of access lists, as they are written in the file and in commands (Pen's grammar, and prefixes for IPv4).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::failure::Failure;
use crate::lb::acl::{Acl, Action, Network, Rule};

const SYNTAX: &str = "write permit or deny, then all, ADDRESS, ADDRESS/PREFIX, or an IPv4 ADDRESS and its MASK";

/// Everybody: two rules, one for each family.
const ALL: [Network; 2] = [
    Network { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix: 0 },
    Network { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), prefix: 0 },
];

/// `permit|deny all | ADDRESS | ADDRESS/PREFIX | IPV4 MASK`; `all` is two rules, any other text is one.
///
/// # Errors
/// Usage: what is wrong with the text, and how it should be.
pub fn parse_rules(text: &str) -> Result<Vec<Rule>, Failure> {
    let bad = |what: String| Failure::usage(format!("rule {text:?}: {what}; {SYNTAX}"));
    let words: Vec<&str> = text.split_whitespace().collect();
    let (action, whom) = match words.split_first() {
        Some((&"permit", whom)) => (Action::Permit, whom),
        Some((&"deny", whom)) => (Action::Deny, whom),
        Some((other, _)) => return Err(bad(format!("{other:?} is neither permit nor deny"))),
        None => return Err(bad("it is empty".to_owned())),
    };
    let networks = match whom {
        [] => return Err(bad("nobody is named".to_owned())),
        ["all"] => ALL.to_vec(),
        ["country", ..] => {
            return Err(bad("countries are not known here, name their networks".to_owned()));
        }
        [network] => vec![network_with_prefix(network).map_err(bad)?],
        [address, mask] => vec![network_with_mask(address, mask).map_err(bad)?],
        [_, _, rest, ..] => return Err(bad(format!("{rest:?} is too much"))),
    };
    Ok(networks.into_iter().map(|network| Rule { action, network }).collect())
}

impl FromStr for Rule {
    type Err = Failure;

    /// As [`parse_rules`], but for `all`, which is no single rule.
    fn from_str(text: &str) -> Result<Rule, Failure> {
        match parse_rules(text)?.as_slice() {
            [rule] => Ok(*rule),
            _ => Err(Failure::usage(format!("rule {text:?} is one for each family: write 0.0.0.0/0 or ::/0"))),
        }
    }
}

/// What [`parse_rules`] reads as the rules of `acl`.
pub fn render_rules(acl: &Acl) -> Vec<String> {
    let mut texts = Vec::new();
    let mut rest = acl.rules();
    while let Some((rule, behind)) = rest.split_first() {
        rest = behind;
        if let Some((other, behind)) = behind.split_first()
            && rule.action == other.action
            && [rule.network, other.network] == ALL
        {
            texts.push(format!("{} all", rule.action));
            rest = behind;
        } else if rule.network == Network::host(rule.network.address) {
            texts.push(format!("{} {}", rule.action, rule.network.address));
        } else {
            texts.push(rule.to_string());
        }
    }
    texts
}

/// `ADDRESS`, or `ADDRESS/PREFIX` of a network.
///
/// # Errors
/// It is none, or one host of a network.
pub fn parse_network(text: &str) -> Result<Network, String> {
    network_with_prefix(text)
}

/// What [`parse_network`] reads.
pub(crate) fn network_word(network: &Network) -> String {
    if *network == Network::host(network.address) { network.address.to_string() } else { network.to_string() }
}

fn network_with_prefix(text: &str) -> Result<Network, String> {
    let network: Network = text.parse().map_err(|e| format!("{text:?} is {e}"))?;
    let address = text.split('/').next().unwrap_or_default();
    only_network_bits(address, network)
}

fn network_with_mask(address: &str, mask: &str) -> Result<Network, String> {
    let host: Ipv4Addr = address
        .parse()
        .map_err(|_| format!("{address:?} is not an IPv4 address, and only those have masks: IPv6 has prefixes"))?;
    let bits = mask.parse::<Ipv4Addr>().map_err(|_| format!("{mask:?} is not a mask, as 255.255.255.0 is"))?.to_bits();
    if bits.leading_ones() + bits.trailing_zeros() < u32::BITS {
        return Err(format!("the mask {mask} has a gap: its ones have to stand before its zeros, as in 255.255.255.0"));
    }
    let network = Network::new(IpAddr::V4(host), bits.leading_ones() as u8).map_err(|e| e.to_string())?;
    only_network_bits(address, network)
}

/// Refuses 10.0.0.5/8, where either the 5 or the 8 is a slip.
fn only_network_bits(address: &str, network: Network) -> Result<Network, String> {
    match address.parse::<IpAddr>() {
        Ok(address) if address != network.address => Err(format!(
            "{address} is one host of the network {network}: write that for the network, or {address} alone for the host"
        )),
        _ => Ok(network),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_it_says() {
        for (text, expected) in [
            ("permit 10.0.0.0/8", "permit 10.0.0.0/8"),
            ("deny 10.0.0.1", "deny 10.0.0.1/32"),
            ("permit 10.0.0.0 255.255.255.0", "permit 10.0.0.0/24"),
            ("permit 10.0.0.1 255.255.255.255", "permit 10.0.0.1/32"),
            ("permit 0.0.0.0 0.0.0.0", "permit 0.0.0.0/0"),
            ("deny fd00::/8", "deny fd00::/8"),
            ("  permit   fd00::1 ", "permit fd00::1/128"),
        ] {
            assert_eq!(text.parse::<Rule>().unwrap().to_string(), expected);
        }
        assert_eq!(parse_rules("deny all").unwrap().len(), 2);
    }

    #[test]
    fn rules_are_written_as_they_are_read() {
        let texts = ["deny 10.0.0.7", "permit 10.0.0.0/8", "deny fd00::1", "permit all", "deny ::/0"];
        let rules = texts.iter().flat_map(|text| parse_rules(text).unwrap()).collect();
        assert_eq!(render_rules(&Acl::new(rules)), texts);
    }

    #[test]
    fn what_is_no_rule_is_refused_with_the_remedy() {
        for (text, word) in [
            ("", "empty"),
            ("allow 10.0.0.1", "\"allow\" is neither permit nor deny"),
            ("permit", "nobody"),
            ("permit be1", "\"be1\" is not a network"),
            ("permit 10.0.0.0/33", "0 to 32"),
            ("permit fd00::/129", "to 128"),
            ("permit 10.0.0.0 255.0.255.0", "gap"),
            ("permit 10.0.0.0 10.0.0.255", "gap"),
            ("permit 10.0.0.0 /8", "not a mask"),
            ("permit fd00:: 255.0.0.0", "prefixes"),
            ("permit 10.0.0.5/8", "10.0.0.0/8"),
            ("permit 10.0.0.5 255.0.0.0", "10.0.0.0/8"),
            ("permit country SE", "countries"),
            ("permit 10.0.0.1 255.255.255.255 x", "\"x\" is too much"),
        ] {
            let failure = parse_rules(text).unwrap_err();
            assert!(failure.message.contains(word), "{text}: {failure}");
            assert!(failure.message.contains("write permit or deny"), "{text}: {failure}");
        }
        assert!("permit all".parse::<Rule>().is_err());
    }
}
