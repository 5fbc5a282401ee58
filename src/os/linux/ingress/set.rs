//! Hash sets that rules look up (linux/netfilter/nf_tables.h).

use std::collections::BTreeSet;

use super::netlink::{self, Attributes, Batch};

const NFT_MSG_NEWSET: u8 = 9;
const NFT_MSG_NEWSETELEM: u8 = 12;
/// Elements in a message: an attribute holds 65531 bytes, an element is at most 12 bytes of attributes and a key of 24.
const CHUNK: usize = 1024;

/// A part of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    V4,
    V6,
    /// The number of a protocol over IP.
    Protocol,
    Port,
}

impl Part {
    /// The type's number in nft, by which `nft list` knows how to show it. The kernel does not look at it.
    fn number(self) -> u32 {
        match self {
            Part::V4 => 7,
            Part::V6 => 8,
            Part::Protocol => 12,
            Part::Port => 13,
        }
    }

    /// Its bytes in a key: whole registers of four.
    fn length(self) -> usize {
        match self {
            Part::V6 => 16,
            Part::V4 | Part::Protocol | Part::Port => 4,
        }
    }
}

/// A set with all its elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// Nothing else in the table has it.
    pub(super) name: String,
    parts: &'static [Part],
    pub(super) elements: BTreeSet<Vec<u8>>,
}

impl Set {
    pub(super) fn new(name: String, parts: &'static [Part]) -> Set {
        Set { name, parts, elements: BTreeSet::new() }
    }

    /// Adds the element of which these are the parts; one that is there already stays alone.
    pub(super) fn insert(&mut self, parts: &[&[u8]]) {
        debug_assert_eq!(parts.len(), self.parts.len());
        let mut key = Vec::with_capacity(self.key_length());
        for part in parts {
            key.extend_from_slice(part);
            key.resize(key.len().next_multiple_of(4), 0);
        }
        debug_assert_eq!(key.len(), self.key_length());
        self.elements.insert(key);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    fn key_length(&self) -> usize {
        self.parts.iter().map(|part| part.length()).sum()
    }

    /// Makes it in `table`, as the set with this `number` in the transaction.
    pub(super) fn put(&self, batch: &mut Batch, table: &str, number: u32) {
        // The types of the parts, six bits each.
        let key_type = self.parts.iter().fold(0, |all, part| all << 6 | part.number());
        let mut a = Attributes::new();
        a.text(1, table).text(2, &self.name).be32(3, 0); // NFTA_SET_TABLE, NFTA_SET_NAME, NFTA_SET_FLAGS
        a.be32(4, key_type).be32(5, self.key_length() as u32); // NFTA_SET_KEY_TYPE, NFTA_SET_KEY_LEN
        a.nested(9, |description| {
            // NFTA_SET_DESC_SIZE: where it is known, the kernel takes a hash of fixed size, its fastest.
            description.be32(1, self.elements.len() as u32);
        });
        a.be32(10, number); // NFTA_SET_ID
        batch.message(NFT_MSG_NEWSET, netlink::CREATE | netlink::EXCLUSIVE, &a);

        let elements: Vec<&Vec<u8>> = self.elements.iter().collect();
        for chunk in elements.chunks(CHUNK) {
            let mut a = Attributes::new();
            a.text(1, table).text(2, &self.name); // NFTA_SET_ELEM_LIST_TABLE, NFTA_SET_ELEM_LIST_SET
            a.nested(3, |list| {
                for key in chunk {
                    list.nested(1, |element| {
                        element.nested(1, |data| {
                            data.bytes(1, key); // NFTA_SET_ELEM_KEY: NFTA_DATA_VALUE
                        });
                    });
                }
            });
            batch.message(NFT_MSG_NEWSETELEM, netlink::CREATE | netlink::EXCLUSIVE, &a);
        }
    }
}
