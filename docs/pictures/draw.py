#!/usr/bin/env python3
"""Draw session.svg (side by side) and session-narrow.svg (for phones) from session.txt.

Only the standard library; the pictures need no script and no font but what every browser has.
"""

from html import escape
from pathlib import Path

HERE = Path(__file__).parent
#: As wide as the terminal that record.py records.
COLUMNS = 72
FONT, LINE = 13, 17
#: What DejaVu Sans Mono and its like take for a character; each line is fitted to it.
ADVANCE = FONT * 0.602
PANEL = round(COLUMNS * ADVANCE) + 32
#: Which step of the map a typed line is about.
STEPS = (
    ("ssh alice@bastion.example.org›", 1),
    ("ls›", 2),
    ("ssh alice@bastion.example.org '", 3),
    ("rsync", 3),
    ("sftp alice", 4),
)

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: #1f2937 }
.t { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d1d5db; white-space: pre }
.typed { fill: #ffffff; font-weight: bold }
.dim { fill: #9ca3af }
.h { font-weight: bold; font-size: 14px }
.s { font-size: 12px; fill: #4b5563 }
.n { font-weight: bold; font-size: 12px; fill: #ffffff; text-anchor: middle }
"""


def number(x, y, step):
    """A step's number in a circle, centred at x, y."""
    return f'<circle cx="{x}" cy="{y}" r="9" fill="#c2570c"/><text class="n" x="{x}" y="{y + 4}">{step}</text>'


def terminal_lines(text):
    """(step or None, [(typed?, text)]) for each row of the terminal, long lines broken as it does."""
    for line in text.splitlines():
        step = next((step for mark, step in STEPS if f"‹{mark}" in line), None)
        cells, typed = [], False
        for character in line:
            if character in "‹›":
                typed = character == "‹"
            else:
                cells.append((typed, character))
        for start in range(0, max(len(cells), 1), COLUMNS):
            runs = []
            for is_typed, character in cells[start : start + COLUMNS]:
                if not runs or runs[-1][0] != is_typed:
                    runs.append([is_typed, ""])
                runs[-1][1] += character
            yield step, runs
            step = None


def terminal(text, x, y):
    """The terminal's panel at x, y, and its height."""
    rows = list(terminal_lines(text))
    height = len(rows) * LINE + 52
    parts = [f'<rect x="{x}" y="{y}" width="{PANEL}" height="{height}" rx="8" fill="#111827"/>']
    for place, colour in enumerate(("#ef4444", "#f59e0b", "#10b981")):
        parts.append(f'<circle cx="{x + 18 + 18 * place}" cy="{y + 16}" r="5" fill="{colour}"/>')
    for row, (step, runs) in enumerate(rows):
        baseline, column = y + 48 + row * LINE, 0
        for is_typed, shown in runs:
            if shown.strip():
                left = round(x + 16 + column * ADVANCE, 1)
                kind = "t typed" if is_typed else "t dim" if shown.startswith("Starting your server") else "t"
                parts.append(
                    f'<text class="{kind}" x="{left}" y="{baseline}" xml:space="preserve" '
                    f'textLength="{len(shown) * ADVANCE:.1f}">{escape(shown)}</text>'
                )
            column += len(shown)
        if step:
            parts.append(number(x + PANEL - 18, baseline - 5, step))
    return parts, height


def box(x, y, width, height, heading, *lines, fill="#ffffff", step=()):
    """A box with a heading, lines of small print, and the numbers of steps at its right."""
    parts = [
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="{fill}" stroke="#9ca3af"/>',
        f'<text class="h" x="{x + 12}" y="{y + 20}">{escape(heading)}</text>',
    ]
    parts += [
        f'<text class="s" x="{x + 12}" y="{y + 38 + 16 * row}">{escape(line)}</text>' for row, line in enumerate(lines)
    ]
    return parts + [number(x + width - 18 - 22 * place, y + 16, one) for place, one in enumerate(reversed(step))]


def arrow(x, top, bottom, label):
    """An arrow downwards with a label at its right."""
    return [
        f'<path d="M{x} {top}V{bottom - 2}" stroke="#4b5563" stroke-width="1.5" marker-end="url(#end)"/>',
        f'<text class="s" x="{x + 10}" y="{(top + bottom) // 2 + 4}">{escape(label)}</text>',
    ]


def placed(x, y, width):
    """What runs where, at x, y; and its height."""
    inner, half = width - 24, (width - 36) // 2
    return [
        *box(x, y, width, 50, "Your machine", "ssh, sftp, scp, rsync, git … nothing to install"),
        *arrow(x + 30, y + 50, y + 80, "SSH, port 22"),
        *box(x, y + 80, width, 244, "The bastion: Debian with this package", fill="#eef2ff"),
        *box(
            x + 12,
            y + 112,
            inner,
            66,
            "sshd, the distribution’s own",
            "its PAM module asks for the token or, after a key,",
            "has the hub make one",
            step=(1,),
        ),
        *box(
            x + 12,
            y + 188,
            half,
            124,
            "jail",
            "one for each connection:",
            "the session program and",
            "sftp-server, no shell,",
            "no network, and the",
            "home from the hub’s share",
            step=(4,),
        ),
        *box(
            x + 24 + half,
            y + 188,
            half,
            124,
            "gateway",
            "one for each connection:",
            "holds the token, without",
            "privileges; starts the",
            "server, carries terminals",
            "and commands",
            step=(2, 3),
        ),
        *arrow(x + 40 + half, y + 324, y + 354, "HTTPS, WebSocket"),
        *box(
            x, y + 354, width, 50, "JupyterHub and its proxy", "whose token is it? may it open this server?", step=(1,)
        ),
        *arrow(x + 30, y + 404, y + 434, "WebSocket"),
        *box(
            x,
            y + 434,
            width,
            82,
            "Alice’s own Jupyter server",
            "Terminado, the terminals that Jupyter has anyway;",
            "in one of them our agent: Python, sent at the login,",
            "which runs her shell and her commands",
            step=(2, 3),
        ),
    ], 516


def picture(name, width, height, parts):
    """Write an SVG file."""
    start = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        ' aria-label="A recorded session in a terminal, and what runs where">'
    )
    head = (
        '<defs><marker id="end" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#4b5563"/></marker></defs>'
    )
    ground = f'<rect width="{width}" height="{height}" rx="12" fill="#f3f4f6"/>'
    (HERE / name).write_text("\n".join([start, f"<style>{STYLE}</style>", head, ground, *parts, "</svg>", ""]))


def main():
    text = (HERE / "session.txt").read_text()
    margin, side = 16, 400
    shown, height = terminal(text, margin, margin)
    there, other = placed(margin * 2 + PANEL, margin, side)
    picture("session.svg", margin * 3 + PANEL + side, max(height, other) + margin * 2, shown + there)
    there, other = placed(margin, margin * 2 + height, PANEL)
    picture("session-narrow.svg", margin * 2 + PANEL, height + other + margin * 3, shown + there)


if __name__ == "__main__":
    main()
