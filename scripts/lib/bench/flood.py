"""Sends 60-byte UDP/IPv4 frames of 1024 flows on an interface as fast as one CPU can, for a bounded time.

    python3 flood.py INTERFACE ADDRESS MAC SECONDS

A packet socket takes a microsecond for each frame, more than a fast balancer does. So the kernel sends: an XDP
program gets a frame, writes the headers of one flow at random into it and says XDP_TX, by BPF_PROG_TEST_RUN with
BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18), a tenth of the cost. On veth the other end must have NAPI: GRO switched on,
or an XDP program. Runs only inside scripts/sandbox; status 1 and a message if the kernel refuses.

All checksums are valid without being computed anew: in flow n the source address is greater by n, and the IP header's
identification and the UDP source port are less by n, so that neither sum changes.
"""

import pathlib
import os
import signal
import socket
import struct
import sys

import bpf

SIZE, ETHERNET, IPV4, UDP = 60, 14, 20, 8
FLOWS = 1024  # a power of two
FIRST_SOURCE = socket.inet_aton("10.0.4.0")  # the last is 10.0.7.255: only the lower half of the address changes
FIRST_ID, FIRST_PORT, PORT = 0x4000, 22000, 9
BATCH = 64  # as many as a poll of NAPI takes
LONGEST = 300  # seconds


def checksum(octets):
    """RFC 1071, of an even number of octets."""
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame(own_mac, mac, target):
    """The frame of flow 0."""
    payload = bytes(SIZE - ETHERNET - IPV4 - UDP)
    length = UDP + len(payload)
    addresses = FIRST_SOURCE + target
    ip = struct.pack("!BBHHHBB", 0x45, 0, IPV4 + length, FIRST_ID, 0, 64, socket.IPPROTO_UDP)
    ports = struct.pack("!HHH", FIRST_PORT, PORT, length)
    pseudo = addresses + struct.pack("!HH", socket.IPPROTO_UDP, length)
    return b"".join([
        mac, own_mac, b"\x08\x00",
        ip, struct.pack("!H", checksum(ip + addresses)), addresses,
        ports, struct.pack("!H", checksum(pseudo + ports + payload)), payload,
    ])


def program(own_mac, mac):
    """Writes what flows and balancers change, from a random flow number in register 7, and sends."""
    def field(offset, base, operation):
        return [bpf.instruction(bpf.MOVE, 1, constant=base),
                bpf.instruction(operation, 1, 7),
                bpf.instruction(bpf.TO_BIG_ENDIAN, 1, constant=16),
                bpf.instruction(bpf.STORE16_REGISTER, 6, 1, offset=offset)]

    return bpf.with_frame(6, SIZE, [
        bpf.instruction(bpf.CALL, constant=bpf.GET_RANDOM),
        bpf.instruction(bpf.MOVE_REGISTER, 7, 0),
        bpf.instruction(bpf.AND, 7, constant=FLOWS - 1),
        *field(ETHERNET + 4, FIRST_ID, bpf.SUBTRACT_REGISTER),
        *field(ETHERNET + 14, int.from_bytes(FIRST_SOURCE[2:], "big"), bpf.ADD_REGISTER),
        *field(ETHERNET + IPV4, FIRST_PORT, bpf.SUBTRACT_REGISTER),
        *bpf.store_mac(6, 0, mac),
        *bpf.store_mac(6, 6, own_mac),
        *bpf.verdict(bpf.XDP_TX),
    ], bpf.verdict(bpf.XDP_DROP))


def in_sandbox():
    """The mount is the proof that scripts/sandbox made this place; the variable alone could be anybody's."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    return os.environ.get("PEN_DSR_SANDBOX") == "1" and any(line.startswith("pen-dsr /run") for line in mounts)


def main(interface, address, mac, seconds):
    """Floods."""
    if not (in_sandbox() and 0 < float(seconds) <= LONGEST):
        print(f"flood: floods a link, so it runs only inside scripts/sandbox, for at most {LONGEST} seconds")
        return 1
    own_mac, mac = bpf.address_of(interface), bpf.mac_bytes(mac)
    try:
        loaded = bpf.load(program(own_mac, mac))
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, float(seconds), 0.1)  # again, should it come before the call
        bpf.send_until_signal(loaded, interface, frame(own_mac, mac, socket.inet_aton(address)), BATCH)
    except OSError as e:
        print(f"flood: {interface}: frames by BPF_PROG_TEST_RUN: {e.strerror}; needs root, and Linux 5.18")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
