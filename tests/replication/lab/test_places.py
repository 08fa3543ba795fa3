"""Where parts are computed makes no difference to a byte of the table."""

import sys

import pytest

from localma.replication import simulation
from localma.replication.lab import parts
from localma.replication.lab.experiment import places

FEW = {"replications": 3, "scenarios": (2,), "seed": 1}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    out = tmp_path_factory.mktemp("here")
    simulation.run(**FEW, out=out)
    return (out / "simulation.csv").read_bytes()


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_processes_and_threads_write_the_same_table(backend, table, tmp_path):
    with places(2, backend):
        simulation.run(**FEW, out=tmp_path)
    assert (tmp_path / "simulation.csv").read_bytes() == table


@pytest.mark.filterwarnings("default")  # of the cluster's own
def test_the_workers_of_a_scheduler_write_the_same_table(table, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install 'localma[dask]'")
    how = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**how, local_directory=str(tmp_path / "workers")) as cluster:
        with distributed.Client(cluster) as client:
            # only the side that collects keeps parts: a worker that tried to would fail
            assert len(client.run(lambda: setattr(parts, "keep", None))) == 2
            with places(backend="dask", scheduler=cluster.scheduler_address):
                simulation.run(**FEW, out=tmp_path / "a")
            assert any(client.run(lambda: parts.code_digest.cache_info().currsize).values()), "nothing ran there"
    assert (tmp_path / "a" / "simulation.csv").read_bytes() == table


def test_without_dask_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=r"'dask' needs dask: pip install 'localma\[dask\]'"), places(2, "dask"):
        pass
