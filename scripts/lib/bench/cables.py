"""Three hosts in a row, each a network namespace: client, proxy, server, on two cables (veth). Inside scripts/sandbox.

Nothing else is on the way: no bridge, no filter. Offloads are as veth comes.
"""

import lab

CLIENT, PROXY, SERVER = "client", "proxy", "server"
# Address of the proxy that clients connect to, and of the server that it connects to.
PROXY_ADDRESS, SERVER_ADDRESS = "10.9.1.2", "10.9.2.2"
CABLES = [
    ((CLIENT, "eth0", "10.9.1.1"), (PROXY, "eth0", PROXY_ADDRESS)),
    ((PROXY, "eth1", "10.9.2.1"), (SERVER, "eth0", SERVER_ADDRESS)),
]
# A connection for each request takes a port each; ports are taken again as soon as TCP's timestamps allow it, and no
# more than these many are kept waiting, so that the last round finds the machine as the first one did.
SETTINGS = {
    "net/ipv4/ip_local_port_range": "1024 65535",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/tcp_max_tw_buckets": "16384",
    "net/ipv4/ip_forward": "1",
    "net/core/somaxconn": "16384",
}


def up():
    """Makes them. Clients reach the server without a proxy, too, through the proxy's host."""
    for host in (CLIENT, PROXY, SERVER):
        lab.ip("netns", "add", host)
        for path, value in SETTINGS.items():
            lab.run(host, "sh", "-c", f"echo {value} >/proc/sys/{path}")
    for (host, interface, address), (other, peer, peer_address) in CABLES:
        lab.ip("link", "add", interface, "netns", host, "type", "veth", "peer", "name", peer, "netns", other)
        lab.ip("-n", host, "address", "add", f"{address}/24", "dev", interface)
        lab.ip("-n", other, "address", "add", f"{peer_address}/24", "dev", peer)
    for host, interfaces in ((CLIENT, ["lo", "eth0"]), (PROXY, ["lo", "eth0", "eth1"]), (SERVER, ["lo", "eth0"])):
        for interface in interfaces:
            lab.ip("-n", host, "link", "set", interface, "up")
    lab.ip("-n", CLIENT, "route", "add", "default", "via", PROXY_ADDRESS)
    lab.ip("-n", SERVER, "route", "add", "default", "via", "10.9.2.1")
