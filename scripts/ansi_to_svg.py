"""Turns text with ANSI colours (standard input) into an SVG picture of a terminal (standard output).

It knows what `twinkeep` writes: the SGR codes 0, 1, 2, 31, 32, 33 and 36, one column for each character.
"""

import re
import sys
from xml.sax.saxutils import escape

COLUMN, LINE, MARGIN, SIZE = 8.4, 18, 16, 14
FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "36": "#76e3ea"}
SGR = re.compile(r"\x1b\[([0-9;]*)m")


def spans(line: str):
    """Yields the pieces of a line: first column, text, attributes."""
    column, style = 0, ""
    for index, piece in enumerate(SGR.split(line)):
        if index % 2:
            codes = piece.split(";")
            colour = next((COLOURS[code] for code in codes if code in COLOURS), None)
            style = f' fill="{colour}"' if colour else ' fill="#8b949e"' if "2" in codes else ""
            style += ' font-weight="bold"' if "1" in codes else ""
        elif piece:
            yield column, piece, style
            column += len(piece)


def main() -> None:
    lines = sys.stdin.read().rstrip("\n").split("\n")
    columns = max(len(SGR.sub("", line)) for line in lines)
    width, height = columns * COLUMN + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" viewBox="0 0 {width:.0f} {height}">')
    print('<rect width="100%" height="100%" rx="8" fill="#0d1117"/>')
    print(f'<g font-family="{FONT}" font-size="{SIZE}" fill="#e6edf3" xml:space="preserve">')
    for row, line in enumerate(lines):
        y = MARGIN + row * LINE + SIZE
        for column, text, style in spans(line):
            if text.strip():
                # The length is given, so that columns meet whatever font is there.
                x, length = MARGIN + column * COLUMN, len(text) * COLUMN
                print(f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs"{style}>{escape(text)}</text>')
    print("</g>\n</svg>")


main()
