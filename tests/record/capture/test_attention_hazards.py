"""Attention is recorded right, or not at all, in trainings that are hard to record."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from attention_models import Expected, TinyGPT, of_causal, of_multihead, weigh
from torch import nn
from torch.nn import functional
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

import record.capture.attention_calls as calls
from record import Recorder, RecordingWarning
from replay.schema import OptionError

FUSED = functional.scaled_dot_product_attention


class Attend(nn.Module):
    """An attention of its own in the first of its modules.

    Args:
        attend: Takes the query, the key and the value, (N, 2, T, 4), as the keyword `call` says.
    """

    def __init__(self, attend: Any, tokens: int = 9) -> None:
        super().__init__()
        self.attn = Inner(attend)
        self.patch = nn.Conv2d(1, 8, 4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x) if x.ndim > 3 or x.shape[0] == 1 else x
        return self.attn(x.flatten(-2).transpose(-2, -1))


class Inner(nn.Module):
    def __init__(self, attend: Any) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)
        self.num_heads = 2
        self.attend = attend
        self.seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, 2, 4)).transpose(-4, -2).unbind(-3)
        if self.training and torch.is_grad_enabled():
            self.seen.append((q.detach().clone(), k.detach().clone()))
        return self.attend(q, k, v).transpose(-3, -2).flatten(-2)


def images(count: int = 3, size: int = 3) -> list[torch.Tensor]:
    make = torch.Generator().manual_seed(5)
    return [torch.randn(size, 1, 12, 12, generator=make) for _ in range(count)]


def fit(model: nn.Module, path: Path | None, batches: Any = None, **options: Any) -> list[float]:
    batches = images() if batches is None else batches
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    recorder = None
    if path is not None:
        options = {"attention": True, "quiet": True, "layers": ["patch"], **options}
        recorder = Recorder(model, path, **options)
    losses = []
    for batch in batches if recorder is None else recorder.track(batches):
        loss = model(batch).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    if recorder is not None:
        recorder.close()
    assert functional.scaled_dot_product_attention is FUSED
    return losses


def frames(path: Path, name: str = "attn", root: str = "attention") -> np.ndarray:
    with h5py.File(path) as file:
        return file[f"{root}/maps/{name}"][0].astype(np.float64)


def names(path: Path, root: str = "attention") -> list[str]:
    with h5py.File(path) as file:
        return sorted(file[f"{root}/maps"]) if f"{root}/maps" in file else []


def means(model: Attend, mask: torch.Tensor | None = None) -> np.ndarray:
    found = [weigh(q[0], k[0], mask).mean(1) for q, k in model.attn.seen]
    return torch.stack(found).numpy()


def ops(profile: Any) -> Counter[str]:
    return Counter(e.name for e in profile.events() if "scaled_dot_product" in e.name)


def test_the_fused_kernel_stays(tmp_path: Path) -> None:
    """The operations of torch's attention that run without the recorder run with it, as often."""
    counts = []
    for path in (None, tmp_path / "run.h5"):
        torch.manual_seed(0)
        model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        with torch.profiler.profile() as profile:
            fit(model, path)
        counts.append(ops(profile))
    assert counts[0] == counts[1]
    assert counts[0]["aten::_scaled_dot_product_flash_attention_for_cpu"] == 3
    assert len(frames(tmp_path / "run.h5")) == 3


@pytest.mark.parametrize(
    "attend",
    [
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(
            query=q, key=k, value=v, dropout_p=0.3
        ),
        lambda q, k, v: scaled_dot_product_attention(q, k, v, None, 0.3),  # by a name of its own
        lambda q, k, v, call=FUSED: call(q, k, v),  # by none that can be found
        lambda q, k, v: (q @ k.transpose(-2, -1) / 2).softmax(-1) @ v,
        lambda q, k, v: functional.dropout(torch.softmax(torch.matmul(q * 0.5, k.mT), 3)) @ v,
        lambda q, k, v: torch.einsum(
            "nhij,nhjd->nhid", nn.Softmax(-1)(torch.einsum("nhid,nhjd->nhij", q, k) * 0.5), v
        ),
    ],
)
def test_ways_to_call_it(tmp_path: Path, attend: Any) -> None:
    torch.manual_seed(0)
    model = Attend(attend)
    path = tmp_path / "run.h5"
    losses = fit(model, path, probe=images(1, 2)[0])
    np.testing.assert_allclose(frames(path), means(model), atol=1e-3)
    assert names(path) == names(path, "probe/1/attention") == ["attn"]
    torch.manual_seed(0)
    assert losses == fit(Attend(attend), None)


