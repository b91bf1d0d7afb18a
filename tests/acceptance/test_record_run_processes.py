"""`record run` on scripts of more than one process."""

from __future__ import annotations

import re
import subprocess
import textwrap
from pathlib import Path

import numpy as np
import pytest
from script_runs import python, record, spoken, write

import replay

pytestmark = pytest.mark.slow


DISTRIBUTED = """
    import os, sys, time, torch
    import torch.distributed as dist
    import torch.multiprocessing as mp
    from torch import nn
    from torch.nn.parallel import DistributedDataParallel as DDP

    def work(rank, world, port):
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", port)
        dist.init_process_group("gloo", rank=rank, world_size=world)
        torch.manual_seed(0)
        torch.set_num_threads(1)
        model = DDP(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True)))
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for step in range(3):
            loss = model(torch.full((2, 3, 8, 8), rank + step / 10)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"rank {rank} {sum(p.double().sum() for p in model.parameters()):.10f}", flush=True)
        # gloo may abort in a process that is at work when the other has gone, and did in 2 of 48
        # runs without a recorder, six at once, and in none of 72 that waited after that.
        dist.barrier()
        time.sleep(0.5)
        dist.destroy_process_group()

    if __name__ == "__main__":
        if "RANK" in os.environ:
            work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), "")
        else:
            mp.spawn(work, (2, sys.argv[1]), nprocs=2)
    """


def free_port() -> str:
    import socket

    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return str(place.getsockname()[1])


@pytest.fixture(scope="module", params=["torchrun", "spawn"])
def ranks_alone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, subprocess.CompletedProcess[str]]:
    """A way to start two ranks, and what they print without a recorder."""
    folder = tmp_path_factory.mktemp("ranks")
    words = start_of_ranks(request.param, [write(folder, DISTRIBUTED)])
    return request.param, python(*words, cwd=folder)


def start_of_ranks(way: str, words: list[object]) -> list[object]:
    """The words behind `python` that start a script on two ranks."""
    if way == "spawn":
        return [*words, free_port()]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port"]
    return [*launcher, free_port(), *words]


@pytest.mark.parametrize("ranks", ["0", "all"])
def test_ranks(
    tmp_path: Path, ranks_alone: tuple[str, subprocess.CompletedProcess[str]], ranks: str
) -> None:
    way, plain = ranks_alone
    words = ["-m", "record", "run", "--ranks", ranks, write(tmp_path, DISTRIBUTED)]
    done = python(*start_of_ranks(way, words), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = [sorted(re.findall(r"rank \d -?[\d.]+", run.stdout)) for run in (done, plain)]
    assert said[0] == said[1]
    assert len(said[0]) == 2
    names = ["run.h5"] if ranks == "0" else ["run.rank0.h5", "run.rank1.h5"]
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == names
    ids = set()
    for rank, name in enumerate(names):
        with replay.open(tmp_path / name) as run:
            assert (run.meta["rank"], run.meta["world_size"]) == (rank, 2)
            assert run.closed
            assert run.layers == ("0",)
            assert len(run.frames) == 3
            assert run.inputs[0, 1][0, 0, 0] == np.float16(rank + 0.1)
            ids.add(run.run_id)
    assert len(ids) == 1


def test_several_spawned_trainings_and_a_forked_one(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        import multiprocessing, torch
        from torch import nn

        def work(number):
            torch.set_num_threads(1)
            model = nn.Sequential(nn.Conv2d(3, 4, 3))
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            for step in range(3):
                model(torch.full((2, 3, 8, 8), float(number))).mean().backward()
                optimizer.step()

        if __name__ == "__main__":
            for way in ("spawn", "fork"):
                context = multiprocessing.get_context(way)
                workers = [context.Process(target=work, args=(n,)) for n in range(2)]
                for worker in workers:
                    worker.start()
                for worker in workers:
                    worker.join()
                    assert worker.exitcode == 0
        """,
    )
    done = record(script, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    seen = set()
    for name in ("run.h5", "run.2.h5"):
        with replay.open(tmp_path / name) as run:
            assert len(run.frames) == 3
            seen.add(float(run.inputs[0, 0][0, 0, 0]))
    assert seen == {0.0, 1.0}
    # The parent trained nothing itself, and does not say that nothing was recorded.
    assert sum(line.startswith("recorded 3 batches of Sequential") for line in spoken(done)) == 2
    assert not any("nothing was recorded" in line for line in spoken(done))
    assert sum("training in a forked process is not recorded" in line for line in spoken(done)) == 2


@pytest.mark.parametrize("imports", ["import torch", ""])
def test_what_a_pool_that_is_terminated_has_recorded_is_named(tmp_path: Path, imports: str) -> None:
    """`with Pool(2)` ends its workers by SIGTERM: they cannot say what they have recorded."""
    (tmp_path / "jobs.py").write_text(
        textwrap.dedent(
            """
            def work(number):
                import torch
                torch.set_num_threads(1)
                model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3))
                optimizer = torch.optim.SGD(model.parameters(), 0.1)
                for step in range(3):
                    model(torch.full((2, 3, 8, 8), float(number))).mean().backward()
                    optimizer.step()
                return number
            """
        )
    )
    script = write(
        tmp_path,
        f"""
        import multiprocessing
        {imports}
        import jobs

        if __name__ == "__main__":
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                print(pool.map(jobs.work, range(2)))
        """,
    )
    done = record(script, cwd=tmp_path)
    assert done.stdout == "[0, 1]\n"
    assert spoken(done)[-1] == (
        "recorded by processes that were ended before they could say so: run.h5, run.2.h5"
    )
    assert not any("nothing was recorded" in line for line in spoken(done))
    for name in ("run.h5", "run.2.h5"):
        with replay.open(tmp_path / name) as run:
            assert len(run.frames) == 3
