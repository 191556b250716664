"""Where secret values come from."""

from pathlib import Path

import pytest

from fairlead.model.common import KeyRef
from fairlead.transport.failure import AuthRejected
from fairlead.transport.secrets import DirectorySecrets, MappingSecrets, Secrets

REF = KeyRef(name="login", key="token")
ABSENT = "Secret 'login' does not exist: create it in the Connection's namespace, with the key 'token'"
WITHOUT_KEY = "Secret 'login' has no key 'token': add the key, or name one that the Secret has"
MISSING = "Secret 'login' has no key 'token', or does not exist: create it in the Connection's namespace"


def written(folder: Path, value: bytes, name: str = "login") -> DirectorySecrets:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "token").write_bytes(value)
    return DirectorySecrets(folder)


def failure(secrets: Secrets, ref: KeyRef = REF) -> AuthRejected:
    with pytest.raises(AuthRejected) as caught:
        secrets.get(ref)
    return caught.value


def test_a_mounted_secret_is_read(tmp_path: Path) -> None:
    assert written(tmp_path, "pä ss".encode()).get(REF) == "pä ss"


def test_the_newline_that_editors_leave_is_no_part_of_it(tmp_path: Path) -> None:
    assert (written(tmp_path, b"s3cret\n").get(REF), MappingSecrets({"login": {"token": "s3cret\n"}}).get(REF)) == (
        "s3cret",
        "s3cret",
    )


def test_a_rotation_is_seen_at_the_next_use(tmp_path: Path) -> None:
    secrets = written(tmp_path, b"old")
    before = secrets.get(REF)
    written(tmp_path, b"new")
    assert (before, secrets.get(REF)) == ("old", "new")


@pytest.mark.parametrize("given", [{}, {"password": "x"}])
def test_a_key_that_is_missing_is_named(given: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "login").mkdir()
    for key, value in given.items():
        (tmp_path / "login" / key).write_text(value)
    found = [failure(secrets) for secrets in (MappingSecrets({"login": given}), DirectorySecrets(tmp_path))]
    assert {(one.message, one.reason) for one in found} == {(WITHOUT_KEY, "SecretNotFound")}


def test_a_secret_that_is_missing_is_named() -> None:
    found = failure(MappingSecrets({"other": {"token": "x"}}))
    assert (found.message, found.reason) == (ABSENT, "SecretNotFound")


def test_a_secret_of_which_nothing_is_mounted_may_exist_or_not(tmp_path: Path) -> None:
    found = failure(DirectorySecrets(tmp_path))
    assert (found.message, found.reason) == (MISSING, "SecretNotFound")


@pytest.mark.parametrize(
    "ref", [KeyRef(name="..", key="token"), KeyRef(name="login", key="../token"), KeyRef(name="/", key="token")]
)
def test_a_name_does_not_lead_out_of_the_folder(ref: KeyRef, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("outside")
    (tmp_path / "in" / "login").mkdir(parents=True)
    assert failure(DirectorySecrets(tmp_path / "in"), ref).reason == "SecretNotFound"


def test_an_absolute_name_does_not_either(tmp_path: Path) -> None:
    written(tmp_path, b"outside")
    ref = KeyRef(name=str(tmp_path / "login"), key="token")
    assert failure(DirectorySecrets(tmp_path / "in"), ref).reason == "SecretNotFound"


def test_a_value_that_is_no_text_is_told_without_it(tmp_path: Path) -> None:
    assert failure(written(tmp_path, b"\xff\xfecanary")).message == (
        "key 'token' of Secret 'login' is no text in UTF-8: is it a binary file, or encoded twice?"
    )


def test_a_key_that_is_a_folder_is_missing(tmp_path: Path) -> None:
    (tmp_path / "login" / "token").mkdir(parents=True)
    assert failure(DirectorySecrets(tmp_path)).message == WITHOUT_KEY
