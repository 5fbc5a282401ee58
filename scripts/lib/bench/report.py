"""The report of a bench: medians in a Markdown table, and a bar chart as SVG text."""

import html
import os
import pathlib
import platform
import shlex
import statistics
import subprocess

# metric, figure: heading, unit, divisor, digits, whether less is better
FIGURES = {
    ("frames", "rate"): ("frames forwarded", "kframes/s", 1e3, 0, False),
    ("frames", "offered"): ("frames offered", "kframes/s", 1e3, 0, False),
    ("frames", "cpu"): ("CPU per forwarded frame", "ns", 1, 0, True),
    ("near", "rate"): ("frames forwarded", "kframes/s", 1e3, 0, False),
    ("near", "offered"): ("frames offered", "kframes/s", 1e3, 0, False),
    ("near", "cpu"): ("CPU per forwarded frame", "ns", 1, 0, True),
    ("tcp", "bits"): ("rate", "Gbit/s", 1e9, 2, False),
    ("http", "requests"): ("requests", "1/s", 1, 0, False),
    ("http", "p50"): ("latency, median", "µs", 1, 0, True),
    ("http", "p99"): ("latency, 99 %", "µs", 1, 0, True),
}

DIRECT, PEN, PEN_DSR, PEN_DSR_SLEEPY = "direct", "pen", "pen-dsr", "pen-dsr sleeping"

NOTES = """\
- Every round measures all rows of a metric one after the other, each round in another order. A cell is the
  median over the rounds, with the least and the greatest in brackets; the last columns are the median, over the
  rounds, of pen-dsr's figure divided by pen's of the same round; for latency and CPU, less is better.
- All hosts are network namespaces of one machine, joined by veth and a bridge (scripts/lab), so a figure is a
  share of that machine's CPUs and not the speed of a link. Compare ratios, not figures of two machines.
- `direct` is the client straight to be1's own address, without a balancer: the ceiling of the set-up.
- Both balancers get the same words: one VIP and port, one protocol, two backends, hash of the client address.
  pen-dsr runs with its default packet driver; `pen-dsr sleeping` is the same with `--busy-poll 0`, which sleeps as
  soon as there is no frame, as pen does. The balancer has one CPU to itself; generator, clients and servers share
  another one, also in the rows without a balancer.
- Small frames: the generator (tests/tools/blast.rs) offers more than a balancer can take. Over the bridge it sends
  from the bridge's end of the balancer's cable, and the frames cross the bridge on their way to the backends;
  `direct` is the same generator from the client over the bridge. Backends drop the frames at their interface, and
  its counter is what is counted; the balancer's machine keeps them from its IP stack, with both balancers. Where
  `offered` is hardly more than `forwarded`, the generator is the limit. Back to back: generator and balancer on one
  cable, without the bridge's share of the CPU; what comes back to the generator is counted.
- CPU per frame is the balancer's own user and system time. On veth the sender also pays for what follows: the
  bridge and the receiver's interrupt work run in the balancer's time when it sends, and what receiving costs,
  up to the balancer's socket, runs in the generator's.
- Offloads on: as veth comes (checksum, TSO, GSO). pen forwards frames whose checksum is still unfinished as they
  are, and the receiver drops them; it also reads no more than 32000 bytes of a larger frame: no TCP connection
  comes about, which is the 0. Offloads off: `tx`, `tso`, `gso` and `gro` off on every host, so that pen works, too.
- wrk has one thread, and asks one nginx worker for a page of 2048 bytes over kept-alive connections. All its
  connections come from one address, so one backend serves them. With 1 connection a balancer that
  sleeps between two frames spends most of the time on being woken, which on a virtual machine takes long.
"""


def of_dsr(samples, skipped, metrics, options):
    """The report of scripts/bench dsr: Markdown text and SVG text."""
    lines = ["# Direct Server Return: pen-dsr and pen", "", *machine(options), "", "![Medians as bars](dsr.svg)", ""]
    panels = []
    for key, title, rows, _ in metrics:
        lines += ["## " + title, "", *table(key, rows, samples, skipped), ""]
        panels.append((title, *bars(key, rows, samples)))
    lines += ["## How to read this", "", NOTES.rstrip()]
    return "\n".join(lines), chart("Direct Server Return: pen-dsr and pen", panels)


