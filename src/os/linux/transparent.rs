//! Sockets that have a client's address: IP_TRANSPARENT (ip(7)), and whether what is sent to such an address comes back to
//! this machine's sockets.

mod marks;
mod route;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};

use super::option;
use marks::socket_marks;
use route::{Fate, Routes};

/// Addresses that no host has (RFC 5737, RFC 3849), in place of a client's.
const SOME_CLIENT: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(198, 51, 100, 77), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77));

/// Binds `socket`, TCP or UDP, to the address of `client`, which need not be one of this host: to its port when that is
/// free, else to any port. A TCP socket may share the port with others that are not listening, as long as they have
/// other servers; where connect(2) refuses because the same four numbers exist already (EADDRNOTAVAIL), bind another
/// socket to port 0 of the client.
///
/// # Errors
/// Not permitted (it takes CAP_NET_ADMIN or CAP_NET_RAW); `socket` is of the other family; the system's.
pub fn bind_foreign(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    let allowed = match client {
        SocketAddr::V4(_) => socket.set_ip_transparent_v4(true),
        SocketAddr::V6(_) => socket.set_ip_transparent_v6(true),
    };
    allowed?;
    if socket.r#type()? == Type::STREAM {
        // A port in TIME_WAIT, or with another server, is no obstacle. Not so for UDP: two sockets with one address would
        // take each other's datagrams.
        socket.set_reuse_address(true)?;
    }
    let any_port = SocketAddr::new(client.ip(), 0);
    if client.port() != 0 {
        match socket.bind(&client.into()) {
            // Somebody has it; or it is below 1024, which takes another capability (CAP_NET_BIND_SERVICE).
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
            bound => return bound,
        }
    }
    // The port is found when the server's address is known, so that 28,000 ports serve for each server.
    option::set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    socket.bind(&any_port.into())
}

/// Would what `servers` send to a client come back to our sockets, if it comes to this host at all? One line for each thing
/// that is missing, with its remedy; what cannot be told is said, too. Asks the kernel by rtnetlink(7) and nfnetlink, changes
/// nothing.
pub fn return_path(servers: &[IpAddr]) -> Vec<String> {
    let mut missing = Vec::new();
    for ipv4 in [true, false] {
        let servers: Vec<IpAddr> = servers.iter().copied().filter(|server| server.is_ipv4() == ipv4).collect();
        if !servers.is_empty() {
            missing.extend(family(ipv4, &servers));
        }
    }
    missing
}

fn family(ipv4: bool, servers: &[IpAddr]) -> Vec<String> {
    let (name, flag) = if ipv4 { ("IPv4", "-4") } else { ("IPv6", "-6") };
    let client = if ipv4 { IpAddr::V4(SOME_CLIENT.0) } else { IpAddr::V6(SOME_CLIENT.1) };
    let mut missing = Vec::new();
    if let Err(e) = permitted(ipv4) {
        missing.push(format!(
            "transparent, {name}: this process may not use a client's address: {e}; start it as root, or give it \
             CAP_NET_ADMIN (setcap cap_net_admin,cap_net_raw+ep pen-dsr)"
        ));
    }
    match socket_marks() {
        Ok(found) if found.in_family(ipv4) => {}
        Ok(found) => missing.push(format!(
            "transparent, {name}: {} marks what servers send to a client's address; scripts/transparent up adds the rule \
             (nftables: socket transparent 1 meta mark set 1; iptables: -m socket --transparent)",
            if found.older { "it cannot be told whether a rule of iptables-legacy" } else { "no rule of nftables" }
        )),
        Err(e) => missing.push(format!(
            "transparent, {name}: it cannot be told whether a rule marks what servers send to a client's address \
             (nfnetlink: {e}); see nft list ruleset for: socket transparent 1"
        )),
    }
    missing.extend(routes(flag, name, client, servers));
    missing
}

/// Is there a mark with which a packet of each server to `client` is for this host?
fn routes(flag: &str, name: &str, client: IpAddr, servers: &[IpAddr]) -> Vec<String> {
    let asked = || -> io::Result<Vec<String>> {
        let mut routes = Routes::open()?;
        let marks = routes.marks(client.is_ipv4())?;
        if marks.is_empty() {
            return Ok(vec![format!(
                "transparent, {name}: no routing rule for marked packets; scripts/transparent up adds it \
                 (ip {flag} rule add fwmark 1 lookup 100)"
            )]);
        }
        let mut missing = Vec::new();
        // Servers behind one interface share their fate.
        let mut interfaces = BTreeSet::new();
        for &server in servers {
            let interface = match routes.to(server)? {
                Fate::Sent(interface) => interface,
                Fate::Here => {
                    missing.push(format!(
                        "transparent, {name}: server {server} is an address of this machine: it would answer clients \
                         directly, and not us; put it on another machine or in a jail or namespace with a network of its own"
                    ));
                    continue;
                }
                Fate::Lost(why) | Fate::Refused(why) => {
                    missing.push(format!("transparent, {name}: no route to server {server}: {why}"));
                    continue;
                }
            };
            if !interfaces.insert(interface) {
                continue;
            }
            let mut fates = Vec::new();
            for &mark in &marks {
                fates.push(routes.from(server, interface, client, mark)?);
            }
            if fates.contains(&Fate::Here) {
                continue;
            }
            let refused = fates.iter().find_map(|fate| if let Fate::Refused(why) = fate { Some(why) } else { None });
            missing.push(match refused {
                Some(why) => format!(
                    "transparent, {name}: what server {server} sends to a client's address is dropped, marked or not: \
                     {why}; check the routes of the table that ip {flag} rule names for the mark, and \
                     net.ipv4.conf.*.src_valid_mark with rp_filter (0 is wanted, or rp_filter 2)"
                ),
                None => format!(
                    "transparent, {name}: marked packets to a client's address are not taken by this host; \
                     scripts/transparent up adds the route (ip {flag} route add local default dev lo table 100)"
                ),
            });
        }
        Ok(missing)
    };
    asked().unwrap_or_else(|e| {
        vec![format!(
            "transparent, {name}: it cannot be told how marked packets are routed (rtnetlink: {e}); see ip {flag} rule"
        )]
    })
}

fn permitted(ipv4: bool) -> io::Result<()> {
    if ipv4 {
        Socket::new(Domain::IPV4, Type::DGRAM, None)?.set_ip_transparent_v4(true)
    } else {
        Socket::new(Domain::IPV6, Type::DGRAM, None)?.set_ip_transparent_v6(true)
    }
}

#[cfg(test)]
mod tests;
