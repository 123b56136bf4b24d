import pytest
import torch
from support import plans
from support.cases import named


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Three settings of four members; all members of the last diverge."""
    case = named("residual BatchNorm")
    population = case.space(torch.float32).sample(seeds=4, lr=[0.01, 0.03, 1e300])
    return plans.fit(
        population,
        case.data(),
        epochs=3,
        batch_size=8,
        lowering="vmap",
        shard=4,
        compile=False,
        threads=1,
        workers=1,
        out=tmp_path_factory.mktemp("run"),
    )


@pytest.fixture(scope="session")
def expected(run):
    """By setting's name, curve and statistic: of each epoch, as pandas computes it."""
    import pandas as pd

    found = {}
    for lr, rows in run.members.groupby("lr").groups.items():
        name = {0.01: "lr=0.01", 0.03: "lr=0.03", 1e300: "lr=1e+300"}[lr]
        for curve, values in run.history.items():
            frame = pd.DataFrame(values[rows])
            for which, level in (("q1", 0.25), ("median", 0.5), ("q3", 0.75)):
                found[name, f"{curve}/{which}"] = frame.quantile(level).dropna().tolist()
        status = run.table.loc[rows, "status"]
        found[name, "diverged"] = [float((status == "diverged").sum())] * 3
    return found