def test_probes_are_seen_in_evaluation_mode(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, dropout_p=0.5))
    fixed, path = images(1, 2)[0], tmp_path / "run.h5"
    fit(model, path, images(1), probe=fixed, schedule="every=1")
    # The weights have changed by a step since, so that only what sums to 1 can be compared.
    for number in range(2):
        found = frames(path, root=f"probe/{number}/attention")
        np.testing.assert_allclose(found.sum(-1), 1, atol=2e-3)
    again = Recorder(model, tmp_path / "again.h5", attention=True, probe=fixed, quiet=True)
    with again, torch.no_grad():
        model(images(1)[0])
        again.step()
        q, k, _ = (
            model.attn.qkv(model.patch(fixed).flatten(2).mT)
            .unflatten(-1, (3, 2, 4))
            .movedim(-3, 0)
            .transpose(-3, -2)
        )
    for number in range(2):
        found = frames(tmp_path / "again.h5", root=f"probe/{number}/attention")[0]
        np.testing.assert_allclose(found, weigh(q[number], k[number]).mean(1), atol=1e-3)


@pytest.mark.parametrize("kind", ["bool", "float", "of images"])
def test_masks(tmp_path: Path, kind: str) -> None:
    torch.manual_seed(0)
    mask = torch.rand(9, 9) > 0.4
    mask[:, 0] = True
    added = torch.zeros(9, 9).masked_fill(~mask, -torch.inf)
    given = {"bool": mask, "float": added, "of images": torch.stack([mask, ~mask, mask])[:, None]}
    model = Attend(
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, attn_mask=given[kind])
    )
    fit(model, tmp_path / "run.h5")
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model, added), atol=1e-3)


def test_grouped_queries(tmp_path: Path) -> None:
    torch.manual_seed(0)

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        few = k[:, :1], v[:, :1]
        return functional.scaled_dot_product_attention(q, *few, enable_gqa=True)

    model = Attend(attend)
    fit(model, tmp_path / "run.h5")
    model.attn.seen = [(q, k[:, :1].expand(-1, 2, -1, -1)) for q, k in model.attn.seen]
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model), atol=1e-3)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("asked", ["cls", "full"])
def test_cross_attention(tmp_path: Path, need_weights: bool, asked: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 8, 4, 4)
            self.queries = nn.Parameter(torch.randn(5, 1, 8))
            self.cross = nn.MultiheadAttention(8, 2, 0.2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).permute(2, 0, 1)  # (T, N, C)
            queries = self.queries.expand(-1, x.shape[1], -1)
            return self.cross(queries, x, x, need_weights=need_weights)[0]

    torch.manual_seed(0)
    model = Net()
    expected = Expected(model, {"MultiheadAttention": of_multihead})
    fit(model, tmp_path / "run.h5", attention=asked)
    want = torch.stack(expected.by_name["cross"]).numpy()
    assert want.shape == (3, 2, 5, 9)
    found = frames(tmp_path / "run.h5", "cross")
    np.testing.assert_allclose(found, want if asked == "full" else want.mean(2), atol=1e-3)


