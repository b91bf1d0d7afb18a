"""The cases: what is asked of a public face, by name, in groups of a file each."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

import record
import replay

from .faces import (
    Document,
    Seen,
    arrays,
    command,
    command_apart,
    hdf5,
    html,
    pictures,
    sha256,
    video,
)


@dataclass(frozen=True)
class Case:
    """One thing that a user may ask for.

    Attributes:
        name: Its name in the frozen results.
        run: Does it in the current folder, which holds the recordings; what came of it.
        needs: A package without which it cannot be run.
    """

    name: str
    run: Callable[[Seen], Document]
    needs: str | None = None

    @property
    def possible(self) -> bool:
        """Whether what it needs is installed."""
        return self.needs is None or importlib.util.find_spec(self.needs) is not None


def _result(made: Any) -> Document:
    """The public fields of what a function returned, but for times and sizes of files."""
    fields = {name: getattr(made, name) for name in dir(made) if not name.startswith("_")}
    found = {}
    for name, value in fields.items():
        if name in ("seconds", "bytes") or callable(value):
            continue
        if isinstance(value, Path):
            value = value.as_posix()
        elif isinstance(value, (tuple, list)):
            value = [str(each) if isinstance(each, Path) else each for each in value]
        found[name] = value
    return found


def _animate(seen: Seen, runs: Any, out: str, **options: Any) -> Document:
    made = replay.animate(runs, out, **options)
    found = {**_result(made), **_shown(made.path, seen)}
    stem = made.path.with_suffix("") if made.path.is_file() else made.path
    for suffix in (".alt.txt", ".poster.png"):
        beside = stem.with_name(stem.name + suffix)
        if suffix == ".alt.txt" and options.get("alt"):
            found["alt file"] = sha256(beside.read_text(encoding="utf-8"))
        elif suffix == ".poster.png" and options.get("poster"):
            found["poster"] = pictures(beside, seen)["sha256"]
    return found


def _compare(seen: Seen, a: Any, b: Any, out: str, **options: Any) -> Document:
    made = replay.compare(a, b, out, **options)
    return {**_result(made), **_shown(made.path, seen)}


def _shown(path: Path, seen: Seen) -> Document:
    if path.suffix != ".mp4":
        return pictures(path, seen)
    return {"video": list(video(path).shape)}


def _near(seen: Seen, make: Callable[[str], Any]) -> Document:
    """An MP4 has what the numbered pictures have, as nearly as its codec keeps it."""
    film, folder = make("out.mp4"), make("frames/")
    exact = [np.asarray(Image.open(f).convert("RGB")) for f in sorted(folder.path.iterdir())]
    kept = video(film.path)
    for picture in exact:
        seen.add(picture)
    height, width = exact[0].shape[:2]
    off = np.abs(kept[:, :height, :width].astype("f4") - np.stack(exact)).mean((1, 2, 3))
    return {**_result(film), "video": list(kept.shape), "near": [bool(each < 4) for each in off]}


def _film(name: str, run: Any = "run.h5", out: str = "out/", **options: Any) -> Case:
    return Case(name, lambda seen: _animate(seen, run, out, **{"zoom": 2, **options}))


def _pair(name: str, b: str = "other.h5", out: str = "out/", **options: Any) -> Case:
    return Case(name, lambda seen: _compare(seen, "run.h5", b, out, **{"zoom": 2, **options}))


def _failing(name: str, call: Callable[[], Any]) -> Case:
    def run(seen: Seen) -> Document:
        call()
        raise AssertionError("expected an error, found none")

    return Case(f"error: {name}", run)


def _films() -> list[Case]:
    everything = "kernels,difference,histogram,loss"
    several = ["conv1", "conv2", "relu"]
    cases = [
        _film("plain", zoom=None),
        _film("gif", out="out.gif"),
        _film("gif fps", out="out.gif", fps=12, cmap="viridis", epochs="0:2"),
        _film("apng", out="out.apng", fps=7.5),
        _film("png", out="out.png", captions=False),
        _film("webp", out="out.webp", cmap="magma"),
        _film("two jobs", out="out.png", jobs=2),
        _film("two jobs gif", out="out.gif", jobs=2),
        *(_film(f"scale {scale}", scale=scale) for scale in ("epoch", "frame", "channel")),
        _film("scale run of several layers", layers="all", batches=0, zoom=None),
        _film("scale channel of several layers", layers=several, scale="channel", batches=-1),
        _film("clip", clip=(-0.5, 0.75), cmap="viridis"),
        _film("symmetric", symmetric=True, cmap="RdBu_r"),
        _film("symmetric frame", symmetric=True, scale="frame", layers="conv2"),
        _film("zoom 1", zoom=1, layers="conv2"),
        _film("zoom 5", zoom=5, layers="conv2", epochs=-1),
        _film("columns", columns=1, title="A title: <b>é</b> 鳥 $x$"),
        _film("long title", title="a very long heading " * 9, layers="conv2", epochs=0),
        _film("no input", input=False),
        _film("no captions", captions=False),
        _film("only maps", captions=False, input=False, columns=3),
        _film("dark", theme="dark", layers=several, show="loss"),
        _film("not finite", layers="odd"),
        _film("not finite, of each frame", layers="odd", scale="frame", theme="dark"),
        _film("rectified", layers="relu", cmap="inferno"),
        _film("volume", layers="volume"),
        _film("volume all", layers="volume", slices="all"),
        _film("volume slices", layers="volume", slices="-1,2", epochs=1),
        *(_film(f"tokens {t}", layers="tokens", tokens=t) for t in ("auto", "square", "strip")),
        _film("signal", layers="signal"),
        _film("vector", layers="vector", show="histogram"),
        _film("last", layers="last"),
        _film("last difference", layers="last", show="difference", zoom=3),
        _film("pooled", layers="pooled"),
        _film("odd name", layers="$x^2$*"),
        _film("globs", layers=["conv*", "relu"], channels="top:2"),
        _film("probe", probe=0, alt=True, poster=True),
        _film("probe 1", probe=1, show="difference,loss", theme="dark"),
        _film("probe of several layers", probe=0, layers="all", show=everything),
        _film("kernels", show="kernels"),
        _film("kernels of two layers", show=["kernels"], layers="conv*", cmap="viridis"),
        _film("difference", show="difference", epochs="1:"),
        _film("difference previous", show="difference:previous"),
        _film("histogram", show="histogram", cmap="viridis", scale="channel"),
        _film("histogram of each frame", show="histogram", scale="frame", layers=several),
        _film("loss", show="loss"),
        _film("everything", show=everything, layers=several, theme="dark"),
        _film("everything, default zoom", show=everything, zoom=None, batches=1),
        _film("similar", order="similar", layers="conv2"),
        _film("similar of many", "many.h5", order="similar", channels="top:8", show="histogram"),
        _film("many", "many.h5", zoom=None),
        _film("many top", "many.h5", channels="top:5"),
        _film("channels", channels="0,2-3", epochs="::2", batches="0,2"),
        _film("channels listed", channels=[3, 0], epochs=[0, -1]),
        _film("ranks", ["run.h5", "rank.h5"], layers=["conv1", "conv2"]),
        _film("ranks not alike", ["run.h5", "rank.h5"], show=everything, theme="dark"),
        _film("different runs", ["run.h5", "other.h5"]),
        _film("live", "live.h5"),
        _film("damaged", "damaged.h5", show="kernels", layers="conv*"),
        _film("pictures of several sizes", "grown.h5"),
        _film("max_mb", out="out.gif", max_mb=0.06, zoom=None),
        _film("max_mb and zoom", out="out.gif", max_mb=0.03, layers="conv2", fps=5),
        _film("max_mb too small", out="out.gif", max_mb=0.016, layers="all", fps=5, zoom=1),
        _film("preset github", out=None, preset="github", zoom=None, alt=True, poster=True),
        _film("preset paper", out=None, preset="paper", zoom=None, alt=True, layers="conv*"),
        _film("preset slack", out=None, preset="slack", zoom=None),
        _film("preset slides", out=None, preset="slides", zoom=None, theme="dark"),
        _film("mp4 of one frame", out="out.mp4", epochs=0, batches=0),
        Case("mp4", lambda seen: _near(seen, lambda out: replay.animate("run.h5", out, zoom=4))),
        Case(
            "mp4 of a comparison",
            lambda seen: _near(
                seen, lambda out: replay.compare("run.h5", "other.h5", out, difference=True, zoom=4)
            ),
        ),
    ]
    cases += [
        _pair("compare", zoom=None),
        _pair("compare difference", difference=True),
        _pair("compare gif", out="out.gif", difference=True, layers="conv*"),
        _pair("compare apng", out="out.png", difference=True, difference_cmap="PiYG", theme="dark"),
        _pair("compare all", layers="all", epochs=0, batches="1:"),
        _pair("compare scale frame", scale="frame", difference=True, layers="odd"),
        _pair("compare scale channel", scale="channel", layers="relu", difference=True),
        _pair("compare clip", clip=(-1, 1), cmap="viridis", title="é 鳥"),
        _pair("compare symmetric", symmetric=True, cmap="RdBu_r", columns=1, input=False),
        _pair("compare probe", probe=0, difference=True),
        _pair("compare volume", layers="volume", slices="all"),
        _pair("compare tokens", layers="tokens", tokens="strip", difference=True, zoom=3),
        _pair("compare ranks", "rank.h5", difference=True),
        _pair("compare damaged", "damaged.h5", difference=True, channels="top:2"),
        _pair("compare live", "live.h5"),
    ]
    return cases


def _figure(name: str, function: str, run: Any = "run.h5", **options: Any) -> Case:
    def draw(seen: Seen) -> Document:
        made = getattr(replay, function)(run, "out.png", **{"dpi": 60, **options})
        with Image.open(made.path) as image:
            said = {k: v for k, v in sorted(image.info.items()) if isinstance(v, str)}
        return {**_result(made), "said": said, **pictures(made.path, seen)}

    return Case(f"{function} {name}", draw)


def _drawn(name: str, **options: Any) -> Case:
    def draw(seen: Seen) -> Document:
        figure = Figure(figsize=(4, 3), dpi=60)
        canvas = FigureCanvasAgg(figure)
        image = replay.draw("run.h5", figure.subplots(), **options)
        figure.colorbar(image)
        canvas.draw()
        values = np.ma.filled(np.ma.asarray(image.get_array()), np.nan)
        return {
            "sha256": [seen.add(np.asarray(canvas.buffer_rgba()))],
            "values": sha256(values),
            "limits": [float(limit) for limit in image.get_clim()],
        }

    return Case(f"draw {name}", draw)


def _vector(name: str, *words: str) -> Case:
    """A figure as SVG, whose text is compared, without numbers that matplotlib draws by chance."""

    def draw(seen: Seen) -> Document:
        said = command("replay", *words, "-o", "out.svg")
        text = Path("out.svg").read_text(encoding="utf-8")
        words_in_it = re.findall(r"<(?:text|title|dc:title|desc)[^>]*>([^<]*)<", text)
        size = re.search(r'width="([^"]*)" height="([^"]*)"|viewBox="([^"]*)"', text)
        assert size is not None
        return {**said, "size": size[0], "words": words_in_it}

    return Case(f"svg {name}", draw)


def _health_chart(run: str, theme: str) -> Case:
    def draw(seen: Seen) -> Document:
        said = command("replay", "health", run, "-o", "out.png", "--theme", theme)
        return {"said": said["stderr"], **pictures(Path("out.png"), seen)}

    return Case(f"health chart {run} {theme}", draw)


def _figures() -> list[Case]:
    return [
        _figure("plain", "grid", dpi=100),
        _figure("epochs", "grid", epochs=[0, -1], kernels=True),
        _figure("kernels", "grid", layer="conv2", kernels=True, clip=(-1, 1), cmap="RdBu_r"),
        _figure("dark", "grid", layer="relu", theme="dark", cmap="viridis", input=False),
        _figure("frame", "grid", layer="odd", scale="frame", epochs="0:2", batch=1),
        _figure("channel", "grid", layer="conv1", scale="channel", channels="top:3", title="é"),
        _figure("volume", "grid", layer="volume", slices="all", symmetric=True),
        _figure("tokens", "grid", layer="tokens", tokens="strip"),
        _figure("probe", "grid", probe=1, epochs=[0, 2]),
        _figure("many", "grid", "many.h5"),
        _figure("ranks", "grid", ["run.h5", "rank.h5"]),
        _figure("damaged", "grid", "damaged.h5", epochs=[1], batch=1),
        _figure("odd name", "grid", layer="$x^2$ <b>é \n"),
        _figure("plain", "sheet", dpi=100),
        _figure("without probe", "sheet", probe=False, layer="conv2", rows=2),
        _figure("dark", "sheet", layer="relu", theme="dark", scale="epoch", probe=False),
        _figure("not finite", "sheet", layer="odd", clip=(-1, 1), batch=1, probe=False),
        _figure("many", "sheet", "many.h5", title="Many"),
        _figure("pictures", "sheet", "grown.h5", batch=0),
        _drawn("plain"),
        _drawn("options", layer="conv2", epoch=0, batch=1, channels="top:3", columns=2),
        _drawn("not finite", layer="odd", scale="frame", numbers=False, cmap="viridis"),
        _drawn("volume", layer="volume", slices="all", symmetric=True),
        _drawn("probe", probe=0, clip=(-1, 1)),
        *(
            _health_chart(run, theme)
            for run, theme in (("run.h5", "light"), ("run.h5", "dark"), ("damaged.h5", "light"))
        ),
        _vector("grid", "grid", "run.h5", "--epoch", "0,-1"),
        _vector("sheet", "sheet", "run.h5"),
        _vector("health", "health", "run.h5"),
    ]


def _page(name: str, runs: Any = "run.h5", **options: Any) -> Case:
    def write(seen: Seen) -> Document:
        made = replay.page(runs, "out.html", **options)
        return {**_result(made), **html(made.path.read_text(encoding="utf-8"), seen)}

    return Case(name, write)


def _notebook(name: str, make: Callable[[], Any]) -> Case:
    def show(seen: Seen) -> Document:
        made = make()
        try:
            return html(made._repr_html_(), seen)
        finally:
            getattr(made, "close", lambda: None)()

    return Case(f"notebook {name}", show)


def _pages() -> list[Case]:
    return [
        _page("plain"),
        _page("options", layers="conv*", channels="top:3", epochs="0,-1", scale="frame"),
        _page("look", symmetric=True, cmap="RdBu_r", title="</script> é 鳥", input=False),
        _page("small", layers="all", max_mb=0.105),
        _page("live recording", "live.h5"),
        _page("damaged", "damaged.h5", scale="epoch", layers=["conv1", "relu"]),
        _page("damaged kernels", "damaged.h5"),
        _page("pictures", "grown.h5"),
        _page("pair", ["run.h5", "other.h5"]),
        _page("pair of ranks", ["run.h5", "rank.h5"], layers="conv1", batches=0),
        _notebook("recording", lambda: replay.open("run.h5")),
        _notebook("live recording", lambda: replay.open("live.h5")),
        _notebook("gif", lambda: replay.animate("run.h5", "a.gif", zoom=1, epochs=0)),
        _notebook("folder", lambda: replay.animate("run.h5", "a/", zoom=1, epochs=0)),
        _notebook("mp4", lambda: replay.animate("run.h5", "a.mp4", zoom=1, epochs=0)),
    ]


def _command(*words: str, then: Callable[[Seen], Document] | None = None) -> Case:
    def run(seen: Seen) -> Document:
        return {**command("replay", *words), **(then(seen) if then is not None else {})}

    return Case(" ".join(words), run)


def _written(*paths: str) -> Callable[[Seen], Document]:
    return lambda seen: {"written": {path: Path(path).exists() for path in paths}}


def _commands() -> list[Case]:
    volatile = ("meta",)
    runs = ("run.h5", "other.h5", "rank.h5", "live.h5", "damaged.h5", "many.h5", "grown.h5")
    bad = ("empty.h5", "future.h5", "text.h5", "cut.h5", "strange.h5", "none.h5", ".")
    cases = [_command("info", run) for run in (*runs, *bad)]
    cases += [_command("info", "--json", run) for run in (*runs, "empty.h5")]
    cases += [_command("info", "run.h5", "other.h5"), _command("info", "--json", *runs[:2])]
    for name in ("run.h5", "damaged.h5", "live.h5", "empty.h5", "cut.h5"):
        cases += [_command(what, name) for what in ("verify", "health")]
    cases += [
        _command("verify", "--json", "damaged.h5"),
        _command("verify", "--json", "run.h5", "other.h5"),
        *(_command("health", form, run) for form in ("--json", "--csv") for run in runs),
        *(
            _command(
                "repair",
                run,
                "-o",
                "new.h5",
                then=lambda seen: {"file": hdf5(Path("new.h5"), volatile)},
            )
            for run in ("run.h5", "damaged.h5", "live.h5", "grown.h5")
        ),
        _command("repair", "run.h5", "-o", "other.h5"),
        _command("repair", "run.h5", "-o", "run.h5", "--overwrite"),
        _command("repair", "empty.h5", "-o", "new.h5"),
        _command("repair", "text.h5", "-o", "new.h5"),
    ]
    for out, *options in (
        ("new.npz",),
        ("new.npy", "--layer", "conv2", "--channels", "top:2"),
        ("new/", "--layer", "last", "--epochs", "0,-1", "--batches", "1"),
        ("probe.npz", "--probe", "0", "--layer", "conv2"),
        ("volume.npz", "--layer", "volume", "--channels", "1"),
        ("new", "--layer", "vector"),
    ):
        for run in ("run.h5", "damaged.h5"):
            words = ("export", run, "-o", out, *options)
            cases.append(_command(*words, then=lambda seen, out=out: {"arrays": arrays(Path(out))}))
    cases += [
        _command("export", "grown.h5", "-o", "new.npz", then=lambda s: arrays(Path("new.npz"))),
        _command("export", "run.h5", "-o", "other.h5"),
        _command("export", "run.h5", "-o", "run.npz", "--layer", "nope"),
        _command("export", "run.h5", "-o", "text.npy", "--channels", "9"),
        _command("animate", "run.h5", "--epochs", "0", "--zoom", "1", then=_written("run.mp4")),
        _command(
            "animate",
            "run.h5",
            "-o",
            "a.gif",
            "--alt",
            "--poster",
            "--zoom",
            "1",
            then=_written("a.alt.txt", "a.poster.png"),
        ),
        _command("animate", "damaged.h5", "-o", "a.gif", "--zoom", "1"),
        _command("animate", "live.h5", "-o", "a.gif", "--zoom", "1"),
        _command("animate", "run.h5", "other.h5", "-o", "a.gif", "--zoom", "1", "--with", "loss"),
        _command("animate", "run.h5", "-o", "a.gif", "--max-mb", "0.06"),
        _command("animate", "run.h5", "--preset", "github", then=_written("run.gif")),
        _command("compare", "run.h5", "other.h5", "--epochs", "0", then=_written("run-other.mp4")),
        _command("compare", "run.h5", "live.h5", "-o", "a.gif", "--difference", "--zoom", "1"),
        _command("grid", "run.h5", "--dpi", "40", then=_written("run-grid.png")),
        _command("sheet", "run.h5", "--dpi", "40", then=_written("run-sheet.png")),
        _command("page", "run.h5", then=_written("run.html")),
        _command("page", "run.h5", "-o", "a.html", "--max-mb", "0.5"),
        _command("page", "run.h5", "other.h5", "-o", "both.html"),
    ]
    for words in (
        ("animate", "none.h5"),
        ("animate", "text.h5"),
        ("animate", "empty.h5"),
        ("animate", "future.h5"),
        ("animate", "run.h5", "-o", "a.avi"),
        ("animate", "run.h5", "-o", "run.h5"),
        ("animate", "run.h5", "-o", "nowhere/a.gif"),
        ("animate", "run.h5", "--layer", "conv9"),
        ("animate", "run.h5", "--layer", "x*"),
        ("animate", "run.h5", "--channels", "7"),
        ("animate", "run.h5", "--channels", "top:x"),
        ("animate", "run.h5", "--epochs", "5"),
        ("animate", "run.h5", "--batches", "3-1"),
        ("animate", "run.h5", "--clip", "2,1"),
        ("animate", "run.h5", "--cmap", "greyish"),
        ("animate", "run.h5", "--probe", "5"),
        ("animate", "run.h5", "--with", "colours"),
        ("animate", "run.h5", "--zoom", "0"),
        ("animate", "run.h5", "--zoom", "900"),
        ("animate", "run.h5", "--columns", "0"),
        ("animate", "run.h5", "--fps", "0"),
        ("animate", "run.h5", "--crf", "70"),
        ("animate", "run.h5", "--max-mb", "0.000001"),
        ("animate", "run.h5", "--slices", "9", "--layer", "volume"),
        ("animate", "run.h5", "-o", "a.gif", "--max-mb", "0.004"),
        ("animate", "run.h5", "--preset", "github", "-o", "a.mp4"),
        ("animate", "run.h5", "--executor", "ray=x"),
        ("compare", "run.h5"),
        ("compare", "run.h5", "many.h5"),
        ("compare", "run.h5", "other.h5", "--difference", "--difference-cmap", "nope"),
        ("grid", "run.h5", "-o", "a.gif"),
        ("grid", "run.h5", "--batch", "7"),
        ("grid", "run.h5", "--dpi", "5"),
        ("grid", "many.h5", "--kernels", "-o", "a.png", "--dpi", "40"),
        ("sheet", "run.h5", "other.h5"),
        ("sheet", "run.h5", "--rows", "0"),
        ("page", "run.h5", "-o", "a.txt"),
        ("page", "run.h5", "--max-mb", "0.0001"),
        ("page", "run.h5", "other.h5", "rank.h5"),
        ("watch", "run.h5", "--layer", "conv9", "--port", "0"),
        ("info", "damaged.h5", "none.h5"),
    ):
        cases.append(_command(*words))
    for name, call in {
        "scale": lambda: replay.animate("run.h5", "a.gif", scale="day"),
        "theme": lambda: replay.animate("run.h5", "a.gif", theme="blue"),
        "order": lambda: replay.animate("run.h5", "a.gif", order="random"),
        "tokens": lambda: replay.animate("run.h5", "a.gif", tokens="round"),
        "codec": lambda: replay.animate("run.h5", "a.mp4", codec="vp9"),
        "preset": lambda: replay.animate("run.h5", preset="cinema"),
        "clip": lambda: replay.animate("run.h5", "a.gif", clip=(1, float("nan"))),
        "no runs": lambda: replay.animate([], "a.gif"),
        "page scale": lambda: replay.page("run.h5", "a.html", scale="day"),
        "open": lambda: replay.open("text.h5"),
        "layer": lambda: replay.open("run.h5")["conv9"],
        "batch": lambda: replay.open("run.h5")["conv1"][7, 0],
        "not recorded": lambda: replay.open("live.h5")["conv1"][1, 2],
        "damaged": lambda: replay.open("damaged.h5")["conv1"][1, 1],
    }.items():
        cases.append(_failing(name, call))
    cases.append(Case("open", _opened))
    cases.append(Case("watch", _watch))
    return cases


def _opened(seen: Seen) -> Document:
    """What `replay.open` hands out."""
    with replay.open("run.h5") as run:
        maps = run["conv1"]
        return {
            "layers": list(run.layers),
            "frames": [list(cell) for cell in run.frames],
            "batches": {
                name: sha256(np.asarray(run.batches[name])) for name in sorted(run.batches)
            },
            "meta": run.meta,
            "closed": run.closed,
            "run_id": run.run_id,
            "probes": run.probes,
            "maps": [sha256(np.asarray(maps[cell])) for cell in run.frames],
            "probe": [sha256(np.asarray(run.probe(0)["conv2"][cell])) for cell in run.frames],
        }


def _watch(seen: Seen) -> Document:
    """The live page of `watch`, in a process of its own."""
    import subprocess
    from urllib.request import urlopen

    words = [sys.executable, "-m", "replay", "watch", "live.h5", "--port", "0"]
    words += ["--layer", "all", "--no-browser"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            found: Document = {}
            for path in ("state", "frames?since=1", "block/s0-layer-0-0", "block/s0-input-1"):
                with urlopen(url + path, timeout=20) as answer:
                    found[path] = {"type": answer.headers["Content-Type"], "said": _body(answer)}
            with urlopen(url, timeout=20) as answer:
                found["page"] = html(answer.read().decode(), seen)
            return found
        finally:
            server.terminate()


def _body(answer: Any) -> str:
    data = answer.read()
    if answer.headers["Content-Type"].startswith("application/json"):
        return str(data.decode())
    return sha256(data)


def _subcommands(package: str) -> list[str]:
    """The names of the subcommands, from what `--help` prints."""
    text = command_help(package)["stdout"]
    names = [m[1] for line in text if (m := re.match(r"    ([a-z]+)(?:  |$)", line))]
    assert len(names) > 3, text
    return names


def command_help(*words: str) -> Document:
    """`python -m package ... --help`."""
    return command(*words, "--help")


def _help() -> list[Case]:
    """Of each command, walked through as the help itself names them, and usage errors."""

    def walk(package: str) -> Callable[[Seen], Document]:
        return lambda seen: {
            "": command_help(package),
            **{name: command_help(package, name) for name in _subcommands(package)},
        }

    wrong = [
        ("replay",),
        ("replay", "animte", "run.h5"),
        ("replay", "animate"),
        ("replay", "animate", "run.h5", "--scale", "day"),
        ("replay", "animate", "run.h5", "--fps", "fast"),
        ("replay", "animate", "run.h5", "--clip", "a,b"),
        ("replay", "animate", "run.h5", "--nonsense"),
        ("replay", "animate", "run.h5", "--jobs", "2", "--executor", "dask=x"),
        ("replay", "watch", "run.h5", "--port", "99999"),
        ("replay", "health", "run.h5", "--json", "--csv"),
        ("replay", "completion", "powershell"),
        ("record",),
        ("record", "trian"),
        ("record", "train", "--epochs", "many"),
        ("record", "plan", "--input", "3x4"),
    ]
    return [
        Case("replay --help", walk("replay")),
        Case("record --help", walk("record")),
        *(Case(" ".join(words), lambda seen, words=words: command(*words)) for words in wrong),
    ]


SCRIPT = """
import sys

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, stride=(2, 1))
        self.tokens = nn.Linear(4, 2)
        with torch.no_grad():
            for place, each in enumerate(self.parameters()):
                each.copy_(((torch.arange(each.numel()) + place) % 5 - 2).view_as(each) / 8)

    def forward(self, x):
        x = self.conv2(self.relu(self.conv1(x)))
        return self.tokens(x.flatten(2).transpose(1, 2)[:, :8]).mean((1, 2))


