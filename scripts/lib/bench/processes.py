"""What /proc says of a program and all its processes: CPU time and memory."""

import contextlib
import os
import pathlib

CLOCK_TICK = os.sysconf("SC_CLK_TCK")


def tree(pid):
    """A process and all that descend from it, as process numbers."""
    parents = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found, fresh = [pid], {pid}
    while fresh:
        fresh = {child for child, parent in parents.items() if parent in fresh}
        found += fresh
    return found


def scheduled_seconds(pids):
    """Of all their threads, by the scheduler's clock in ns: time on a CPU, with what interrupts had of it, and time
    that they were ready and waited for one."""
    ran = waited = 0
    for pid in pids:
        for path in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            words = path.read_text().split()
            ran, waited = ran + int(words[0]), waited + int(words[1])
    return ran / 1e9, waited / 1e9


def user_seconds(pids):
    """The part of it outside the kernel, which the kernel estimates by its ticks."""
    total = 0
    for pid in pids:
        total += int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])
    return total / CLOCK_TICK


def softirq_seconds(cpu):
    """Time that a CPU spent in softirqs, of whomever, counted by ticks."""
    for line in pathlib.Path("/proc/stat").read_text().splitlines():
        words = line.split()
        if words[0] == f"cpu{cpu}":
            return int(words[7]) / CLOCK_TICK
    return 0.0


def resident_bytes(pids):
    """Memory that they have to themselves, pages shared by several counted once in all (Pss of smaps_rollup)."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
