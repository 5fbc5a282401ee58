//! The routers that this host sends to.

use std::net::IpAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Routes rarely change, and asking starts a program.
const BELIEVED: Duration = Duration::from_secs(60);

static LAST: Mutex<Option<(Instant, Vec<IpAddr>)>> = Mutex::new(None);

/// The gateways of all routes of this host, each once, as netstat(1) lists them; not older than a minute.
pub fn gateways() -> Vec<IpAddr> {
    let mut last = LAST.lock();
    if let Some((asked, gateways)) = &*last
        && asked.elapsed() < BELIEVED
    {
        return gateways.clone();
    }
    let output = Command::new("/usr/bin/netstat").arg("-rn").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut gateways: Vec<IpAddr> = Vec::new();
    for gateway in text.lines().filter_map(gateway) {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    *last = Some((Instant::now(), gateways.clone()));
    gateways
}

/// The second column, where the third has the flag G.
fn gateway(line: &str) -> Option<IpAddr> {
    let mut columns = line.split_whitespace().skip(1);
    let (address, flags) = (columns.next()?, columns.next()?);
    let address = address.split('%').next().unwrap_or(address);
    address.parse().ok().filter(|_| flags.contains('G'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_name_their_gateways() {
        assert_eq!(gateway("default            10.0.0.254         UGS      vtnet1"), "10.0.0.254".parse().ok());
        assert_eq!(gateway("default            fe80::1%vtnet1     UGS      vtnet1"), "fe80::1".parse().ok());
        assert_eq!(gateway("10.0.0.0/24        link#2             U        vtnet1"), None);
        assert_eq!(gateway("Destination        Gateway            Flags     Netif Expire"), None);
    }
}
