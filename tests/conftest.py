"""Where the real recordings are, and a quiet TensorFlow."""

import gc
import os
import socket
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Tracing makes many objects that stay, and each collection looks through them again.
gc.set_threshold(100_000, 20, 20)

REPOSITORY = Path(__file__).resolve().parent.parent
HELPERS = REPOSITORY / "tests" / "helpers"

# The environment of a process on JAX, where most of the time would go into optimising what runs a few times.
ON_JAX = {
    "KERAS_BACKEND": "jax",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false",
}


# A file goes to one process as a whole: those that take longest begin, so that none is alone at the end.
LONGEST = [
    "test_end_to_end", "test_distiller", "test_explain", "test_experiments", "test_multimodal",
    "test_export", "test_students", "test_docs", "test_without_tensorflow", "test_losses", "test_training",
    "test_generations", "test_fusion_students", "test_demo", "test_features", "test_quantisation",
    "test_pipeline", "test_vectorised", "test_style", "test_page_speaker", "test_enrolment",
    "test_degradations", "test_probe", "test_export_later", "test_text", "test_stress", "test_calibration",
    "test_examples", "test_grid", "test_voice", "test_page", "test_accelerate", "test_devices",
    "test_additions", "test_results_table", "test_from_python",
]  # fmt: skip


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish():
    # What was imported stays: to look through it takes half a second, each time a training asks for it.
    gc.freeze()
    if "tensorflow" in sys.modules:
        from small_runs import quicken_tensorflow

        quicken_tensorflow()


@pytest.fixture
def drawn(monkeypatch):
    """The `Figure` objects that would have been saved."""
    from light_sernet_kd.reporting.figures import page

    kept = []
    monkeypatch.setattr(page, "save", lambda figure, path: kept.append(figure) or [])
    return kept


@pytest.fixture(scope="module", autouse=True)
def pictures(request):
    """Which pictures are rendered: those with one of the module's `RENDERED` in their names, as all have ".".

    The others are made as ever and their files are empty: a run writes twenty, each in three formats.
    """
    from small_runs import rendered

    with rendered(*getattr(request.module, "RENDERED", ())):
        yield


@pytest.fixture
def undrawn(monkeypatch):
    """A run's pictures are not even made: to lay one out is a tenth of a run of one epoch."""
    from light_sernet_kd.experiment.results import writing as results

    monkeypatch.setattr(results, "_draw", lambda run, outcomes, metrics: False)


@pytest.fixture(scope="module")
def shallow():
    """A small Light-SERNet for all tests of a file."""
    from small_runs import shallow_light_sernet

    with shallow_light_sernet():
        yield


@pytest.fixture
def shallow_here():
    """A small Light-SERNet for this test."""
    from small_runs import shallow_light_sernet

    with shallow_light_sernet():
        yield


@pytest.fixture
def eager():
    """Networks run operation by operation, where a test trains for a few batches."""
    from small_runs import no_graphs

    with no_graphs():
        yield


@pytest.fixture(scope="session")
def manifest(tmp_path_factory) -> Path:
    """The table of a small made corpus."""
    from small_runs import made_corpus

    return made_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def nodes():
    """A Ray cluster on this machine: a head and a second node, a core each; a function adds more."""
    ray = pytest.importorskip("ray")
    import ray_work
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


@pytest.fixture(scope="session")
def runtime() -> Path:
    """The page's network runtime; skips the test where it is not there and cannot be fetched."""
    from light_sernet_kd.device import serve
    from light_sernet_kd.errors import UserError

    try:
        return serve.fetch_runtime()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder that holds EMO-DB/ and teachers/; skips the test when there is none."""
    named = os.environ.get("LIGHT_SERNET_KD_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not (folder / "EMO-DB" / "wav").is_dir():
        pytest.skip(f"no EMO-DB in {folder}: set LIGHT_SERNET_KD_DATA to the folder that holds EMO-DB/")
    return folder