def table(key, rows, samples, skipped):
    """One metric: a line for each figure, a column for each row of the bench."""
    ours = [row for row in rows if row not in (DIRECT, PEN)]
    head = ["", *rows, *(f"{row} : {PEN}" for row in ours)]
    lines = [markdown_row(head), markdown_row(["---", *["---:"] * (len(head) - 1)])]
    for (kind, figure), (heading, unit, divisor, digits, _) in FIGURES.items():
        if kind != key.split("-")[0]:
            continue
        cells = [f"{heading}, {unit}"]
        for row in rows:
            values = [s[figure] / divisor for s in samples.get((key, row), []) if figure in s]
            cells.append(skipped.get((key, row)) or cell(values, digits))
        lines.append(markdown_row([*cells, *(ratio(key, figure, samples, row) for row in ours)]))
    return lines


def cell(values, digits):
    """Median (least to greatest); a dash where there is nothing."""
    if not values:
        return "–"
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def ratio(key, figure, samples, row):
    """Median over the rounds of a row's figure divided by pen's."""
    if figure == "offered":
        return ""
    pairs = zip(samples.get((key, row), []), samples.get((key, PEN), []))
    quotients = [ours[figure] / theirs[figure] for ours, theirs in pairs
                 if figure in ours and theirs.get(figure)]
    return f"{statistics.median(quotients):.2f}" if quotients else "–"


def markdown_row(cells):
    """Cells between bars."""
    return "| " + " | ".join(cells) + " |"


def bars(key, rows, samples):
    """The first figure of a metric as bars: unit, and for each row its name, median or None, and text."""
    kind, figure = next(k for k in FIGURES if k[0] == key.split("-")[0])
    _, unit, divisor, digits, _ = FIGURES[kind, figure]
    found = []
    for row in rows:
        values = [s[figure] / divisor for s in samples.get((key, row), [])]
        middle = statistics.median(values) if values else None
        found.append((row, middle, "skipped" if middle is None else f"{middle:,.{digits}f}"))
    return unit, found


def machine(options):
    """What was measured, on what, and how: lines of Markdown."""
    model = "unknown CPU"
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    words = ["scripts/bench", "dsr", "--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    for metric in options.only or []:
        words += ["--only", metric]
    return [
        f"`{shlex.join(words)}`",
        "",
        f"- machine: {model}, {os.cpu_count()} CPUs{', virtual' if is_virtual() else ''}",
        f"- kernel: {platform.system()} {platform.release()}",
        f"- programs: {', '.join(filter(None, map(version, ['pen', 'iperf3', 'wrk', 'nginx'])))}; "
        f"{answer([options.pen_dsr, '--version']) or 'pen-dsr'}",
    ]


def is_virtual():
    """Whether this runs on a virtual machine, as far as the CPU says."""
    return " hypervisor" in pathlib.Path("/proc/cpuinfo").read_text()


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


COLOURS = {DIRECT: "#9aa5b1", PEN: "#d9822b", PEN_DSR: "#1f6feb", PEN_DSR_SLEEPY: "#7fb0f5"}
WIDTH, MARGIN, LABEL, VALUE, BAR, GAP, PANEL = 760, 24, 100, 90, 18, 6, 26


def chart(title, panels):
    """Horizontal bars, one panel a metric, each panel on its own scale."""
    y = MARGIN + 34
    parts = [text(MARGIN, MARGIN + 10, title, size=18, weight="bold")]
    longest = WIDTH - 2 * MARGIN - LABEL - VALUE
    for heading, unit, rows in panels:
        y += PANEL
        parts.append(text(MARGIN, y, f"{heading} ({unit})", size=14, weight="bold"))
        y += 10
        scale = max([value for _, value, _ in rows if value] or [1])
        for row, value, label in rows:
            length = max(1, round((value or 0) / scale * longest))
            parts.append(text(MARGIN + LABEL - 8, y + BAR - 5, row, anchor="end"))
            parts.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{length}" height="{BAR}" fill="{COLOURS[row]}"/>')
            parts.append(text(MARGIN + LABEL + length + 8, y + BAR - 5, label))
            y += BAR + GAP
    height = y + MARGIN
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{html.escape(title)}" font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        *parts,
        "</svg>",
        "",
    ])


def text(x, y, words, size=13, weight="normal", anchor="start"):
    """One line of text in the chart."""
    return (f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" text-anchor="{anchor}" '
            f'fill="#1f2933">{html.escape(words)}</text>')
