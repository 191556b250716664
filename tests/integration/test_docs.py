"""What the documents tell people to type works."""

import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from fairlead import __version__
from fairlead.model.bundle import load
from fairlead.model.check import check

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
TARGET = re.compile(r"^make ([a-z-]+)", re.MULTILINE)
SHELL = re.compile(r"^```bash\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_demo_ends_with_the_table_in_less_than_a_minute() -> None:
    started = time.monotonic()
    done = subprocess.run(["make", "demo"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, time.monotonic() - started < 60) == (0, True), done.stdout + done.stderr
    lines = done.stdout.splitlines()
    head = next(n for n, line in enumerate(lines) if line.startswith("NAME"))
    assert [line.split()[:7] for line in lines[head + 1 : head + 3]] == [
        ["customers", "Customer", "crm,erp", "crm", "Enforce", "True", "ConflictsPending"],
        ["products", "Product", "erp,crm", "erp", "Enforce", "True", "InSync"],
    ]


def test_the_first_policy_is_valid_and_takes_twenty_lines(tmp_path: Path) -> None:
    text = re.search(r"^```yaml\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert text is not None
    policy = yaml.safe_load(text[1])
    connections = [
        {
            "apiVersion": "fairlead.dev/v1alpha1",
            "kind": "Connection",
            "metadata": {"name": name, "namespace": policy["metadata"]["namespace"]},
            "spec": {"connector": connector, "url": url},
        }
        for name, connector, url in (
            ("crm", "rest", "https://crm.example.com"),
            ("erp", "sql", "postgresql://erp.example.com/erp"),
        )
    ]
    file = tmp_path / "policy.yaml"
    file.write_text(yaml.safe_dump_all([policy, *connections]))
    from fairlead.connectors.registry import preset_documents

    bundle = load([file], preset_documents())
    assert [*bundle.problems, *check(bundle)] == []
    assert text[1].count("\n") <= 25


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
