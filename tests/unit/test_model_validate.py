"""`fairlead validate`: from files to verdict, and that no file can break it."""

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.cli.choices import Output
from fairlead.cli.validate import validate, validate_paths
from fairlead.model.bundle import collect
from fairlead.model.check import check, check_policy
from fairlead.model.document import parse
from support import manifests
from support.manifests import Manifest, with_values

VALID = (manifests.full_connector(), manifests.connection(), manifests.database(), manifests.policy())
TEXT = yaml.safe_dump_all([*VALID, manifests.full_policy()])


def written(folder: Path, *documents: Manifest) -> Path:
    path = folder / "all.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    return path


def test_valid_files_exit_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = validate_paths([written(tmp_path, *VALID)], Output.TABLE)
    assert (code, capsys.readouterr().out) == (0, "4 resources: valid\n")


def test_problems_are_printed_by_line_with_their_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, with_values(manifests.connection(), {"spec.suspend": "x", "spec.connector": 1}))
    code = validate_paths([path], Output.TABLE)
    expected = [
        f"{path}:7: spec.connector: must be text, not a number: quote it",
        f"{path}:8: spec.suspend: must be true or false, not text",
        "2 problems in 1 resource",
    ]
    assert (1, expected) == (code, capsys.readouterr().out.splitlines())


def test_json_holds_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"apiVersion": "v1", "kind": "Pod"}, with_values(manifests.database(), {"spec.x": 1}))
    validate_paths([path], Output.JSON)
    place = {"file": str(path), "column": 0, "reason": "InvalidSpec"}
    assert json.loads(capsys.readouterr().out) == {
        "valid": False,
        "resources": 1,
        "problems": [
            {
                **place,
                "line": 22,
                "path": "spec.x",
                "message": "unknown field 'x'; known are auth, connector, limits, probe, retry, suspend, tls, url",
            }
        ],
        "notes": [{**place, "line": 1, "path": "", "message": "Pod is passed over: it is not Fairlead's"}],
    }


def test_a_note_is_told_from_a_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"apiVersion": "v1", "kind": "Pod"}, manifests.database())
    expected = [f"note: {path}:1: Pod is passed over: it is not Fairlead's", "1 resource: valid"]
    assert (0, expected) == (validate_paths([path], Output.TABLE), capsys.readouterr().out.splitlines())


def test_nothing_to_check_is_not_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = validate_paths([written(tmp_path, {"apiVersion": "v1", "kind": "Pod"})], Output.TABLE)
    assert (
        code,
        capsys.readouterr().out.splitlines()[-1],
    ) == (1, "no Connection, SyncPolicy or Connector was found: name the files or the directory that hold them")


def test_two_files_are_checked_together(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(yaml.safe_dump_all(VALID[:2]))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump_all(VALID[2:]))
    assert validate([tmp_path]).valid


EDITS = st.lists(
    st.tuples(
        st.integers(0, len(TEXT)), st.integers(0, 12), st.text(max_size=4) | st.sampled_from(["\n", "[]", "{}", "1"])
    ),
    min_size=1,
    max_size=4,
)


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150, deadline=None)
@given(EDITS)
def test_no_damaged_file_raises(edits: list[tuple[int, int, str]]) -> None:
    text = TEXT
    for start, length, replacement in edits:
        text = text[:start] + replacement + text[start + length :]
    bundle = collect(parse(text), {})
    assert all(problem.message for problem in [*bundle.problems, *check(bundle)])
    for policy in bundle.policies.values():
        check_policy(policy, {}, {}, [])


JUNK: st.SearchStrategy[object] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
PLACES = ["spec.schema", "spec.schema.properties", "spec.schema.properties.email", "spec.schema.required"]
KEYWORDS = ["pattern", "type", "items", "$ref", "enum", "format", "$schema", "$id", "multipleOf", "required"]
MORE = [f"spec.schema.properties.email.{word}" for word in KEYWORDS] + [f"spec.schema.{word}" for word in KEYWORDS]


@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=150, deadline=None)
@given(st.sampled_from([*PLACES, *MORE, "spec.systems.0.fields.name", "spec.systems.0.fields.email"]), JUNK)
def test_no_schema_or_mapping_raises(place: str, junk: object) -> None:
    bundle = collect(parse(yaml.safe_dump_all([*VALID[:3]])), {})
    found = collect(parse(json.dumps(with_values(manifests.policy(), {place: junk}))), {})
    for policy in found.policies.values():
        check_policy(policy, bundle.connections, bundle.connectors, [])