def test_sequences_that_come_first_and_no_batch(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 8, 4, 4)
            self.attn = nn.MultiheadAttention(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(-2).movedim(-1, 0)
            return self.attn(x, x, x)[0]

    for number, batches in enumerate((images(), images(3, 1), [b[0] for b in images()])):
        torch.manual_seed(0)
        model = Net()
        expected = Expected(model, {"MultiheadAttention": of_multihead})
        path = tmp_path / f"{number}.h5"
        fit(model, path, batches)
        want = torch.stack(expected.by_name["attn"]).mean(2).numpy()
        np.testing.assert_allclose(frames(path), want, atol=1e-3)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("flash", [True, False])
def test_checkpointing_records_once(tmp_path: Path, reentrant: bool, flash: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(1, 16, 4, 4)
            self.h = TinyGPT(flash).h

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(2).transpose(1, 2)
            for block in self.h:
                x = checkpoint(block, x, use_reentrant=reentrant)
            return x

    torch.manual_seed(0)
    model = Net()
    expected = Expected(model, {"CausalSelfAttention": of_causal})
    fit(model, tmp_path / "run.h5")
    assert names(tmp_path / "run.h5") == ["h.0.attn", "h.1.attn"]
    whole = expected.by_name["h.1.attn"]
    # Its own hooks see the second forwards, too: of each batch the first one counts.
    want = torch.stack(whole[:: len(whole) // 3]).mean(2).numpy()
    np.testing.assert_allclose(frames(tmp_path / "run.h5", "h.1.attn"), want, atol=1e-3)


def test_mixed_precision(tmp_path: Path) -> None:
    results = []
    for path in (None, tmp_path / "run.h5"):
        torch.manual_seed(0)
        model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        with torch.autocast("cpu", torch.bfloat16):
            losses = fit(model, path)
        results.append((losses, [p.tolist() for p in model.parameters()]))
    assert results[0] == results[1]
    assert model.attn.seen[0][0].dtype == torch.bfloat16
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model), atol=1e-3)


def test_several_calls_of_a_module(tmp_path: Path) -> None:
    class Net(Attend):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(-2).mT
            for _ in range(self.times):
                x = x + self.attn(x)
            return x

    for times, count in ((2, 2), (70, 64)):
        torch.manual_seed(0)
        model = Net(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        model.times = times
        path = tmp_path / f"{times}.h5"
        if count < times:
            with pytest.warns(RecordingWarning, match="called more than 64 times"):
                fit(model, path, images(2))
        else:
            fit(model, path, images(2))
        assert len(names(path)) == count
        assert "attn#1" in names(path)
        want = [weigh(q[0], k[0]).mean(1) for q, k in model.attn.seen]
        np.testing.assert_allclose(frames(path, "attn#1")[1], want[times + 1], atol=1e-3)


def test_several_forwards_of_a_batch(tmp_path: Path) -> None:
    """The first forward counts, as it does for maps."""
    torch.manual_seed(0)
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for batch in recorder.track(images()):
            model(batch)
            model(batch + 1)
            model.eval()
            model(batch)
            model.train()
    want = means(model)[::2]
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), want, atol=1e-3)


@pytest.mark.parametrize(
    "attend",
    [
        # Over channels, a gate, scores that nothing is weighed with, another axis.
        lambda q, k, v: ((q.mT @ k).softmax(-1) @ v.mT).mT,
        lambda q, k, v: (q @ torch.ones(4, 4)).softmax(-1) * v,
        lambda q, k, v: v + (q @ k.mT).softmax(-1).mean(-1, keepdim=True),
        lambda q, k, v: (q @ k.mT).softmax(-2) @ v,
    ],
)
def test_what_is_no_attention_over_tokens(tmp_path: Path, attend: Any) -> None:
    with pytest.warns(RecordingWarning, match="no attention was recorded: no attention"):
        fit(Attend(attend), tmp_path / "run.h5")
    assert names(tmp_path / "run.h5") == []


def test_fused_attention_over_channels(tmp_path: Path) -> None:
    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return functional.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT

    with pytest.warns(RecordingWarning) as said:
        fit(Attend(attend), tmp_path / "run.h5")
    assert ["over channels" in str(w.message) for w in said] == [True, False]
    assert names(tmp_path / "run.h5") == []


@pytest.mark.parametrize("heads_first", [False, True])
@pytest.mark.parametrize("written_out", [False, True])
def test_windows_with_an_axis_of_their_own(
    tmp_path: Path, written_out: bool, heads_first: bool
) -> None:
    def attend(*qkv: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(2, (3, 3)) for t in qkv)  # (N, heads, windows, T, d)
        if not heads_first:
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
        if written_out:
            y = (q @ k.mT / 2).softmax(-1) @ v
        else:
            y = functional.scaled_dot_product_attention(q, k, v)
        return (y if heads_first else y.transpose(1, 2)).flatten(2, 3)

    torch.manual_seed(0)
    model = Attend(attend)
    fit(model, tmp_path / "run.h5")
    model.attn.seen = [(q[:, :, :3], k[:, :, :3]) for q, k in model.attn.seen]
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model), atol=1e-3)


