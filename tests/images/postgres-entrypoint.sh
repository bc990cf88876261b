#!/bin/sh
# As much of the official image's behaviour as testcontainers and docs/deployment.md rely on: POSTGRES_USER, POSTGRES_PASSWORD and
# POSTGRES_DB make the cluster at the first start; arguments that begin with a dash are the server's.
set -eu
case "${1:-}" in
  '' | -*) set -- postgres "$@" ;;
esac
export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
if [ "$1" = postgres ] && [ ! -s "$PGDATA/PG_VERSION" ]; then
  user=${POSTGRES_USER:-postgres}
  database=${POSTGRES_DB:-$user}
  secret=$(mktemp)
  printf '%s\n' "${POSTGRES_PASSWORD:?set POSTGRES_PASSWORD}" > "$secret"
  initdb -E UTF8 --locale=C -U "$user" --pwfile="$secret" --auth-local=trust --auth-host=scram-sha-256 --no-sync \
    --no-instructions
  rm "$secret"
  echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
  echo "listen_addresses = '*'" >> "$PGDATA/postgresql.conf"
  if [ "$database" != postgres ]; then
    echo "create database \"$database\"" | postgres --single -j postgres
  fi
fi
exec "$@"
