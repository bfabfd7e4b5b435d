"""What pipelines/ says of clusters fits together: the manifest, the command that it runs, the versions, the page."""

import re
from pathlib import Path

import curate_ray
import on_ray
import pytest

from facecore.errors import OptionError

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

ROOT = Path(__file__).parents[1]
README = (ROOT / "pipelines" / "README.md").read_text()
JOB = yaml.safe_load((ROOT / "pipelines" / "rayjob.yaml").read_text())
CLUSTER = JOB["spec"]["rayClusterSpec"]
HEAD, (WORKERS,) = CLUSTER["headGroupSpec"], CLUSTER["workerGroupSpecs"]
PODS = [group["template"]["spec"] for group in (HEAD, WORKERS)]
CONTAINERS = [container for pod in PODS for container in pod["containers"]]


@pytest.fixture
def command():
    """What the job runs, as the recipe understands it."""
    python, script, *words = JOB["spec"]["entrypoint"].split()
    assert (python, Path(script).name) == ("python", Path(curate_ray.__file__).name)
    return curate_ray.curate.make_context("curate", words).params


def test_it_is_a_job_that_removes_its_cluster_and_is_started_again():
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert JOB["spec"]["shutdownAfterJobFinishes"] is True
    assert JOB["spec"]["backoffLimit"] > 0
    assert CLUSTER["authOptions"] == {"mode": "token"}


def test_the_command_runs_in_the_cluster_and_has_room_there(command):
    assert command["address"] == "auto"
    gpus = int(CONTAINERS[1]["resources"]["limits"]["nvidia.com/gpu"]) * WORKERS["replicas"]
    assert command["actors"] * command["num_gpus"] == gpus
    assert HEAD["rayStartParams"]["num-cpus"] == "0"


def test_every_pod_sees_the_data_and_enough_shared_memory(command):
    for pod, group in zip(PODS, (HEAD, WORKERS), strict=True):
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
        for path in (command["dataset"], command["model"], command["out"]):
            assert any("persistentVolumeClaim" in mounts[str(above)] for above in path.parents if str(above) in mounts)
        memory = mounts["/dev/shm"]["emptyDir"]
        assert memory["medium"] == "Memory"
        assert int(memory["sizeLimit"].removesuffix("Gi")) << 30 > int(group["rayStartParams"]["object-store-memory"])


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container["name"])
def test_a_container_reports_nothing_and_gets_what_it_asks_for(container):
    assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["image"] == CONTAINERS[0]["image"]


def test_versions_are_those_that_are_tested():
    (pinned,) = re.findall(r"^ray==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert CLUSTER["rayVersion"] == pinned
    assert f"ray[default]=={pinned}" in (ROOT / "pipelines" / "rayjob.yaml").read_text()


def test_the_page_names_every_file_and_no_other():
    named = set(re.findall(r"`(\w+\.(?:py|yaml|sh))`", README.partition("\n## ")[0]))
    assert named == {path.name for path in (ROOT / "pipelines").iterdir() if path.suffix in (".py", ".yaml", ".sh")}


def test_the_options_on_the_page_exist():
    lines = re.findall(r"^python pipelines/curate_ray\.py (.+)$", README, re.MULTILINE)
    assert len(lines) == 2
    for line in lines:
        assert curate_ray.curate.make_context("curate", line.split()).params["num_gpus"] > 0


def test_every_figure_of_the_arithmetic_says_where_it_is_from():
    rows = [line for line in README.partition("## Arithmetic")[2].splitlines() if re.match(r"\| \**[a-z]", line)]
    assert len(rows) > 15
    for row in rows:
        assert re.search(r"\((m|e)\b|not on one machine", row), row


def test_without_ray_it_is_one_line(monkeypatch):
    monkeypatch.setattr(on_ray, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=r"^Ray is not installed; pip install 'facecore\[ray\]'$"):
        with on_ray.cluster("local"):
            pass


def test_only_the_recipes_on_ray_import_it():
    importing = {
        path.name
        for folder in ("facecore", "pipelines", "benchmarks")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^\s*(import ray\b|from ray[. ])", path.read_text(), re.MULTILINE)
    }
    assert importing == {"on_ray.py", "ray_actors.py"}
