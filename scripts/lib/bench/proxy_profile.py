"""Where pen-dsr's time goes under each load: symbols by perf(1), system calls per unit by strace(1)."""

import shutil
import signal
import subprocess

import candidates
import lab
import processes
from rounds import CannotRun, say
from proxy_measure import TARGET

SYMBOLS = 40
FREQUENCY = 1997  # samples per second


def profile(bench, metrics, ours):
    """Prints both for each metric."""
    for metric in metrics:
        if metric.load == "idle":
            continue
        for row in metric.rows:
            if row is candidates.DIRECT or (row is not ours and not bench.options.candidates):
                continue
            print(f"## {metric.title}: {row.name}\n", flush=True)
            try:
                for way in (perf, strace):
                    with bench.proxy(row, metric.mode, metric.server_port) as proxy:
                        way(bench, metric, processes.tree(proxy.process.pid))
            except CannotRun as why:
                say(f"{metric.title}: {row.name}: {why}")


def perf(bench, metric, pids):
    """The symbols that had the most of its time."""
    if not shutil.which("perf"):
        print("perf is missing: no symbols\n")
        return
    samples = str(bench.directory / "perf.data")
    with lab.Program("proxy", ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "-o", samples,
                               "-p", ",".join(map(str, pids))], bench.load_cpu) as recorder:
        measured = bench.load.run(metric, TARGET, bench.options.seconds)
        finish(recorder)
    words = ["perf", "report", "-i", samples, "--stdio", "--sort", "symbol,dso", "--percent-limit", "0.4"]
    listed = subprocess.run(words, check=False, capture_output=True, text=True).stdout.splitlines()
    lines = [line.rstrip() for line in listed if line.strip() and not line.startswith("#")]
    print(f"{measured['count']:,.0f} units\n")
    print("\n".join(lines[:SYMBOLS]) + "\n", flush=True)


def strace(bench, metric, pids):
    """System calls per unit; strace slows the proxy down, which makes its batches larger."""
    if not shutil.which("strace"):
        print("strace is missing: no system calls\n")
        return
    counts = bench.directory / "strace.txt"
    words = ["strace", "-f", "-c", "-S", "calls", "-o", str(counts)]
    for pid in pids:
        words += ["-p", str(pid)]
    with lab.Program("proxy", words, bench.load_cpu) as tracer:
        measured = bench.load.run(metric, TARGET, bench.options.seconds)
        finish(tracer)
    print(f"{measured['count']:,.0f} units; calls per unit:\n")
    for line in counts.read_text().splitlines():
        words = line.split()
        if len(words) >= 5 and words[3].isdigit():
            print(f"  {int(words[3]) / measured['count']:8.3f}  {words[-1]}"
                  + (f" ({int(words[4]) / measured['count']:.3f} failed)" if len(words) == 6 else ""))
    print(flush=True)


def finish(program):
    """Has it write what it found."""
    program.process.send_signal(signal.SIGINT)
    try:
        program.process.wait(20)
    except subprocess.TimeoutExpired:
        say(f"{program.words[0]} did not end")
