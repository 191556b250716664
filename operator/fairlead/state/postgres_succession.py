"""Taking over from a leader of several workers: its session may stand although it sleeps, and others work for it."""

from __future__ import annotations

from fairlead.state.postgres_schema import AsyncConnection, lock_number, quoted


async def oust(connection: AsyncConnection, schema: str) -> None:
    """Ends the session of a leader whose time is over, so that its lock is free. Others that hold it are left alone."""
    if not await _shared(connection, schema):
        return
    name = quoted(schema)
    # Who finds the row first puts it out; another one must not end the session of who took over meanwhile.
    lapsed = (
        f"WITH lapsed AS (UPDATE {name}.crew SET epoch = NULL WHERE until <= clock_timestamp() "
        f"AND epoch = (SELECT value FROM {name}.meta WHERE name = 'epoch') RETURNING id)"
    )
    await connection.execute(
        f"{lapsed} SELECT pg_terminate_backend(l.pid) FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.objsubid = 1 "
        "AND (l.classid::bigint << 32 | l.objid::bigint) = %s AND EXISTS (SELECT 1 FROM lapsed)",
        (lock_number(schema),),
    )


async def outlast(connection: AsyncConnection, schema: str) -> None:
    """Waits until nobody writes in the name of an earlier epoch: members notice soon, or their time is over soon."""
    if not await _shared(connection, schema):
        return
    name = quoted(schema)
    query = (
        f"SELECT 1 FROM {name}.crew c LEFT JOIN {name}.share s ON s.member = c.id AND s.result IS NULL "
        "WHERE c.until > clock_timestamp() "
        f"AND coalesce(s.epoch, c.epoch) <> (SELECT value FROM {name}.meta WHERE name = 'epoch') LIMIT 1"
    )
    while await (await connection.execute(query)).fetchone():
        await connection.execute("SELECT pg_sleep(0.2)")


async def _shared(connection: AsyncConnection, schema: str) -> bool:
    cursor = await connection.execute("SELECT to_regclass(%s) IS NOT NULL", (f"{quoted(schema)}.share",))
    row = await cursor.fetchone()
    return bool(row and row[0])
