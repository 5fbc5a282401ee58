"""Horizontal bars as SVG text, one panel a metric, each panel on its own scale."""

import html

WIDTH, MARGIN, LABEL, VALUE, BAR, GAP, PANEL = 760, 24, 140, 90, 16, 5, 26


def svg(title, panels):
    """The chart; a panel is its heading, its unit, and bars: row, value or None, text of the value."""
    y = MARGIN + 34
    parts = [text(MARGIN, MARGIN + 10, title, size=18, weight="bold")]
    longest = WIDTH - 2 * MARGIN - LABEL - VALUE
    for heading, unit, bars in panels:
        y += PANEL
        parts.append(text(MARGIN, y, f"{heading} ({unit})", size=14, weight="bold"))
        y += 10
        scale = max([value for _, value, _ in bars if value] or [1])
        for row, value, label in bars:
            length = max(1, round((value or 0) / scale * longest))
            parts.append(text(MARGIN + LABEL - 8, y + BAR - 4, row.name, anchor="end"))
            parts.append(f'<rect x="{MARGIN + LABEL}" y="{y}" width="{length}" height="{BAR}" fill="{row.colour}"/>')
            parts.append(text(MARGIN + LABEL + length + 8, y + BAR - 4, label))
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