def test_windows_of_its_own(tmp_path: Path) -> None:
    class Net(Attend):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.patch(x).flatten(-2).mT  # (N, 9, 8)
            return self.attn(x.reshape(-1, 3, 8)).view(x.shape)

    torch.manual_seed(0)
    model = Net(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    fit(model, tmp_path / "run.h5")
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model), atol=1e-3)
    with h5py.File(tmp_path / "run.h5") as file:
        assert "the first of 3 parts" in file["attention/maps/attn"].attrs["note"]


def test_torch_is_as_it_was(tmp_path: Path) -> None:
    seen = []

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        seen.append((functional.scaled_dot_product_attention is FUSED, len(seen)))
        if len(seen) == 3:
            raise ValueError("the forward fails")
        return functional.scaled_dot_product_attention(q, k, v)

    softmax = functional.softmax
    for attention, replaced in ((False, [True] * 2), (True, [False] * 2)):
        seen.clear()
        model = Attend(attend)
        path = tmp_path / f"{attention}.h5"
        with Recorder(model, path, attention=attention, quiet=True) as recorder:
            for number, batch in enumerate(recorder.track(images(4))):
                if number == 2:
                    with pytest.raises(ValueError, match="the forward fails"):
                        model(batch)
                else:
                    model(batch).sum().backward()
                assert functional.scaled_dot_product_attention is FUSED
                assert functional.softmax is softmax
                assert torch._C._len_torch_function_stack() == 0
        assert [same for same, _ in seen][:2] == replaced
        assert not calls.attention_calls._listeners
    assert len(model._forward_hooks) == len(model._forward_pre_hooks) == 0


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_captured_graphs_and_transforms(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    batch = images(1)[0]
    plain = torch.jit.trace(model, batch).graph
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for number, batch in enumerate(recorder.track(images(3))):
            if number == 0:
                traced = torch.jit.trace(model, batch).graph
                assert str(traced).count("aten::") == str(plain).count("aten::")
            elif number == 1:
                weights = dict(model.named_parameters())

                def loss(w: Any, x: torch.Tensor = batch) -> torch.Tensor:
                    return torch.func.functional_call(model, w, (x,)).square().mean()

                model.attn.seen.clear()
                torch.func.grad(loss)(weights)
            model(batch).sum().backward()
    want = means(model)[-1]
    np.testing.assert_allclose(frames(tmp_path / "run.h5")[2], want, atol=1e-3)


def test_operations_that_the_user_counts(tmp_path: Path) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for path in (None, tmp_path / "run.h5"):
        model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        with FlopCounterMode(display=False) as counter:
            fit(model, path)
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert names(tmp_path / "run.h5") == ["attn"]


def test_other_threads_go_their_way(tmp_path: Path) -> None:
    other = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        thread = threading.Thread(target=other, args=(images(1, 5)[0],))
        thread.start()
        thread.join()
        return functional.scaled_dot_product_attention(q, k, v)

    torch.manual_seed(0)
    model = Attend(attend)
    fit(model, tmp_path / "run.h5")
    np.testing.assert_allclose(frames(tmp_path / "run.h5"), means(model), atol=1e-3)


def test_two_models_at_once(tmp_path: Path) -> None:
    torch.manual_seed(0)
    models = [
        Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v)) for _ in "ab"
    ]
    paths = [tmp_path / "a.h5", tmp_path / "b.h5"]
    first, second = (
        Recorder(m, p, attention=True, quiet=True) for m, p in zip(models, paths, strict=True)
    )
    with first, second:
        for batch in images():
            for model, recorder in zip(models, (first, second), strict=True):
                model(batch)
                recorder.step()
    for model, path in zip(models, paths, strict=True):
        np.testing.assert_allclose(frames(path), means(model), atol=1e-3)
    assert functional.scaled_dot_product_attention is FUSED


