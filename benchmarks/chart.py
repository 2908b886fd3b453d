"""Draws what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from itertools import count
from pathlib import Path

# The page gives the colour of the text and the accent, light or dark. The width is that of a phone.
_WIDTH, _ROW, _BAR, _NUMBERS = 440, 42, 14, 80
_HEAD = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="jwt-{name}-title jwt-{name}-desc" \
font-family="inherit" font-size="14" fill="currentColor" style="display:block;width:100%;max-width:36rem;height:auto">
  <title id="jwt-{name}-title">{title}</title>
  <desc id="jwt-{name}-desc">{description}</desc>
"""
_BARS = """\
  <text x="0" y="{text_y}">{label}</text>
  <rect x="0" y="{bar_y}" width="{length:.1f}" height="{bar}" rx="2" {colour}/>
  <text x="{number_x:.1f}" y="{number_y}">{time:,.0f} µs</text>
"""
_OURS = 'style="fill:var(--sy-c-link, #3b82c4)"'
_OTHERS = 'opacity=".35"'


def draw(path: Path, title: str, times: Mapping[str, float], *, ours: set[str]) -> None:
    """Write a bar chart as SVG, to be put into a page as it is.

    Args:
        path: Where to.
        title: What is drawn.
        times: Microseconds by name, from top to bottom.
        ours: Which of the bars are of this package.
    """
    scale = (_WIDTH - _NUMBERS) / max(times.values())
    description = ". ".join(f"{name}: {time:,.0f} µs" for name, time in times.items())
    head = _HEAD.format(
        width=_WIDTH, height=len(times) * _ROW, name=path.stem, title=escape(title), description=escape(description)
    )
    bars = (
        _BARS.format(
            text_y=top + 14,
            label=escape(name),
            bar_y=top + 20,
            length=time * scale,
            bar=_BAR,
            colour=_OURS if name in ours else _OTHERS,
            number_x=time * scale + 8,
            number_y=top + 32,
            time=time,
        )
        for top, (name, time) in zip(count(0, _ROW), times.items(), strict=False)
    )
    path.write_text(f"{head}{''.join(bars)}</svg>\n", encoding="utf-8")
