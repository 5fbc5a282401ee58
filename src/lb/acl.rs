//! Access lists: which addresses a rule permits or denies; the first rule that matches counts.
//!
//! A list is compiled once, into the intervals of addresses that it permits, so that looking an address up takes a
//! binary search however many rules there are, and no memory.

mod intervals;
mod network;

use std::fmt;
use std::net::IpAddr;

use intervals::Intervals;
pub use network::{BadPrefix, Network};

/// What a rule says of the addresses that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They pass.
    Permit,
    /// They do not.
    Deny,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Permit => "permit",
            Action::Deny => "deny",
        })
    }
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub action: Action,
    /// Of whom.
    pub network: Network,
}

/// As in the command language: `permit 10.0.0.0/8`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.action, self.network)
    }
}

/// A list of rules.
#[derive(Clone, Debug, Default)]
pub struct Acl {
    rules: Vec<Rule>,
    ipv4: Intervals<u32>,
    ipv6: Intervals<u128>,
}

/// Lists are equal when their rules are, in the same order.
impl PartialEq for Acl {
    fn eq(&self, other: &Acl) -> bool {
        self.rules == other.rules
    }
}

impl Eq for Acl {}

impl Acl {
    /// A list of `rules`, in the order in which they are looked at. Takes time in proportion to n log n.
    pub fn new(rules: Vec<Rule>) -> Acl {
        let ipv4 = Intervals::compile(rules.iter().filter_map(|rule| Some((rule.network.range_v4()?, rule.action))));
        let ipv6 = Intervals::compile(rules.iter().filter_map(|rule| Some((rule.network.range_v6()?, rule.action))));
        Acl { rules, ipv4, ipv6 }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Does the list permit `address`? What no rule matches is not permitted; so an empty list permits nobody, where
    /// Pen's permits everybody.
    ///
    /// `::ffff:192.0.2.1` is an IPv6 address here: take [`IpAddr::to_canonical`] of what a socket for both families says.
    #[inline]
    pub fn permits(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.ipv4.contains(address.to_bits()),
            IpAddr::V6(address) => self.ipv6.contains(address.to_bits()),
        }
    }

    /// This list, but for `networks`, which it denies.
    #[must_use]
    pub fn except(&self, networks: impl IntoIterator<Item = Network>) -> Acl {
        let deny = |network| Rule { action: Action::Deny, network };
        Acl::new(networks.into_iter().map(deny).chain(self.rules.iter().copied()).collect())
    }

