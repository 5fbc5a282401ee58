"""Attaches a smallest XDP program to an interface of this network namespace, until it is told to end.

    python3 xdp.py ACTION MODE INTERFACE [MAC]
        ACTION  drop  IPv4 frames end here (XDP_DROP), others go on: what receiving costs, whoever forwards
                pass  every frame goes on (XDP_PASS): an interface with a program on it, and no more
                send  IPv4 frames go back to the MAC address MAC (XDP_TX): what forwarding costs at the least
        MODE    native  in the interface's driver;  generic  behind it

The program is attached by a link, which the kernel takes away with the process, however that ends. Prints `attached`
when it is; ends with a message and status 1 if the kernel refuses.
"""

import os
import signal
import sys

import bpf

ETHERNET_HEADER = 14
IPV4_AS_LOADED = int.from_bytes(b"\x08\x00", sys.byteorder)


def for_ipv4(then):
    """`then`, with the frame's start in register 2, for IPv4 frames; the others go on."""
    onward = bpf.verdict(bpf.XDP_PASS)
    guarded = [
        bpf.instruction(bpf.LOAD16, 5, 2, offset=12),
        bpf.instruction(bpf.JUMP_NOT_EQUAL, 5, offset=len(then), constant=IPV4_AS_LOADED),
        *then,
    ]
    return bpf.with_frame(2, ETHERNET_HEADER, guarded, onward)


def program(action, interface, mac):
    """The instructions of an action."""
    if action == "pass":
        return bpf.verdict(bpf.XDP_PASS)
    if action == "drop":
        return for_ipv4(bpf.verdict(bpf.XDP_DROP))
    addresses = bpf.store_mac(2, 0, bpf.mac_bytes(mac)) + bpf.store_mac(2, 6, bpf.address_of(interface))
    return for_ipv4(addresses + bpf.verdict(bpf.XDP_TX))


def main(action, mode, interface, mac=None):
    """Attaches, and waits for a signal."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        link = bpf.attach(bpf.load(program(action, interface, mac)), interface, mode)
    except OSError as e:
        print(f"{interface}: XDP {mode}: {e.strerror}; needs root, and for native a driver that has XDP")
        return 1
    print("attached", flush=True)
    signal.sigwait(signals)
    os.close(link)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
