"""Rows as older versions wrote them are still read."""

from fairlead.engine.case import Operation, Write
from fairlead.state import codec
from fairlead.state.base import Intent, Undelivered
from fairlead.state.layout import Layout
from fairlead.state.rows import Rows
from fairlead.state.seal import Seal

ROWS = Rows(Layout((), {}), {}, Seal((), b"k" * 32))
WRITE = Write(Operation.UPDATE, {"name": "Ada"}, {"name": "crm"})


def test_a_journal_that_does_not_tell_the_run_is_read() -> None:
    body = codec.dump([(1, "erp", codec.parts(WRITE))])
    assert ROWS.intents((1, body)) == [Intent(1, "erp", WRITE)]


def test_an_undelivered_write_that_does_not_tell_the_run_is_read() -> None:
    row = (1, "erp", codec.dump((WRITE, "refused")), 1.0, 2.0, 3, "Invalid", 1, 0)
    expected = Undelivered(1, "erp", WRITE, 1.0, 2.0, 3, "Invalid", "refused", dead=True)
    assert ROWS.undelivered(row) == expected
