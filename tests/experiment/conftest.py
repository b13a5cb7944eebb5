"""A Ray cluster that several tests share."""

import socket

import pytest
import ray_work


@pytest.fixture(scope="module")
def nodes():
    """A cluster on this machine: a head and a second node, a core each; a function adds more."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    ray.cloudpickle.register_pickle_by_value(ray_work)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Ray's client server starts processes while it answers, and gRPC's handlers of a fork may end those.
        patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "0")
        patch.delenv("RAY_ADDRESS", raising=False)
        for name in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
            patch.delenv(name, raising=False)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
        made = Cluster(initialize_head=True, head_node_args=head)
        made.add_node(num_cpus=1, env_vars={"SECOND_NODE": "1"})
        made.client_address = f"ray://127.0.0.1:{port}"
        yield made
        made.shutdown()
    ray.cloudpickle.unregister_pickle_by_value(ray_work)
