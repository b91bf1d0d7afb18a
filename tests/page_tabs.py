"""A page in a tab of the browser: when it is ready, what it holds, and its controls."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Tab

SCREENS = {
    "laptop": (1440, 900, 1),
    "projector": (1024, 768, 1),
    "twice": (720, 450, 2),  # 1440x900 at 200 %
    "phone": (390, 844, 3),
}
"""Width, height and pixels of the device for one of CSS."""

READY = "document.querySelector('#maps').getAttribute('aria-busy') === 'false'"


def complaints(tab: Tab) -> list[object]:
    said = tab.events("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
    # That canvases are read back slowly is advice on the tests' own doing.
    return [event for event in said if "willReadFrequently" not in str(event)]


def manifest_of(out: Path) -> dict:
    found = re.search(r'id="manifest">(.*?)</script>', out.read_text(encoding="utf-8"))
    assert found is not None
    return json.loads(found.group(1))


def pixels_of(tab: Tab, selector: str) -> np.ndarray:
    """What a canvas holds, uint8 (H, W, 4)."""
    height, width, data = tab.run(
        f"(() => {{ const c = document.querySelector({json.dumps(selector)});"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "let s = ''; for (const v of d) s += String.fromCharCode(v);"
        "return [c.height, c.width, btoa(s)]; })()"
    )
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, width, 4)


def choose(tab: Tab, name: str, value: str | bool) -> None:
    """Sets a control, as a hand would."""
    field = "checked" if isinstance(value, bool) else "value"
    tab.run(
        f"(() => {{ const e = document.querySelector('#{name}'); e.{field} = {json.dumps(value)};"
        "for (const kind of ['input', 'change']) e.dispatchEvent(new Event(kind, {bubbles: true}));"
        "})()"
    )
    tab.wait(READY)


def frame(tab: Tab) -> int:
    tab.wait(READY)
    return int(tab.run("document.querySelector('#maps').dataset.frame"))


def axe() -> str:
    """The source of axe-core, from the package that brings it."""
    spec = importlib.util.find_spec("axe_playwright_python")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("axe-playwright-python is not installed: the page was not checked by axe")
    return (Path(next(iter(spec.submodule_search_locations))) / "axe.min.js").read_text("utf-8")


def axe_findings(tab: Tab) -> list[list[object]]:
    """What axe-core has to say of the page as it is shown."""
    source = axe()
    tab.run(f"if (!window.axe) (() => {{ {source}; }})()")
    found: list[list[object]] = tab.run(
        "axe.run().then(({violations, passes}) => [...violations, ...(passes.length > 20 ? []"
        ": [{id: 'nothing was checked', nodes: []}])].map(({id, nodes}) =>"
        "[id, nodes.map(({html}) => html.slice(0, 120))]))"
    )
    return found
