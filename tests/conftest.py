"""Files that take long come first, so that no process is left alone with one at the end."""

import os
from pathlib import Path

# Processes that tests start find this checkout, and `tests.support`.
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
# Classes are split over devices on JAX only; `make test-jax` runs these.
collect_ignore = [] if os.environ.get("KERAS_BACKEND") == "jax" else ["heads/test_sharding.py"]
LONGEST = (
    "test_sharding.py",
    "test_resume.py",
    "test_export.py",
    "test_evaluate.py",
    "test_replicas.py",
    "test_replicas_slow.py",
    "test_casia_examples.py",
    "test_recipes.py",
    "test_workers.py",
    "test_image_batches.py",
    "test_backbones.py",
    "test_import.py",
    "test_sampled_training.py",
    "test_heads.py",
    "test_layers.py",
    "test_metric_losses.py",
    "test_margin_losses.py",
    "test_checks.py",
    "test_steps.py",
    "test_optimizers.py",
    "test_architecture.py",
    "test_startup.py",
)


def pytest_collection_modifyitems(items):
    """Move the tests of the longest files to the beginning, in that order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))