def test_resumed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    fit(model, tmp_path / "run.h5")
    fit(model, tmp_path / "run.h5", resume=True)
    with h5py.File(tmp_path / "run.h5") as file:
        found = file["attention/maps/attn"][:2].astype(np.float64)
        assert file["attention/maps/attn"].attrs["queries"] == "mean"
    np.testing.assert_allclose(found.reshape(6, 2, 9), means(model), atol=1e-3)


def test_a_layer_that_comes_later(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    with Recorder(model, tmp_path / "run.h5", attention=True, quiet=True) as recorder:
        for number, batch in enumerate(recorder.track(images(4))):
            if number == 2:
                model.attn = Inner(lambda q, k, v: (q @ k.mT / 2).softmax(-1) @ v)
            model(batch)
    found = frames(tmp_path / "run.h5")
    np.testing.assert_allclose(found[2:], means(model), atol=1e-3)
    assert np.isfinite(found).all()


def test_compiled_models_are_recorded_on_probes(tmp_path: Path) -> None:
    results = []
    for path in (None, tmp_path / "run.h5"):
        torch.manual_seed(0)
        torch.compiler.reset()
        model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        model.attn.training = False  # it keeps nothing
        compiled = torch.compile(model, backend="aot_eager")
        if path is None:
            losses = fit(compiled, None)
        else:
            with pytest.warns(RecordingWarning, match="the model is compiled, and recorded"):
                losses = fit(compiled, path, probe=images(1)[0])
        results.append((losses, [p.tolist() for p in model.parameters()]))
    assert results[0] == results[1]
    assert names(path) == []
    assert names(path, "probe/2/attention") == ["attn"]
    np.testing.assert_allclose(frames(path, root="probe/0/attention").sum(-1), 1, atol=2e-3)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
def test_models_of_which_parts_are_compiled(tmp_path: Path) -> None:
    results = []
    for path in (None, tmp_path / "run.h5"):
        torch.manual_seed(0)
        torch.compiler.reset()
        model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
        model.attn.training = False
        model.attn.compile(backend="aot_eager")
        if path is None:
            losses = fit(model, None)
        else:
            with pytest.warns(RecordingWarning) as said:
                losses = fit(model, path, probe=images(1, 2)[0])
            assert ["the model is compiled, and recorded" in str(w.message) for w in said] == [True]
        results.append((losses, [p.tolist() for p in model.parameters()]))
    assert results[0] == results[1]
    assert names(path) == []
    assert names(path, "probe/1/attention") == ["attn"]


def test_nothing_found_is_said(tmp_path: Path) -> None:
    with pytest.warns(RecordingWarning, match="no attention was recorded"):
        fit(nn.Sequential(nn.Conv2d(1, 2, 3)), tmp_path / "run.h5", layers=None)
    with pytest.raises(OptionError, match="attention: expected True, cls or full, found 'ful'"):
        Recorder(nn.Sequential(nn.Conv2d(1, 2, 3)), tmp_path / "no.h5", attention="ful")


def test_full_says_its_size(tmp_path: Path) -> None:
    model = Attend(lambda q, k, v: functional.scaled_dot_product_attention(q, k, v))
    with pytest.warns(RecordingWarning, match=r"takes 324 bytes in each batch \(1 of up to 2x9x9"):
        fit(model, tmp_path / "run.h5", attention="full")
