"""A Ray cluster of two nodes on this machine, on loopback only; it is gone after the tests."""

from __future__ import annotations

import os
import shutil
import tempfile

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # what keeps Ray on 127.0.0.1

import pytest

STORE_BYTES = 100_000_000


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of two CPUs; the second one has the resource "far". This process is connected to them."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray")
    args = {"num_cpus": 2, "object_store_memory": STORE_BYTES}
    made = Cluster(initialize_head=True, head_node_args={**args, "include_dashboard": False})
    try:
        made.add_node(**args, resources={"far": 1})
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made
    finally:
        ray.shutdown()
        made.shutdown()
        del os.environ["RAY_TMPDIR"]
        shutil.rmtree(folder, ignore_errors=True)
