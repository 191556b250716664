#!/bin/bash
# Entry point of the PostgreSQL image: what the examples use of the official image's, on Debian's packages.
#
# POSTGRES_PASSWORD (needed), POSTGRES_USER, POSTGRES_DB and PGDATA; *.sql of /docker-entrypoint-initdb.d are run once,
# when the folder of the data is empty. Arguments go to the server.
set -euo pipefail
programs=$(echo /usr/lib/postgresql/*/bin)
export PGDATA=${PGDATA:-/var/lib/postgresql/data} PGUSER=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$PGUSER}
[ "${1:-}" != postgres ] || shift

if [ ! -s "$PGDATA/PG_VERSION" ]; then
  : "${POSTGRES_PASSWORD:?the password of the first user is needed}"
  "$programs/initdb" -U "$PGUSER" -E UTF8 --auth-local=trust --auth-host=scram-sha-256 --pwfile=<(echo "$POSTGRES_PASSWORD")
  echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
  "$programs/pg_ctl" -w -o "-c listen_addresses=''" start
  [ "$database" = postgres ] || psql -v ON_ERROR_STOP=1 -d postgres -c "CREATE DATABASE \"$database\""
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ ! -e "$file" ] || psql -v ON_ERROR_STOP=1 -d "$database" -f "$file"
  done
  "$programs/pg_ctl" -m fast -w stop
fi
exec "$programs/postgres" -c listen_addresses='*' "$@"
