"""The page in a real browser: nothing overflows, nothing is missing, nobody complains."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import needs
from tests.support.bench_results import made_report
from thinfs.bench import page

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

WIDTH = 1280
PROBE = """
<script>
addEventListener("load", () => {
  const box = element => {
    const r = element.getBoundingClientRect();
    return [r.left, r.top, r.right, r.bottom];
  };
  const all = s => [...document.querySelectorAll(s)].map(box);
  const colour = e => getComputedStyle(e)[e instanceof SVGElement ? "fill" : "color"];
  const found = {
    width: document.documentElement.scrollWidth,
    paper: getComputedStyle(document.body).backgroundColor,
    ink: colour(document.body),
    bars: all("svg.waterfall rect.lane, svg.waterfall rect.phase"),
    waits: all("svg.waterfall rect.wait").length,
    picture: box(document.querySelector("svg.waterfall")),
    pictures: all("svg"),
    labels: all("svg.waterfall text.label, svg.waterfall text.path"),
    figures: all("svg.waterfall text.figure"),
    fills: [...new Set([...document.querySelectorAll("rect")].map(colour))],
    cards: all(".card"),
  };
  const result = document.createElement("pre");
  result.id = "result";
  result.textContent = JSON.stringify(found);
  document.body.append(result);
});
</script></body>
"""


def opened(folder: Path, *, dark: bool = False) -> dict[str, Any]:
    """What the page measures of itself when it is loaded."""
    browser = needs.command("chromium")
    text = page.render(made_report())
    if dark:  # headless browsers have no setting for it
        text = text.replace("(prefers-color-scheme: dark)", "all")
    file = folder / "page.html"
    file.write_text(text.replace("</body>", PROBE))
    command = [
        *(browser, "--headless", "--disable-gpu", f"--user-data-dir={folder}/profile"),
        *("--no-sandbox" if os.geteuid() == 0 else "--incognito", f"--window-size={WIDTH},900"),
        *("--enable-logging=stderr", "--dump-dom", file.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    said = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    assert said == []
    match = re.search(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-500:]
    found: dict[str, Any] = json.loads(match[1].replace("&amp;", "&"))
    return found


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return opened(tmp_path_factory.mktemp("light"))


def test_the_page_fits_the_window(light: dict[str, Any]) -> None:
    assert light["width"] <= WIDTH
    assert all(0 <= left < right <= WIDTH for left, _, right, _ in light["pictures"])


def test_every_bar_is_drawn_inside_the_picture(light: dict[str, Any]) -> None:
    left, top, right, bottom = light["picture"]
    bars = light["bars"]
    assert len(bars) > 500
    assert light["waits"] > 90
    for x1, y1, x2, y2 in bars:
        assert x2 - x1 >= 0.5
        assert y2 - y1 >= 3
        assert left <= x1 <= x2 <= right
        assert top <= y1 <= y2 <= bottom


def test_labels_and_figures_beside_them_do_not_overlap(light: dict[str, Any]) -> None:
    texts = light["labels"] + light["figures"]
    for index, one in enumerate(texts):
        for other in texts[index + 1 :]:
            assert not _overlap(one, other), (one, other)


def test_labels_do_not_leave_the_picture(light: dict[str, Any]) -> None:
    assert all(left >= light["picture"][0] for left, _, _, _ in light["labels"])


def test_bars_of_one_kind_do_not_hide_each_other(light: dict[str, Any]) -> None:
    phases = sorted(light["bars"][:4])
    assert all(one[2] <= other[0] + 1.5 for one, other in itertools.pairwise(phases))


def test_dark_has_other_colours_and_the_same_picture(light: dict[str, Any], tmp_path: Path) -> None:
    dark = opened(tmp_path, dark=True)
    assert _brightness(light["paper"]) > 0.9
    assert _brightness(dark["paper"]) < 0.15
    assert _brightness(dark["ink"]) > 0.8
    assert dark["bars"] == light["bars"]
    assert not set(dark["fills"]) & set(light["fills"])


def _overlap(one: list[float], other: list[float]) -> bool:
    across = min(one[2], other[2]) - max(one[0], other[0])
    down = min(one[3], other[3]) - max(one[1], other[1])
    return across > 1 and down > 4


def _brightness(colour: str) -> float:
    red, green, blue = (int(part) for part in re.findall(r"\d+", colour)[:3])
    return (0.3 * red + 0.59 * green + 0.11 * blue) / 255
