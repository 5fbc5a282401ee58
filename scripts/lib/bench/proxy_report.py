"""The report of scripts/bench proxy: Markdown with the medians, the aims and what a reader has to know."""

import pathlib
import shlex
import statistics

import chart
import machine
import proxy_metrics
import report
from candidates import DIRECT

TITLE = "The proxy: pen-dsr, haproxy, nginx and pen"
# On an idle machine a proxy waits for what the kernel does in threads of its own only; that is this at most.
IDLE_WAITED = 0.05
CONGESTION = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")  # that new namespaces have, too
NOTES = pathlib.Path(__file__).with_name("proxy-notes.md")


def of_proxy(bench, metrics, options):
    """Markdown text and SVG text."""
    lines = ["# " + TITLE, "", *circumstances(bench, options), "", "![Medians as bars](proxy.svg)", "", "## Aims", "",
             *aims(bench, metrics, options.ours), ""]
    panels = []
    for metric in metrics:
        lines += ["## " + metric.title, "", *report.table(bench, metric, metric.figures), ""]
        failed = [f"- {name}: {count} requests failed" for (name, title), count in bench.errors.items()
                  if title == metric.title]
        lines += [*failed, *([""] if failed else [])]
        figure = metric.figures[0]
        unit, found = report.bars(bench.samples, metric, figure)
        found = [bar for bar in found if bar[0] is not DIRECT or bar[1] is not None]  # no proxy has no CPU time
        panels.append((f"{metric.title}: {figure.heading}", unit, found))
    lines += ["## How to read this", "", NOTES.read_text().rstrip()]
    return "\n".join(lines), chart.svg(TITLE, panels)


def aims(bench, metrics, ours):
    """A line for each aim, computed from this run's samples; twice, in units and beside the peer."""
    lines = [report.markdown_row(["aim", "wanted", "this run", "", "beside the peer", "this run", ""]),
             report.markdown_row(["---", "---", "---:", "---", "---", "---:", "---"])]
    keys = [metric.key for metric in metrics]
    for aim in proxy_metrics.AIMS:
        median, ratio, peer = aim.outcome(bench, ours) if aim.metric in keys else (None, None, "peer")
        lines.append(report.markdown_row([
            aim.title, aim.wanted, "–" if median is None else f"{median:.{1 if median < 100 else 0}f}",
            verdict(median, aim.most), f"at most {aim.wanted_ratio:.2f} × {peer}",
            "–" if ratio is None else f"{ratio:.2f}", verdict(ratio, aim.wanted_ratio)]))
    share = waited(bench)
    if share > IDLE_WAITED:
        lines += ["", f"**The machine was not idle:** the proxies waited {share * 100:.0f} % of the time for their CPU "
                  "while others had it. Their figures are too high; ratios are less wrong."]
    return lines


def waited(bench):
    """Median share of the time that proxies were ready and did not run."""
    found = [s["waited"] for rounds in bench.samples.values() for s in rounds.values() if "waited" in s]
    return statistics.median(found) if found else 0.0


def verdict(measured, most):
    """In words."""
    if measured is None:
        return "not measured"
    return "met" if measured <= most else "**not met**"


def circumstances(bench, options):
    """What was measured, on what, and how: lines of Markdown."""
    words = ["scripts/bench", "proxy", "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    for name in options.only or []:
        words += ["--only", name]
    if options.candidates:
        words += ["--candidates", ",".join(options.candidates)]
    for text in options.extra:
        words += ["--extra", text]
    agreed = "; ".join(f"{name} {what}" for name, what in bench.agreed.items())
    return [
        f"`{shlex.join(words)}`",
        "",
        *machine.described(),
        f"- programs: {machine.versions(['haproxy', 'nginx', 'pen', 'wrk', 'nghttp2-client', 'openssl'])}; "
        f"{machine.answer([options.pen_dsr, '--version']) or 'pen-dsr'}",
        f"- the proxy on CPU {bench.proxy_cpu}, client and server on CPU {bench.load_cpu}; three network namespaces "
        f"joined by two cables (veth); congestion control {CONGESTION.read_text().strip()}",
        *([f"- TLS: {agreed}"] if agreed else []),
        *([f"- HTTP: {'; '.join(f'{name} {http(*what)}' for name, what in bench.seen.items())}"] if bench.seen else []),
    ]


def http(forwarded, reused):
    """What a candidate did with four requests over two connections, the last one pipelined, in words."""
    which = "every request"
    if not all(forwarded):
        which = "every request but pipelined ones" if all(forwarded[:3]) else f"{sum(forwarded)} of 4 requests"
    return f"X-Forwarded-For on {which}, connections to the server {'' if reused else 'not '}reused"
