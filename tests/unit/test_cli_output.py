"""What the command line prints."""

from decimal import Decimal

import pytest

from fairlead.cli.output import as_json
from fairlead.cli.selection import plain, shown


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (Decimal("33.5"), "33.5"),
        (Decimal("12345678901234567890.12"), "12345678901234567890.12"),
        (Decimal("1E+20"), "100000000000000000000"),
    ],
)
def test_a_decimal_is_a_number_with_all_its_digits(number: Decimal, expected: str) -> None:
    assert as_json({"credit": [number]}) == f'{{"credit":[{expected}]}}'


def test_conflicts_and_dead_letters_show_a_decimal_as_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    shown({"credit": Decimal("33.50")})
    assert (plain(Decimal("33.50")), capsys.readouterr().out) == ("33.50", '{\n  "credit": 33.50\n}\n')