    /// The fewest networks that hold the permitted addresses and no others: IPv4 first, each family in ascending order.
    pub fn permitted_networks(&self) -> Vec<Network> {
        let mut networks = Vec::new();
        self.ipv4.iter().for_each(|(first, last)| network::cover_v4(first, last, &mut networks));
        self.ipv6.iter().for_each(|(first, last)| network::cover_v6(first, last, &mut networks));
        networks
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn list(rules: &[(Action, &str)]) -> Acl {
        Acl::new(rules.iter().map(|&(action, text)| Rule { action, network: network(text) }).collect())
    }

    fn permits(list: &Acl, address: &str) -> bool {
        list.permits(address.parse().unwrap())
    }

    #[test]
    fn the_first_rule_that_matches_counts_and_no_match_is_no_permission() {
        let acl = list(&[
            (Action::Deny, "10.0.0.0/27"),
            (Action::Permit, "10.0.0.0/24"),
            (Action::Deny, "0.0.0.0/0"),
            (Action::Permit, "10.1.0.0/16"),
            (Action::Permit, "fd00::/64"),
        ]);
        assert!(!permits(&acl, "10.0.0.31") && permits(&acl, "10.0.0.32") && permits(&acl, "10.0.0.255"));
        assert!(!permits(&acl, "10.0.1.0") && !permits(&acl, "10.1.0.1"), "the third rule comes before the fourth");
        assert!(permits(&acl, "fd00::ffff:ffff:ffff:ffff") && !permits(&acl, "fd00:0:0:1::"));
        assert!(!Acl::default().permits("10.0.0.1".parse().unwrap()), "an empty list");
        assert!(!permits(&list(&[(Action::Permit, "0.0.0.0/0")]), "::1"), "the other family");
    }

    #[test]
    fn the_ends_of_the_address_space_are_addresses_too() {
        for (all, first, last) in
            [("0.0.0.0/0", "0.0.0.0", "255.255.255.255"), ("::/0", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")]
        {
            let everybody = list(&[(Action::Permit, all)]);
            assert!(permits(&everybody, first) && permits(&everybody, last));
            let host = if all == "::/0" { 128 } else { 32 };
            let but = list(&[(Action::Deny, &format!("{last}/{host}")), (Action::Permit, all)]);
            assert!(permits(&but, first) && !permits(&but, last));
        }
    }

    #[test]
    fn equal_lists_have_equal_rules_in_equal_order() {
        let (a, b) = ((Action::Permit, "10.0.0.0/25"), (Action::Permit, "10.0.0.128/25"));
        assert_eq!(list(&[a, b]), list(&[a, b]));
        assert_ne!(list(&[a, b]), list(&[b, a]));
        assert_ne!(list(&[a, b]), list(&[(Action::Permit, "10.0.0.0/24")]));
        assert_eq!(list(&[a]).rules()[0].to_string(), "permit 10.0.0.0/25");
    }

    #[test]
    fn exceptions_come_before_every_rule() {
        let acl = list(&[(Action::Permit, "10.0.0.0/30")]).except([network("10.0.0.2")]);
        assert!(!permits(&acl, "10.0.0.2") && permits(&acl, "10.0.0.3"));
        assert_eq!(acl.permitted_networks(), ["10.0.0.0/31", "10.0.0.3/32"].map(network));
    }

    #[test]
    fn adjacent_and_overlapping_networks_become_one() {
        let acl = list(&[
            (Action::Permit, "10.0.0.0/25"),
            (Action::Permit, "10.0.0.64/26"),
            (Action::Permit, "10.0.0.128/25"),
            (Action::Permit, "::/0"),
        ]);
        assert_eq!(acl.permitted_networks(), ["10.0.0.0/24", "::/0"].map(network));
    }

    /// Rules that meet: few distinct bits, all prefixes.
    fn rules() -> impl Strategy<Value = Vec<Rule>> {
        let action = prop_oneof![Just(Action::Permit), Just(Action::Deny)];
        let v4 = (0..4u32, 0..4u32, 0..=32u8)
            .prop_map(|(high, low, prefix)| (IpAddr::V4(Ipv4Addr::from_bits(high << 30 | low)), prefix));
        let v6 = (0..4u128, 0..4u128, 0..=128u8)
            .prop_map(|(high, low, prefix)| (IpAddr::V6(Ipv6Addr::from_bits(high << 126 | low)), prefix));
        let rule = (action, prop_oneof![v4, v6])
            .prop_map(|(action, (address, prefix))| Rule { action, network: Network::new(address, prefix).unwrap() });
        proptest::collection::vec(rule, 0..12)
    }

    /// Addresses where something may change: at the edges of the rules, and beside them.
    fn edges(rules: &[Rule]) -> Vec<IpAddr> {
        let mut edges = vec![];
        for end in rules.iter().flat_map(|rule| [rule.network.first(), rule.network.last()]) {
            match end {
                IpAddr::V4(a) => edges
                    .extend([-1i32, 0, 1].map(|n| IpAddr::V4(Ipv4Addr::from_bits(a.to_bits().wrapping_add_signed(n))))),
                IpAddr::V6(a) => edges.extend(
                    [-1i128, 0, 1].map(|n| IpAddr::V6(Ipv6Addr::from_bits(a.to_bits().wrapping_add_signed(n)))),
                ),
            }
        }
        edges
    }

    proptest! {
        #[test]
        fn agrees_with_a_walk_over_the_rules(rules in rules()) {
            let acl = Acl::new(rules.clone());
            let networks = acl.permitted_networks();
            for address in edges(&rules) {
                let matching = rules.iter().find(|rule| rule.network.contains(address));
                let expected = matching.is_some_and(|rule| rule.action == Action::Permit);
                prop_assert_eq!(acl.permits(address), expected, "{}", address);
                let covered = networks.iter().filter(|network| network.contains(address)).count();
                prop_assert_eq!(covered, usize::from(expected), "{} in {:?}", address, networks);
            }
        }
    }
}
