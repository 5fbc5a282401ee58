"""The machine that is measured on: what it is, which programs it has, and a larger share of it for this session."""

import contextlib
import os
import pathlib
import platform
import shutil
import subprocess

# program: Debian's package
PACKAGES = {"pen": "pen", "iperf3": "iperf3", "wrk": "wrk", "nginx": "nginx", "ethtool": "ethtool", "nft": "nftables",
            "haproxy": "haproxy", "h2load": "nghttp2-client", "openssl": "openssl"}


def described():
    """CPU and kernel, as lines of a Markdown list."""
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return [
        f"- machine: {model}, {os.cpu_count()} CPUs{', virtual' if is_virtual() else ''}",
        f"- kernel: {platform.system()} {platform.release()}",
    ]


def is_virtual():
    """Whether this runs on a virtual machine, as far as the CPU says."""
    return " hypervisor" in pathlib.Path("/proc/cpuinfo").read_text()


def missing(programs):
    """Debian's packages of the programs that are not here."""
    return [PACKAGES[program] for program in programs if not shutil.which(program)]


def versions(packages):
    """Names and versions of Debian packages, those that aren't here left out."""
    return ", ".join(filter(None, map(version, packages)))


def version(package):
    """Name and version of a Debian package, or nothing where it isn't one."""
    found = answer(["dpkg-query", "-W", "-f", "${Version}", package])
    return f"{package} {found}" if found else ""


def answer(words):
    """What a command prints; nothing if it fails."""
    try:
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@contextlib.contextmanager
def raised_autogroup():
    """With sched_autogroup, a busy neighbour session takes half the machine: raise this one's group, if allowed."""
    path = pathlib.Path("/proc/self/autogroup")
    try:
        nice = path.read_text().split()[-1]
        path.write_text("-15")
    except (OSError, IndexError):
        nice = None
    try:
        yield
    finally:
        if nice is not None:
            with contextlib.suppress(OSError):
                path.write_text(nice)
