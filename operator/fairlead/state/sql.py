"""A store in SQL: what runs remember, and its upkeep: keys, retention, moving to another store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from fairlead.state import portable
from fairlead.state.base import STALE, Commit, StateError
from fairlead.state.rows import place_of
from fairlead.state.seal import MARK, OPEN, Seal, wrong_key
from fairlead.state.sql_audit import SQLAudit
from fairlead.state.sql_base import PAGE, SEALED_WITH
from fairlead.state.sql_erasing import SQLErasing
from fairlead.state.tables import META, PORTABLE, SEALED, Query, Step, Table

_BATCH = 1000
"""Lines of a file that are stored in one step."""


class SQLStore(SQLErasing, SQLAudit):
    """See `state.base.Store`."""

    # --- keys and retention ---

    def sealed(self, text: bytes, place: bytes) -> bytes:
        """A text with values in it, as bodies are kept; `place` is what it is bound to."""
        return self._rows.seal.close(text, place)

    def unsealed(self, body: bytes, place: bytes) -> bytes:
        """The text that `sealed` was given.

        Raises:
            StateKeyWrong: it is sealed with a key that was not given.
        """
        return self._rows.seal.open(body, place)

    async def unlock(self, keys: Sequence[bytes]) -> None:
        """See `Store.unlock`."""
        seal = Seal(keys, self._key)
        used = (await self.meta(SEALED_WITH) or OPEN).split()
        if not keys and used != [OPEN] and not await self._holds_sealed():
            used = []
        if strange := [name for name in used if not seal.knows(name)]:
            raise wrong_key(strange[0])
        self._rows.seal = seal
        if used == [seal.id]:
            return
        # A crash below leaves bodies of either kind: both stay named until all are sealed with the newest key.
        await self.commit(Commit(meta={SEALED_WITH: " ".join(sorted({*used, seal.id}))}))
        for table in SEALED:
            await self._seal_anew(table)
        await self.commit(Commit(meta={SEALED_WITH: seal.id}))

    async def _holds_sealed(self) -> bool:
        found = [f"SELECT 1 FROM {table.name} WHERE substr(body, 1, 1) = ? LIMIT 1" for table in SEALED]
        return any(await self._fetch(*(Query(text, (MARK,)) for text in found)))

    async def _seal_anew(self, table: Table) -> None:
        seal, size = self._rows.seal, len(table.key)
        update = f"UPDATE {table.name} SET body = ? WHERE {' AND '.join(f'{name} = ?' for name in table.key)}"
        others = ("substr(body, 1, ?) <> ?", len(seal.prefix), seal.prefix)
        async for rows in self._walk(table, (*table.place, "body"), *others):
            steps: list[Step] = []
            for row in rows:
                place = place_of(table, row[size:-1])
                steps.append(Query(update, (seal.close(seal.open(row[-1], place), place), *row[:size])))
            await self._apply(steps)

    async def expire(self, before: float) -> None:
        """See `Store.expire`."""
        old = f"SELECT id FROM audit WHERE at < ? ORDER BY at LIMIT {PAGE}"
        while await self._one("SELECT 1 FROM audit WHERE at < ? LIMIT 1", before):
            await self._apply([Query(f"DELETE FROM audit WHERE id IN ({old})", (before,))])
        if await self._one("SELECT 1 FROM answer LIMIT 1"):
            await self._apply([Query("DELETE FROM answer WHERE at < ?", (before,))])
        if await self._one("SELECT 1 FROM former LIMIT 1"):
            await self._apply([Query("DELETE FROM former WHERE until < ?", (before,))])
        if await self._one("SELECT 1 FROM run WHERE started < ? LIMIT 1", before):
            await self._apply([Query("DELETE FROM run WHERE started < ?", (before,))])

    # --- moving ---

    async def export(self) -> AsyncIterator[bytes]:
        """See `Store.export`."""
        lines = 0
        yield portable.header(self._rows.layout, self._key)
        columns = f"{self._rows.record_columns}, r.found_by"
        async for rows in self._pages(f"SELECT {columns} FROM record r WHERE r.id > ? ORDER BY r.id LIMIT {PAGE}"):
            lines += len(rows)
            yield b"".join([portable.record_line(self._rows.recollection(row), row[-1]) for row in rows])
        for table in PORTABLE:
            async for rows in self._walk(table, portable.columns_of(table)):
                own = [row[len(table.key) :] for row in rows if table is not META or row[0] not in portable.OWN_FACTS]
                lines += len(own)
                yield b"".join([portable.line(table, row) for row in own])
        yield portable.end(lines)

    async def restore(self, lines: AsyncIterator[bytes]) -> int:
        """See `Store.restore`."""
        header = portable.read_header(await anext(lines, b""))
        await self.open(header.layout)
        if not await self._is_empty():
            raise StateError("this state is not empty: import into a new one, or move the old one away first")
        async with self._transaction():
            await self._apply(self._rows.steps(Commit(meta={"key": header.key, STALE: None}), 0.0))
            records = await self._take_lines(lines)
        self._key, self._newest = bytes.fromhex(header.key), await self._greatest()
        self._rows.seal = Seal((), self._key)
        return records

    async def _is_empty(self) -> bool:
        tables = ["record", *(table.name for table in PORTABLE if table is not META)]
        return not any(await self._fetch(*(Query(f"SELECT 1 FROM {name} LIMIT 1") for name in tables)))

    async def _take_lines(self, lines: AsyncIterator[bytes]) -> int:
        number, records, batch = 1, 0, portable.Batch()
        async for data in lines:
            number += 1
            found = portable.read_line(data, number)
            if isinstance(found, portable.End):
                await self._apply(batch.steps(self._rows))
                if found.lines != number - 2 or await anext(lines, None) is not None:
                    raise StateError(f"the file says that it holds {found.lines} lines, and does not: export it again")
                return records
            if isinstance(found, portable.Stored) and not portable.fits(found.record, self._rows.layout):
                raise StateError(f"line {number} has a record that line 1 does not describe: nothing was imported")
            records += batch.add(found)
            if len(batch) == _BATCH:
                await self._apply(batch.steps(self._rows))
                batch = portable.Batch()
        raise StateError(f"the file ends after line {number}, without its last line: it was cut off; export it again")
