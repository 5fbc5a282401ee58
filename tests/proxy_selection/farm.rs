//! Servers that are as the test says.

use std::net::{IpAddr, Ipv4Addr};

use pen_dsr::proxy::select::{Client, Servers, View};
use siphasher::sip::SipHasher13;

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    pub name: String,
    pub id: u32,
    pub view: View,
}

/// An idle server that serves everybody.
pub const IDLE: View =
    View { usable: true, known_only: false, connections: 0, soft: 0, hard: 0, weight: 1, prio: 0, permits: true };

/// A list of servers.
#[derive(Clone, Debug, Default)]
pub struct Farm {
    pub servers: Vec<Server>,
    pub emergency: bool,
    pub abuse: bool,
}

impl Farm {
    /// Servers a, b, c...
    pub fn of(views: &[View]) -> Farm {
        let server = |(n, &view): (usize, &View)| Server {
            name: char::from(b'a' + n as u8).to_string(),
            id: 100 + n as u32,
            view,
        };
        Farm { servers: views.iter().enumerate().map(server).collect(), ..Farm::default() }
    }

    /// The place of the server `name`.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.servers.iter().position(|server| server.name == name)
    }
}

impl Servers for Farm {
    fn len(&self) -> usize {
        self.servers.len()
    }

    fn view(&self, index: usize, _: &Client) -> View {
        self.servers[index].view
    }

    fn id(&self, index: usize) -> u32 {
        self.servers[index].id
    }

    fn identity(&self, index: usize) -> &str {
        &self.servers[index].name
    }

    fn emergency(&self) -> bool {
        self.emergency
    }

    fn abuse(&self) -> bool {
        self.abuse
    }
}

/// A client number `n` by IPv4.
pub fn client(n: u32) -> Client {
    Client { address: Some(IpAddr::V4(Ipv4Addr::from(0xc000_0200 + n))), port: 1000 }
}

/// The remainder that the hash of `client` leaves: SipHash-1-3 with the key 0 of the address, and of the port if
/// `with_port`, as docs/ARCHITECTURE.md has it.
pub fn remainder(client: &Client, with_port: bool, count: usize) -> usize {
    let mut bytes = match client.address {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => panic!("a client without an address has no hash"),
    };
    if with_port {
        bytes.extend(client.port.to_be_bytes());
    }
    (SipHasher13::new_with_keys(0, 0).hash(&bytes) % count as u64) as usize
}

/// A client whose hash leaves `remainder`.
pub fn client_that_leaves(wanted: usize, with_port: bool, count: usize) -> Client {
    (0..).map(client).find(|client| remainder(client, with_port, count) == wanted).expect("one in so many")
}
