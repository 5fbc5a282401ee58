//! Access lists: which addresses a rule permits or denies; the first rule that matches counts.

use std::net::IpAddr;

/// What a rule says of the addresses that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// They pass.
    Permit,
    /// They do not.
    Deny,
}

/// A network: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The address; the bits behind the prefix are zero.
    pub address: IpAddr,
    /// 0 to 32, or to 128.
    pub prefix: u8,
}

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub action: Action,
    /// Of whom.
    pub network: Network,
}

/// A list of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acl {
    rules: Vec<Rule>,
}

impl Acl {
    /// A list of `rules`, in the order in which they are looked at.
    pub fn new(rules: Vec<Rule>) -> Acl {
        Acl { rules }
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Does the list permit `address`? No rule, no permission.
    pub fn permits(&self, address: IpAddr) -> bool {
        let _ = address;
        false
    }
}
