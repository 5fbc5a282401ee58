//! Sockets that have a client's address: IP_BINDANY (ip(4)) and IPV6_BINDANY (ip6(4)), and whether what is sent to such an
//! address comes back to this machine's sockets. OpenBSD has SO_BINDANY for both.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::process::Command;

use libc::{c_int, c_void, socklen_t};
use socket2::{Domain, Socket, Type};

/// Binds `socket`, TCP or UDP, to the address of `client`, which need not be one of this host: to its port when that is
/// free, else to any port. A TCP socket may share the port with others that are not listening, as long as they have
/// other servers; where connect(2) refuses because the same four numbers exist already (EADDRINUSE), bind another
/// socket to port 0 of the client.
///
/// # Errors
/// Not permitted (root alone is); `socket` is of the other family; the system's.
pub fn bind_foreign(socket: &Socket, client: SocketAddr) -> io::Result<()> {
    bind_any(socket, client.is_ipv4())?;
    if socket.r#type()? == Type::STREAM {
        // Both: sockets with the same address have to agree on it. Not so for UDP: two sockets with one address would
        // take each other's datagrams.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
    }
    if client.port() != 0 {
        match socket.bind(&client.into()) {
            // Somebody has it; or it is below 1024, and this is not root any more.
            Err(e) if matches!(e.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied) => {}
            bound => return bound,
        }
    }
    socket.bind(&SocketAddr::new(client.ip(), 0).into())
}

fn bind_any(socket: &Socket, ipv4: bool) -> io::Result<()> {
    let (level, option) =
        if ipv4 { (libc::IPPROTO_IP, libc::IP_BINDANY) } else { (libc::IPPROTO_IPV6, libc::IPV6_BINDANY) };
    let on: c_int = 1;
    let pointer = std::ptr::from_ref(&on).cast::<c_void>();
    // SAFETY: the pointer is to a c_int that outlives the call, and the length is that of a c_int.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, pointer, size_of::<c_int>() as socklen_t) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Would what `servers` send to a client come back to our sockets, if it comes to this host at all? One line for each thing
/// that is missing, with its remedy; what cannot be told is said, too. Asks ipfw(8), changes nothing.
pub fn return_path(servers: &[IpAddr]) -> Vec<String> {
    let mut missing = Vec::new();
    let rules = Command::new("/sbin/ipfw").arg("list").output();
    for (name, ipv4) in [("IPv4", true), ("IPv6", false)] {
        let Some(server) = servers.iter().find(|server| server.is_ipv4() == ipv4) else { continue };
        let domain = if ipv4 { Domain::IPV4 } else { Domain::IPV6 };
        if let Err(e) = Socket::new(domain, Type::DGRAM, None).and_then(|socket| bind_any(&socket, ipv4)) {
            missing.push(format!(
                "transparent, {name}: this process may not use a client's address: {e}; start it as root, without -u"
            ));
        }
        match &rules {
            Ok(output) if output.status.success() => {
                if !forwards(&String::from_utf8_lossy(&output.stdout), ipv4) {
                    missing.push(format!(
                        "transparent, {name}: no rule of ipfw gives what servers send to a client's address to this host; \
                         scripts/transparent up --server {server} adds it"
                    ));
                }
            }
            _ => missing.push(format!(
                "transparent, {name}: ipfw cannot be asked whether what servers send to a client's address is given to this \
                 host; see scripts/transparent print --server {server}"
            )),
        }
    }
    missing
}

/// Is there a rule that forwards to the host itself?
fn forwards(rules: &str, ipv4: bool) -> bool {
    let here = if ipv4 { ["127.0.0.1", "localhost"] } else { ["::1", "localhost"] };
    rules.lines().any(|rule| {
        let mut words = rule.split_whitespace().skip_while(|word| *word != "fwd").skip(1);
        words.next().is_some_and(|to| here.iter().any(|here| to == *here || to.starts_with(&format!("{here},"))))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_forwards_to_this_host_is_found() {
        let rules =
            "00100 allow ip from any to any via lo0\n00940 fwd 127.0.0.1 tcp from 10.0.0.0/24 to not me in // x\n";
        assert!(forwards(rules, true));
        assert!(!forwards(rules, false));
        assert!(forwards("00940 fwd ::1 udp from fd00::/64 53 to not me6 in", false));
        assert!(!forwards("00940 fwd 10.0.0.1 tcp from any to any", true));
        assert!(!forwards("", true));
    }
}
