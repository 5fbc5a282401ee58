"""scripts/bench proxy: pen-dsr as a proxy beside Debian's haproxy, nginx and pen, interleaved; run by scripts/bench.

What counts is CPU time of the proxy per unit of work. The proxy has a CPU for itself; the client and the server share
another one. Every round measures every candidate of a metric one after the other, each round in another order.
"""

import argparse
import dataclasses
import pathlib
import sys
import tempfile
import time

import cables
import candidates
import machine
import proxy_load
import proxy_metrics
import proxy_profile
import proxy_report
import rounds
from proxy_measure import Bench
from rounds import hyphened


def main():
    """Measures all, prints the report, writes it if asked."""
    options = arguments()
    load_cpu, proxy_cpu = rounds.begin()
    chosen = list(chosen_metrics(options))
    with tempfile.TemporaryDirectory(prefix="bench-") as name, machine.raised_autogroup():
        directory = pathlib.Path(name)
        directory.chmod(0o755)  # workers may be other users
        bench = Bench(options, directory, load_cpu=load_cpu, proxy_cpu=proxy_cpu)
        bench.skip_absent(chosen)
        cables.up()
        proxy_load.prepare(directory)
        pages, rest = proxy_load.servers(directory, load_cpu)
        with pages, rest:
            while "ready" not in rest.said() and rest.alive():
                time.sleep(0.05)
            if options.profile:
                proxy_profile.profile(bench, chosen, options.ours)
                return 0
            bench.measure_all(chosen)
    rounds.publish("proxy", *proxy_report.of_proxy(bench, chosen, options), options)
    return 1 if bench.broken else 0


def arguments():
    """The command line."""
    known = [candidates.DIRECT, candidates.HAPROXY, candidates.HAPROXY_SPLICE, candidates.NGINX, candidates.PEN]
    parser = argparse.ArgumentParser(prog="scripts/bench proxy", description=__doc__.split("\n\n", maxsplit=1)[0])
    rounds.add_options(parser, "proxy", "candidate")
    parser.add_argument("--only", action="append", metavar="METRIC", choices=[m.key for m in proxy_metrics.METRICS],
                        help="only these metrics (repeatable): %(choices)s")
    parser.add_argument("--candidates", type=lambda text: text.split(","), metavar="NAME,...",
                        help=f"only these: {','.join(map(hyphened, known))},pen-dsr, and those of --extra")
    parser.add_argument("--extra", action="append", default=[], metavar="NAME=COMMAND",
                        help="one more candidate for plain TCP, its addresses given as {listen} and {server}")
    parser.add_argument("--profile", action="store_true",
                        help="instead: where pen-dsr's time goes (perf), and its system calls per unit (strace)")
    parser.add_argument("--pen-dsr", required=True, help=argparse.SUPPRESS)
    options = rounds.parse(parser)
    options.extras = []
    for text in options.extra:
        name, equals, template = text.partition("=")
        if not (name and equals and template):
            parser.error(f"--extra {text}: NAME=COMMAND is wanted")
        options.extras.append(candidates.Extra(name, "#8b7fd1", template=template, modes=(candidates.TCP,)))
    options.ours = candidates.PenDsr(candidates.OURS_NAME, candidates.OURS_COLOUR, path=options.pen_dsr)
    names = {hyphened(row) for row in [*known, options.ours, *options.extras]}
    if set(options.candidates or []) - names:
        parser.error(f"--candidates: there are {', '.join(sorted(names))}")
    return options


def chosen_metrics(options):
    """The metrics that are to be measured, with those candidates that are."""
    for metric in proxy_metrics.METRICS:
        if options.only and metric.key not in options.only:
            continue
        rows = [candidates.DIRECT] if metric.direct else []
        rows += [candidates.HAPROXY, *([candidates.HAPROXY_SPLICE] if metric.splice else []), candidates.NGINX,
                 candidates.PEN, options.ours, *options.extras]
        rows = tuple(row for row in rows if metric.mode in row.modes
                     and (not options.candidates or hyphened(row) in options.candidates))
        if rows:
            yield dataclasses.replace(metric, rows=rows)


if __name__ == "__main__":
    sys.exit(main())
