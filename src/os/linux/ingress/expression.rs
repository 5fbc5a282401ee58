//! The steps of a rule, as nf_tables takes them (linux/netfilter/nf_tables.h). A step that does not hold ends its rule.

use super::netlink::Attributes;

/// The EtherType of the packet.
pub(super) const META_PROTOCOL: u32 = 1;
/// The number of the protocol over IP, one byte.
pub(super) const META_L4PROTO: u32 = 16;
/// Whether it is to this host, to a group, to another.
pub(super) const META_PKTTYPE: u32 = 19;
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;

/// The first register of 16 bytes; the four of [`WORD`] and following are its parts.
const REGISTER: u32 = 1;
/// The first register of 4 bytes, NFT_REG32_00.
const WORD: u32 = 8;

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Expression {
    /// The value under this NFT_META key is that.
    Meta(u32, Vec<u8>),
    /// The bytes at this offset of a header are those.
    Payload { base: u32, offset: u32, bytes: Vec<u8> },
    /// The bytes at this offset of the network header are not before the first and not behind the last of these.
    Within { offset: u32, first: Vec<u8>, last: Vec<u8> },
    /// These, one behind the other, are an element of the set with this name.
    In { fields: Vec<Field>, set: String },
    /// Count it.
    Counter,
    /// Drop it.
    Drop,
}

/// A part of what is looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The value under this NFT_META key, of four bytes or less.
    Meta(u32),
    /// So many bytes at this offset of a header.
    Payload { base: u32, offset: u32, length: u32 },
}

impl Field {
    /// Into the register `to`, what is behind the field in its last four bytes zero. How many registers it takes.
    fn load(self, list: &mut Attributes, to: u32) -> u32 {
        match self {
            Field::Meta(key) => {
                meta(list, key, to);
                1
            }
            Field::Payload { base, offset, length } => {
                payload(list, base, offset, length, to);
                length.div_ceil(4)
            }
        }
    }
}

impl Expression {
    pub(super) fn put(&self, list: &mut Attributes) {
        match self {
            Expression::Meta(key, value) => {
                meta(list, *key, REGISTER);
                compare(list, value);
            }
            Expression::Payload { base, offset, bytes } => {
                payload(list, *base, *offset, bytes.len() as u32, REGISTER);
                compare(list, bytes);
            }
            Expression::Within { offset, first, last } => {
                payload(list, NETWORK_HEADER, *offset, first.len() as u32, REGISTER);
                expression(list, "range", |a| {
                    a.be32(1, REGISTER).be32(2, 0); // within
                    for (kind, value) in [(3, first), (4, last)] {
                        a.nested(kind, |data| {
                            data.bytes(1, value);
                        });
                    }
                });
            }
            Expression::In { fields, set } => {
                fields.iter().fold(WORD, |register, field| register + field.load(list, register));
                expression(list, "lookup", |a| {
                    a.text(1, set).be32(2, WORD); // NFTA_LOOKUP_SET, NFTA_LOOKUP_SREG
                });
            }
            Expression::Counter => expression(list, "counter", |_| {}),
            Expression::Drop => expression(list, "immediate", |a| {
                a.be32(1, 0); // into the verdict register
                a.nested(2, |data| {
                    data.nested(2, |verdict| {
                        verdict.be32(1, 0); // NF_DROP
                    });
                });
            }),
        }
    }
}

fn expression(list: &mut Attributes, name: &str, body: impl FnOnce(&mut Attributes)) {
    list.nested(1, |element| {
        element.text(1, name);
        element.nested(2, body);
    });
}

fn meta(list: &mut Attributes, key: u32, to: u32) {
    expression(list, "meta", |a| {
        a.be32(1, to).be32(2, key);
    });
}

fn payload(list: &mut Attributes, base: u32, offset: u32, length: u32, to: u32) {
    expression(list, "payload", |a| {
        a.be32(1, to).be32(2, base).be32(3, offset).be32(4, length);
    });
}

fn compare(list: &mut Attributes, value: &[u8]) {
    expression(list, "cmp", |a| {
        a.be32(1, REGISTER).be32(2, 0); // equal
        a.nested(3, |data| {
            data.bytes(1, value);
        });
    });
}
