"""What docs/operations/run.md tells people to type does what it tells."""

import json
import re
from pathlib import Path

import httpx
import pytest

from fairlead.worker import exit as codes
from support.site import Site, stopped, wait_until

TEXT = (Path(__file__).parents[2] / "docs/operations/run.md").read_text()
TOLD = re.compile(r"^```bash\nfairlead ([^\n]*)\n```\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
SERVED = re.compile(r"^curl http://127\.0\.0\.1:8080(/\w+)\n```\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)
TIME = re.compile(r"\d\d:\d\d:\d\d|\b\d+m?s\b")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path)
    made.add("crm", "ada@example.com", "alan@example.com")
    return made


def words(text: str) -> list[str]:
    """A text without what differs between two runs: times, and how wide they make a column."""
    return TIME.sub("TIME", text).split()


def test_each_command_tells_what_the_page_says(site: Site) -> None:
    for command, expected in TOLD.findall(TEXT):
        done = site.fairlead(*command.split())
        assert (command, done.returncode, words(done.stdout)) == (command, 0, words(expected))


def test_the_document_has_what_the_page_names(site: Site) -> None:
    assert "fairlead run manifests --once --output json\n" in TEXT
    (policy,) = json.loads(site.once("--output", "json").stdout)["policies"]
    assert {"ready", "status", "message", "worker", "plan"} <= set(policy)


def test_the_log_has_what_the_page_names(site: Site) -> None:
    assert "fairlead run manifests --once --log json\n" in TEXT
    run, end = map(json.loads, site.once("--log", "json").stdout.splitlines())
    assert {"outcome", "counts", "notes"} <= set(run)
    assert (end["event"], [policy["status"] for policy in end["policies"]]) == ("end", ["InSync"])


def test_the_paths_answer_what_the_page_says(site: Site, unused_tcp_port: int) -> None:
    assert "fairlead run manifests --port 8080\n" in TEXT
    site.once()
    address = f"http://127.0.0.1:{unused_tcp_port}"
    with site.worker("--port", str(unused_tcp_port)) as worker, httpx.Client(base_url=address, trust_env=False) as http:
        wait_until(lambda: _status(http, "/readyz") == 200)
        ((path, expected),) = SERVED.findall(TEXT)
        assert http.get(path).text == expected
        assert _status(http, "/healthz") == 200
        metrics = http.get("/metrics").text
        assert [name for name in re.findall(r"`(fairlead_\w+)`", TEXT) if f"\n{name}{{" not in metrics] == []
        stopped(worker)
        assert worker.returncode == 0


def test_the_page_has_every_exit_code() -> None:
    told = {int(code) for code in re.findall(r"^\| (\d) \|", TEXT, re.MULTILINE)}
    assert told == {codes.OK, codes.NEEDS_A_PERSON, 2, codes.STATE_UNUSABLE, codes.NOT_TAKEN_UP}


def _status(http: httpx.Client, path: str) -> int:
    try:
        return http.get(path).status_code
    except httpx.ConnectError:
        return 0
