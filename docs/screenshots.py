"""Pictures of every page of a lab for the documents: light, dark, and on a phone.

    python docs/screenshots.py LAB

They go into `docs/screens`, a file for each page and way of looking. A lab of `agentlab demo` has something on every
page. It needs Chromium and what `make setup-browser` installs.
"""

from __future__ import annotations

import base64
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent / "screens"
WAYS = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (360, 780, "light")}
COLOURS = 128
"""Of a picture, at most: text on a plain ground needs no more, and takes a third of the room."""

PIXELS = """async (url) => {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  const canvas = new OffscreenCanvas(picture.width, picture.height);
  const drawing = canvas.getContext("2d");
  drawing.drawImage(picture, 0, 0);
  const data = drawing.getImageData(0, 0, picture.width, picture.height).data;
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return [picture.width, picture.height, btoa(text)];
}"""

SERVE = "from agentlab.cli import main; main()"


@contextmanager
def served(lab: Path) -> Iterator[str]:
    """The address of the lab's screens."""
    command = [sys.executable, "-u", "-c", SERVE, "view", "--lab", str(lab), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+/", process.stdout.readline())
        assert found is not None, "the server did not start"
        yield found[0].rstrip("/")
    finally:
        process.terminate()
        process.wait()


def pages(page: Any, address: str) -> Iterator[tuple[str, str]]:
    """The name and the address of each page: those of the navigation, and the first that each list leads to."""
    page.goto(address)
    for tab in page.eval_on_selector_all('nav[aria-label="Pages"] a', "all => all.map(one => one.href)"):
        name = tab.rsplit("/", 1)[1] or "home"
        yield name, tab
        if name == "home":
            continue
        page.goto(f"{tab}?arm=base+%2B+memory&sort=steps" if name == "episodes" else tab)
        below = f"main [data-rows] a[href^='/{name}/'], main a[href^='/{name}/']"
        links = page.eval_on_selector_all(below, "all => all.map(one => one.href)")
        if links:
            shown = {"episodes": "replay", "memory": "reflection"}.get(name, name.removesuffix("s"))
            yield shown, f"{links[0]}?step=1" if shown == "replay" else links[0]


def small(picture: bytes, page: Any) -> bytes:
    """A PNG file with few colours; `page` reads the one that Chromium made."""
    width, height, data = page.evaluate(PIXELS, "data:image/png;base64," + base64.b64encode(picture).decode())
    pixels = np.frombuffer(base64.b64decode(data), np.uint8).reshape(-1, 4)[:, :3].astype(np.int32)
    names, places, counts = np.unique(pixels @ (65536, 256, 1), return_inverse=True, return_counts=True)
    colours = np.stack([names >> 16, names >> 8 & 255, names & 255], axis=1)
    # The most frequent one of each kind, so that a rare red is not taken for grey.
    frequent = np.argsort(-counts)
    _, first = np.unique((colours[frequent] >> 3) @ (1024, 32, 1), return_index=True)
    kept = colours[frequent[np.sort(first)[:COLOURS]]]
    nearest = ((colours[:, None] - kept[None]) ** 2).sum(-1).argmin(1).astype(np.uint8)
    lines = np.pad(nearest[places].reshape(height, width), ((0, 0), (1, 0)))  # before each line its filter: none
    found = b"\x89PNG\r\n\x1a\n"
    for name, content in (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
        (b"PLTE", kept.astype(np.uint8).tobytes()),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    ):
        found += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return found


def main() -> None:
    """Write them."""
    browser_path = shutil.which("chromium")
    HERE.mkdir(exist_ok=True)
    with served(Path(sys.argv[1])) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        found = list(pages(browser.new_page(), address))
        reader = browser.new_page()
        for way, (width, height, scheme) in WAYS.items():
            context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            for name, target in found:
                page.goto(target)
                page.wait_for_load_state("networkidle")
                (HERE / f"{name}-{way}.png").write_bytes(small(page.screenshot(), reader))
        browser.close()


if __name__ == "__main__":
    main()
