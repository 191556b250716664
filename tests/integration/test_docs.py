"""What the documents tell people to type works."""

import re
import shlex
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from fairlead import __version__

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
TARGET = re.compile(r"^make ([a-z-]+)", re.MULTILINE)
DEMO = pytest.mark.xdist_group("demo")  # it listens on a port: one at a time
SHELL = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def demo() -> tuple[list[str], float]:
    """What `make demo` printed, and the seconds that it took."""
    started = time.monotonic()
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines(), time.monotonic() - started


@DEMO
def test_the_demo_ends_with_the_table_in_less_than_a_minute(demo: tuple[list[str], float]) -> None:
    lines, seconds = demo
    head = next(n for n, line in enumerate(lines) if line.startswith("NAME"))
    assert seconds < 60
    assert [line.split()[:7] for line in lines[head + 1 : head + 3]] == [
        ["customers", "Customer", "crm,erp", "crm", "Enforce", "True", "ConflictsPending"],
        ["products", "Product", "erp,crm", "erp", "Enforce", "True", "InSync"],
    ]


@DEMO
def test_the_demo_tells_what_came_of_an_act_before_the_next_one(demo: tuple[list[str], float]) -> None:
    acts = "\n".join(demo[0]).split("\n→ ")[1:]
    told = [re.findall("overwritten|reverted|conflict on|deleted in crm", act.partition("\nNAME")[0]) for act in acts]
    assert told == [["overwritten"] * 4, [], ["reverted"], ["conflict on"] * 2, ["deleted in crm"]]


@DEMO
def test_the_command_that_the_demo_points_at_shows_the_conflict(demo: tuple[list[str], float]) -> None:
    pointed = re.search(r"^customers: .* see `(fairlead .*)`$", "\n".join(demo[0]), re.MULTILINE)
    assert pointed is not None
    shown = subprocess.run(shlex.split(f".venv/bin/{pointed[1]}"), cwd=ROOT, capture_output=True, text=True)
    assert [line.split()[0] for line in shown.stdout.splitlines()] == ["FIELD", "note"], shown.stderr


def test_the_first_policy_takes_twenty_lines_and_is_valid_with_what_is_typed(tmp_path: Path) -> None:
    first = re.search(
        r"## The first policy\n\n```yaml\n(.*?)^```.*?^```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE
    )
    assert first is not None
    policy, typed = first.groups()
    (tmp_path / "policy.yaml").write_text(policy)
    for name in (".venv", "examples"):
        (tmp_path / name).symlink_to(ROOT / name)
    done = subprocess.run(["bash", "-ec", typed], cwd=tmp_path, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("3 resources: valid\n", "")
    assert policy.count("\n") <= 25


def test_the_cluster_pulls_nothing_but_the_image_that_was_pushed() -> None:
    install = re.search(r"## Install on a cluster\n\n```bash\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert install is not None
    pushed = re.search(r"docker push (\S+)", install[1])
    repository = re.search(r"image\.repository=(\S+)", install[1])
    applied = re.search(r"^(.+) \| kubectl apply -f -$", install[1], re.MULTILINE)
    assert pushed is not None
    assert repository is not None
    assert applied is not None
    applying = ["bash", "-c", applied[1]]
    manifests = subprocess.run(applying, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    pods = [each["spec"]["template"] for each in yaml.safe_load_all(manifests) if each["kind"] == "Deployment"]
    assert (
        f"{repository[1]}:{__version__}",
        {container["image"] for pod in pods for container in pod["spec"]["containers"]},
    ) == (pushed[1], {pushed[1], "postgres:15"})


def test_what_is_applied_to_the_cluster_is_every_document_of_the_examples() -> None:
    files = sorted((ROOT / "examples/cluster").glob("*.yaml"))
    apart = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    together = list(yaml.safe_load_all("".join(file.read_text() for file in files)))
    assert together == apart


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    targets = LINK.findall(page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_make_target_that_is_named_exists() -> None:
    named = {name for page in PAGES for block in SHELL.findall(page.read_text()) for name in TARGET.findall(block)}
    declared = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named - declared == set()


def test_make_help_names_every_target_that_people_use() -> None:
    told = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {line.split()[0] for line in told.splitlines()} >= {"demo", "demo-cluster", "test", "check", "bench"}


def test_every_document_that_the_code_names_exists() -> None:
    sources = [path for folder in ("operator", "tests", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r"docs/[\w./-]+\.md", path.read_text())}
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_image_is_built_in_an_environment_of_its_own() -> None:
    lines = (ROOT / "Containerfile").read_text().splitlines()
    copied = [name for line in lines if line.startswith("COPY ") for name in line.split()[1:-1]]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    # a base of Debian has EXTERNALLY-MANAGED, where pip installs nothing beside the packages of the system
    assert (
        "RUN python3 -m venv /opt/fairlead && /opt/fairlead/bin/pip install --no-cache-dir /src && rm -rf /src" in lines
    )
    assert "ENV PATH=/opt/fairlead/bin:$PATH PYTHONUNBUFFERED=1" in lines
