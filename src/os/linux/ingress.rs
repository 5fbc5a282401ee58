//! Keeps the host's IP stack from seeing the frames that the engine serves: an nftables table at the interface's ingress,
//! behind the packet sockets and before the stack.
//!
//! It saves the stack the work of throwing each frame away, and a host that forwards packets from sending it on a second
//! time. Every frame of the interface goes through it, so addresses are in hash sets: a frame costs the same, however
//! many VIPs there are. The table belongs to the netlink socket that made it (NFT_TABLE_F_OWNER, Linux 5.12): the kernel
//! removes it when that is closed, however the process ends.

mod expression;
mod netlink;
mod program;
mod set;

use std::io;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use netlink::{Attributes, Batch};
use program::Program;

use crate::config::VipConfig;
use crate::os::Wanted;

const NFT_MSG_NEWTABLE: u8 = 0;
const NFT_MSG_NEWCHAIN: u8 = 3;
const NFT_MSG_NEWRULE: u8 = 6;

/// Tables that this process has installed: none has another's name, so that a new one can be there before the old goes.
static INSTALLED: AtomicU32 = AtomicU32::new(0);

/// The table, while this lives.
pub struct IngressDrop {
    _socket: netlink::Socket,
}

impl IngressDrop {
    /// Installs the table on `interface`. It drops what the engine serves of `vips`, what VIPs answer to probes, which
    /// the stack would answer with RSTs of its own, and all that goes to the tarpit. Two may exist at a time.
    ///
    /// # Errors
    /// The system's: no nf_tables in this kernel, not permitted.
    pub fn install(interface: &str, vips: &[VipConfig], wanted: &Wanted) -> io::Result<IngressDrop> {
        let table = format!("pen-dsr-{interface}-{}-{}", std::process::id(), INSTALLED.fetch_add(1, Relaxed));
        let mut socket = netlink::Socket::open()?;
        socket.commit(transaction(&table, interface, &Program::new(vips, wanted)))?;
        Ok(IngressDrop { _socket: socket })
    }
}

/// Makes `table` with its chain at `interface`, and what is in it. A set has its elements before a rule looks it up.
fn transaction(table: &str, interface: &str, program: &Program) -> Batch {
    let mut batch = Batch::new();
    let mut a = Attributes::new();
    a.text(1, table).be32(2, 0x2); // NFTA_TABLE_NAME, NFTA_TABLE_FLAGS: owner
    batch.message(NFT_MSG_NEWTABLE, netlink::CREATE | netlink::EXCLUSIVE, &a);

    let mut a = Attributes::new();
    a.text(1, table).text(3, "ingress"); // NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME
    a.nested(4, |hook| {
        hook.be32(1, 0).be32(2, -300i32 as u32).text(3, interface); // NF_NETDEV_INGRESS, priority, device
    });
    a.be32(5, 1).text(7, "filter"); // NFTA_CHAIN_POLICY: accept, NFTA_CHAIN_TYPE
    batch.message(NFT_MSG_NEWCHAIN, netlink::CREATE | netlink::EXCLUSIVE, &a);

    for (number, set) in (1..).zip(&program.sets) {
        set.put(&mut batch, table, number);
    }
    for rule in &program.rules {
        let mut a = Attributes::new();
        a.text(1, table).text(2, "ingress"); // NFTA_RULE_TABLE, NFTA_RULE_CHAIN
        a.nested(4, |list| rule.iter().for_each(|expression| expression.put(list)));
        batch.message(NFT_MSG_NEWRULE, netlink::CREATE | netlink::APPEND, &a);
    }
    batch
}

#[cfg(test)]
mod tests;
