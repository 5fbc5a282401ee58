"""The hosts of scripts/lab as a bench uses them: programs in them, their counters, their settings.

Everything here runs inside scripts/sandbox.
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
LAB = str(ROOT / "scripts" / "lab")

VIP = "10.0.0.100"
LB_MAC = "02:00:00:00:00:02"
BACKENDS = {"be1": "10.0.0.11", "be2": "10.0.0.12"}
BACKEND_MACS = {"be1": "02:00:00:00:00:11", "be2": "02:00:00:00:00:12"}
SEGMENT = ["client", "lb", *BACKENDS]

# The second lab: one cable between generator and balancer, no bridge.
NEAR_GENERATOR, NEAR_LB = "near-gen", "near-lb"
NEAR_GENERATOR_MAC = "02:00:00:00:00:01"

# The other end of a balancer's cable: host, interface.
CABLE_ENDS = {"lb": ("sw", "lb"), NEAR_LB: (NEAR_GENERATOR, "eth0")}

CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def up():
    """Makes both labs: the segment with two backends, and the pair back to back."""
    subprocess.run([LAB, "up", "--backends", str(len(BACKENDS))], check=True)
    # A bridge that passes every frame to iptables costs each frame a third of its way, for no rule at all.
    run("sw", "sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do echo 0 >$f; done",
        check=False)
    for host in ("lb", *BACKENDS):
        drop_small_frames(host)
    back_to_back()


def back_to_back():
    """Generator and balancer on one cable; the generator's end has the backends' addresses, too."""
    for host in (NEAR_GENERATOR, NEAR_LB):
        ip("netns", "add", host)
    ip("link", "add", "eth0", "netns", NEAR_GENERATOR, "address", NEAR_GENERATOR_MAC,
       "type", "veth", "peer", "name", "eth0", "address", LB_MAC, "netns", NEAR_LB)
    for address in ("10.0.0.1", *BACKENDS.values()):
        ip("-n", NEAR_GENERATOR, "address", "add", f"{address}/24", "dev", "eth0")
    ip("-n", NEAR_LB, "address", "add", "10.0.0.2/24", "dev", "eth0")
    for host in (NEAR_GENERATOR, NEAR_LB):
        ip("-n", host, "link", "set", "lo", "up")
        ip("-n", host, "link", "set", "eth0", "up")
        drop_small_frames(host)


def drop_small_frames(host):
    """Small frames end at an interface, already counted or seen by a balancer: the IP stack is not measured."""
    if not shutil.which("nft"):
        return  # the bench skips small frames, then
    run(host, "nft", "table netdev bench { chain sink { "
        "type filter hook ingress device eth0 priority 0; udp dport 9 drop; }; }")


def ip(*words):
    """Runs ip(8); returns what it prints."""
    done = subprocess.run(["ip", *words], check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def run(host, *words, timeout=60, check=True):
    """Runs a command in a host to its end; returns it with its output."""
    return subprocess.run([LAB, "exec", host, *words], check=check, capture_output=True, text=True,
                          timeout=timeout)


def received(host):
    """Frames that a host's eth0 has received so far."""
    links = json.loads(ip("-n", host, "-j", "-s", "link", "show", "dev", "eth0"))
    return links[0]["stats64"]["rx"]["packets"]


def attached(host):
    """How an XDP program is attached to a host's eth0: native, generic, or None."""
    link = json.loads(ip("-n", host, "-j", "link", "show", "dev", "eth0"))[0]
    return {1: "native", 2: "generic"}.get(link.get("xdp", {}).get("mode"))


def gro(host, interface, on):
    """Switches GRO of an interface; on veth that is also how it comes to take frames from XDP_TX, by NAPI."""
    run(host, "ethtool", "-K", interface, "gro", "on" if on else "off")


def offloads(on):
    """Switches the offloads of every host on the segment: checksums, TSO, GSO; GRO is off for veth as it comes."""
    switch = "on" if on else "off"
    for host in SEGMENT:
        run(host, "ethtool", "-K", "eth0", "tx", switch, "tso", switch, "gso", switch, "gro", "off")


def forget_neighbour(host, address):
    """The next packet to this address asks by ARP."""
    ip("-n", host, "neighbour", "flush", "to", address, "dev", "eth0")


def set_neighbour(host, address, mac):
    """The host does not ask who has this address, for as long as entries last or until it is forgotten."""
    ip("-n", host, "neighbour", "replace", address, "lladdr", mac, "nud", "reachable", "dev", "eth0")


def mac_of(host, address, program, patience=8.0):
    """Who answers for an address, seen from a host; None if nobody does while the program runs."""
    end = time.monotonic() + patience
    while time.monotonic() < end and program.alive():
        run(host, "bash", "-c", f"echo >/dev/udp/{address}/7", check=False)
        time.sleep(0.1)
        with contextlib.suppress(RuntimeError):  # the kernel interrupts a list that changes meanwhile
            for entry in json.loads(ip("-n", host, "-j", "neighbour", "show", "to", address) or "[]"):
                if "lladdr" in entry:
                    return entry["lladdr"]
    return None


class Program:
    """A program that runs in a host until it is stopped; what it says goes to a file."""

    def __init__(self, host, words, cpu=None):
        self.words = words
        self.log = tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log", delete=False)
        pin = ["taskset", "-c", str(cpu)] if cpu is not None else []
        # Each of these replaces itself by the next, so that the process is the program.
        self.process = subprocess.Popen([LAB, "exec", host, *pin, *words], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=subprocess.STDOUT)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        os.unlink(self.log.name)

    def alive(self):
        """Whether it runs still."""
        return self.process.poll() is None

    def said(self):
        """The end of what it wrote."""
        return pathlib.Path(self.log.name).read_text(errors="replace")[-2000:].strip()

    def cpu_seconds(self):
        """CPU time of all its threads so far, user and system."""
        stat = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICK
