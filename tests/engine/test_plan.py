import os
import random
import signal
import time
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modelspace.engine import Plan, balanced, choose_plan, using_threads
from modelspace.engine import plan as plan_module
from modelspace.engine.plan import no_batched_form
from modelspace.errors import ModelspaceError
from modelspace.processes import process_index


def timed(vmap, loop=lambda shard: 0.004 * shard):
    """A build whose steps take as long as told, in seconds by shard, and can't be traced."""
    built = []

    def build(lowering, shard):
        built.append((lowering, shard))
        seconds = (vmap if lowering == "vmap" else loop)(shard)
        return lambda told: time.sleep(float(told)), (torch.tensor(seconds),)

    return build, built


@given(st.integers(1, 10**5), st.integers(1, 300))
def test_balanced_shards_waste_less_than_a_member_each(members, size):
    shard = balanced(members, size)
    shards = -(-members // shard)
    assert 1 <= shard <= min(size, members)
    assert shards * shard - members < shards
    assert shards == -(-members // min(size, members))


def test_the_fastest_shard_a_member_is_taken():
    build, _ = timed(lambda c: 0.002 if c <= 16 else 0.0005 * c)
    plan, step = choose_plan(build, members=64, calls=10, compile=False)
    assert (plan.lowering, plan.shard, plan.compiled) == ("vmap", 16, False)
    assert "× the loop, best of shards 8, 16, 32" in plan.reason
    step(torch.tensor(0.0))


def test_measuring_stops_when_shards_get_clearly_worse():
    build, built = timed(lambda c: 0.0001 * c * c)
    choose_plan(build, members=1000, calls=1000, compile=False)
    tried = {shard for lowering, shard in built if lowering == "vmap"}
    # 16, then 32 is worse: nothing larger; smaller ones as long as they are better.
    assert max(tried) == balanced(1000, 32)
    assert min(tried) <= 4


def test_a_short_run_measures_little():
    build, built = timed(lambda c: 0.01, lambda c: 0.001 * c)
    choose_plan(build, members=64, calls=1, compile=False)
    # Whether there is a batched form, one size, and the step itself.
    assert [shard for lowering, shard in built if lowering == "vmap"] == [2, 16, 16]


def test_what_is_asked_for_is_done():
    build, _ = timed(lambda c: 0.004 * c, lambda c: 0.001 * c)
    assert choose_plan(build, 8, 1, lowering="vmap", compile=False)[0].lowering == "vmap"
    plan, _ = choose_plan(build, 8, 1, lowering="loop", shard=3)
    assert (plan.lowering, plan.shard) == ("loop", 3)
    assert choose_plan(build, 8, 1, lowering="vmap", shard=5, compile=False)[0].shard == 4
    with pytest.raises(ModelspaceError, match="at least 1 member; received 0"):
        choose_plan(build, 8, 1, shard=0)


def failing(message):
    def build(lowering, shard):
        def step():
            if lowering == "vmap":
                raise RuntimeError(message)

        return step, ()

    return build


def test_an_operation_without_a_batched_form_is_named():
    build = failing("aten::lstm.input hit the vmap fallback which is currently disabled")
    plan, _ = choose_plan(build, 8, 1)
    assert plan.lowering == "loop"
    assert plan.fallback.startswith("no batched form of aten::lstm.input")
    with pytest.raises(ModelspaceError, match="no batched form of aten::lstm"):
        choose_plan(build, 8, 1, lowering="vmap")


def test_what_fails_in_the_loop_too_is_not_blamed_on_batching():
    def build(lowering, shard):
        def step():
            raise ZeroDivisionError("the user's own")

        return step, ()

    with pytest.raises(ZeroDivisionError, match="the user's own"):
        choose_plan(build, 8, 1)


def test_other_refusals_are_quoted():
    assert (
        no_batched_form(RuntimeError("vmap: no control flow\nlong story"))
        == "no batched form: vmap: no control flow"
    )
    assert no_batched_form(RuntimeError()) == "no batched form: RuntimeError"


def tensors(lowering, shard):
    x = torch.ones(shard, 3)
    if lowering == "loop":
        return lambda x: (time.sleep(0.002 * shard), x.add_(1))[1], (x,)
    return lambda x: x.add_(1), (x,)


def no_compiler(*args, **kwargs):
    raise RuntimeError("no C++ compiler here")


def test_without_a_compiler_a_long_run_is_eager_and_says_so(monkeypatch):
    monkeypatch.setattr(torch._inductor, "compile", no_compiler)
    monkeypatch.setattr("modelspace.engine.plan._COMPILE_SECONDS", 0.0)
    plan, step = choose_plan(tensors, 8, 10**6)
    assert (plan.lowering, plan.compiled) == ("vmap", False)
    assert plan.reason.endswith("; not compiled: no C++ compiler here")
    assert torch.equal(step(torch.ones(2, 2)), torch.full((2, 2), 2.0))
    with pytest.raises(ModelspaceError, match=r"the step can't be compiled: no C\+\+ compiler here"):
        choose_plan(tensors, 8, 10**6, compile=True)


def test_a_short_run_is_not_compiled(compilations):
    assert not choose_plan(tensors, 8, 10)[0].compiled
    assert not choose_plan(tensors, 8, 10**9, compile=False)[0].compiled
    assert compilations == []


def test_a_plan_reads_as_one_line():
    assert (
        str(Plan("vmap", 16, True, 2, "7.0 × the loop"))
        == "compiled vmap, shards of 16 members, 2 threads: 7.0 × the loop"
    )
    assert str(Plan("loop", 1, False, 1, "as asked")) == "loop, shards of 1 member, 1 thread: as asked"


def test_the_number_of_threads_is_as_asked_and_put_back():
    before = torch.get_num_threads()
    counts = []
    build = lambda lowering, shard: (lambda: counts.append(torch.get_num_threads()), ())  # noqa: E731
    plan, _ = choose_plan(build, members=4, calls=1, lowering="vmap", compile=False, threads=before + 1)
    assert plan.threads == before + 1
    assert set(counts) == {before + 1}
    assert torch.get_num_threads() == before


def test_a_plan_can_be_asked_for_again():
    plan = Plan("vmap", 8, True, 2, "measured")
    assert plan.choices == {"lowering": "vmap", "shard": 8, "compile": True, "threads": 2, "workers": 1}


def test_what_was_measured_is_remembered(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSPACE_CACHE", str(tmp_path))
    monkeypatch.setattr(time, "process_time", time.perf_counter)  # the steps sleep
    build, _ = timed(lambda c: 0.001)
    first, _ = choose_plan(build, 64, 1000, compile=False, fingerprint="kind")
    build, built = timed(lambda c: 0.5, lambda c: 0.5)
    again, _ = choose_plan(build, 64, 1000, compile=False, fingerprint="kind")
    assert again.choices == first.choices
    assert again.reason == f"{first.reason}, measured earlier"
    assert [shard for lowering, shard in built if lowering == "vmap"] == [2, first.shard]
    other, _ = choose_plan(timed(lambda c: 0.001 * c)[0], 64, 1000, compile=False, fingerprint="another kind")
    assert "measured earlier" not in other.reason


def test_processes_are_taken_where_they_measure_faster():
    build, _ = timed(lambda c: 0.001 * c, lambda c: 0.01 * c)
    with using_threads(2):
        plan, _ = choose_plan(build, 64, 1000, compile=False, workers=None)
        assert (plan.workers, plan.threads) == (2, 1)
        assert str(plan).startswith(f"vmap, shards of {plan.shard} members, 2 processes: ")
        assert choose_plan(build, 64, 1000, compile=False, workers=1)[0].workers == 1
        # Starting processes costs more than a short run has to win.
        assert choose_plan(build, 64, 2, compile=False, workers=None)[0].workers == 1
    with pytest.raises(ModelspaceError, match="at least 1 worker is needed; received 0"):
        choose_plan(build, 64, 2, workers=0)


def test_a_shard_that_does_not_fit_in_memory_is_no_candidate():
    def build(lowering, shard):
        def step():
            if shard > 16:
                raise torch.OutOfMemoryError("CUDA out of memory")
            time.sleep(0.001)

        return step, ()

    plan, _ = choose_plan(build, 64, 1000, compile=False)
    assert plan.shard <= 16


def test_what_is_computed_member_by_member_is_compiled_only_on_demand(compilations):
    assert not choose_plan(tensors, 8, 10**9, unrolled=lambda: True)[0].compiled
    assert compilations == []
    assert choose_plan(tensors, 8, 10**9, unrolled=lambda: True, compile=True)[0].compiled


def killed_in(moments):
    """A build whose step ends its process at one of these calls of it, where that is a measuring one."""
    parent, calls = os.getpid(), [0]

    def build(lowering, shard):
        def step(values):
            if os.getpid() != parent:
                calls[0] += 1
                if calls[0] in moments(process_index()):
                    os.kill(os.getpid(), signal.SIGKILL)
            return values * 2

        return step, (torch.zeros(shard, 3),)

    return build


@pytest.mark.parametrize("workers", [None, 2])
@pytest.mark.parametrize("lowering", [None, "vmap", "loop"])
@pytest.mark.parametrize("lost", [(0,), (0, 1)], ids=["one lost", "all lost"])
def test_processes_that_are_killed_while_they_measure(capsys, monkeypatch, workers, lowering, lost):
    monkeypatch.setattr(plan_module, "_FORK_SECONDS", 0.0)
    build = killed_in(lambda index: (2,) if index in lost else ())
    with using_threads(2):
        plan, _ = choose_plan(build, 64, 10**9, lowering=lowering, workers=workers, threads=1, compile=False)
    assert (plan.workers, plan.lowering) == (workers or 1, lowering or "vmap")
    decided = lowering == "loop" and workers  # then nothing is measured
    assert ("while the plan was measured" in capsys.readouterr().err) is not bool(decided)


def test_what_is_decided_is_not_measured():
    def build(lowering, shard):
        def step(values):
            calls.append(lowering)
            return values * 2

        return step, (torch.zeros(shard, 3),)

    calls = []
    choices = {"threads": 1, "workers": 1, "compile": False}
    plan, _ = choose_plan(build, 10, 66, lowering="vmap", shard=4, **choices)
    assert calls == ["vmap"]  # whether it has a batched form
    assert (plan.lowering, plan.shard, plan.compiled, plan.reason) == ("vmap", 4, False, "as asked")
    plan, _ = choose_plan(build, 10, 66, lowering="loop", **choices)
    assert calls == ["vmap"]
    assert (plan.lowering, plan.shard) == ("loop", 10)
    plan, step = choose_plan(build, 10, 67, lowering="vmap", shard=4, **choices)  # 3 × 67 calls repay tracing
    assert calls == ["vmap"] * 3
    assert (plan.traced, str(plan)) == (True, "traced vmap, shards of 4 members, 1 thread: as asked")
    assert torch.equal(step(torch.ones(4, 3)), 2 * torch.ones(4, 3))
    assert calls == ["vmap"] * 3, "Python is called again"


@pytest.mark.parametrize("calls", [1, 10**6])
def test_a_step_is_traced_where_that_is_repaid(calls):
    def build(lowering, size):
        def step(values):
            for _ in range(300):
                torch.overrides.is_tensor_like(values)  # Python, which a list of operations has not
            return values * 2

        return step, (torch.zeros(size, 3),)

    plan, step = choose_plan(build, 8, calls, lowering="vmap", threads=1, workers=1, compile=False)
    assert plan.traced is (calls > 1)
    assert ("× untraced" in plan.reason) is plan.traced
    assert torch.equal(step(torch.ones(plan.shard, 3)), 2 * torch.ones(plan.shard, 3))


@pytest.mark.slow
def test_processes_that_are_killed_at_random_while_they_measure(monkeypatch, capsys):
    monkeypatch.setattr(plan_module, "_FORK_SECONDS", 0.0)
    draw = random.Random(12)
    ended = Counter()
    for _ in range(60):
        moment, index = draw.randrange(1, 12), draw.randrange(3)
        workers, lowering = draw.choice([None, 2, 3]), draw.choice([None, "vmap", "loop"])
        build = killed_in(lambda i, moment=moment, index=index: (moment,) if i == index else ())
        with using_threads(2):
            plan, _ = choose_plan(
                build, 64, 10**9, lowering=lowering, workers=workers, threads=1, compile=False
            )
        assert workers is None or plan.workers == workers
        ended["killed" if "while the plan" in capsys.readouterr().err else "not reached"] += 1
    with capsys.disabled():
        print(f"\nmeasuring processes: {dict(ended)}, of 60 with a plan: 60")
    assert ended["killed"] > 20