def images(batch):
    size = 8 if batch < 2 else 6
    return ((torch.arange(2 * 2 * size * size) * (batch + 3)) % 9 - 4).view(2, 2, size, size) / 4


torch.set_num_threads(1)
model = Net()
optimizer = torch.optim.SGD(model.parameters(), lr=2**-4)


def round_weights():
    # To sixteenths, so that all sums are exact, in whichever order a processor makes them.
    with torch.no_grad():
        for each in model.parameters():
            each.copy_((each * 16).round() / 16)


def step(batch):
    optimizer.zero_grad()
    loss = model(images(batch)).sum()
    loss.backward()
    optimizer.step()
    round_weights()
    return loss
"""
RUN = """
data = torch.utils.data.TensorDataset(torch.cat([images(0), images(1)]), torch.tensor([0, 1, 1, 0]))
for epoch in range(2):
    for pictures, labels in torch.utils.data.DataLoader(data, batch_size=2):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(pictures), labels / 2)
        loss.backward()
        optimizer.step()
        round_weights()
print("the script's own words", sys.argv[1:])
"""
_VOLATILE = ("meta", "run_id", "created", "batches/time", "value_checksums/batches/time", "state")


def _recorder(seen: Seen, **options: Any) -> Document:
    """A training with a `Recorder`: of exact binary fractions, so the same on any computer."""
    import torch

    space: dict[str, Any] = {"__name__": "golden_script"}
    exec(SCRIPT, space)
    with record.Recorder(space["model"], "new.h5", **options) as recorder:
        for _ in range(2):
            for batch in recorder.track(range(3)):
                loss = space["step"](batch)
                recorder.log(loss=loss, label=torch.tensor(batch % 2), custom=batch / 4)
    with replay.open("new.h5") as run:
        keys = sorted(run.meta)
    return {"file": hdf5(Path("new.h5"), _VOLATILE), "meta": keys}


def _script(seen: Seen) -> Document:
    Path("train.py").write_text(SCRIPT + RUN)
    # Without the probe: how often it is shown depends on the time that a batch takes.
    said = command_apart(
        "record", "run", "--probe", "0", "-o", "new.h5", "train.py", "--epochs", "2"
    )
    said["stderr"] = [
        re.sub(r", [\d.]+ \w+: new", ", SIZE: new", line).replace(sys.executable, "python")
        for line in said["stderr"]
    ]
    told = command("replay", "info", "new.h5")["stdout"]
    told = [
        line for line in told if not line.startswith(("file ", "run ", "created ", "versions "))
    ]
    return {**said, "file": hdf5(Path("new.h5"), _VOLATILE), "info": told}


def _plan(*words: str) -> Case:
    return Case(" ".join(("plan", *words)), lambda seen: command("record", "plan", *words), "torch")


def _recordings() -> list[Case]:
    def recorder(name: str, **options: Any) -> Case:
        return Case(name, lambda seen: _recorder(seen, **options), "torch")

    return [
        recorder("recorder"),
        recorder("layers", layers=["conv*", "Linear"], schedule="every=2"),
        recorder("pooled", max_map=4, layers="*"),
        Case("record run", _script, "torch"),
        _plan("--input", "3x32x32", "--batches", "10"),
        _plan("--input", "3x32x32", "--batches", "10", "--json"),
        _plan("--input", "3x32x32", "--batches", "10", "--layers", "nope"),
        _plan("--input", "3x32x32", "--batches", "10", "--schedule", "often"),
        _plan("--input", "3x32x32", "--batches", "10", "--budget", "1 parsec"),
        _plan("--model", "nowhere:Net", "--input", "3x8x8", "--batches", "2"),
    ]


GROUPS: dict[str, Callable[[], list[Case]]] = {
    "films": _films,
    "figures": _figures,
    "pages": _pages,
    "commands": _commands,
    "recordings": _recordings,
    "help": _help,
}
