"""Where the screen's figures come from: engines over HTTP, and the database as the asking role sees it.

Either may be away without the other's figures being less true; what is away says so on the screen, and is asked again.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.client import HTTPException
from typing import Any, Final, LiteralString
from urllib.parse import urlsplit

from engine.cli.session import Asked, Session, first_line
from engine.cli.top.samples import Sample, parsed
from engine.errors import ConfigError, Unfit

HTTP_SECONDS: Final = 2.0
CONNECT_SECONDS: Final = 3
LARGEST_ANSWER: Final = 8_000_000
SHOWN: Final = 10
"""Lines of each list that are fetched."""
_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Engines are asked directly: a proxy would not know the way to 127.0.0.1."""


# -- engines ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine's answer, or why there is none."""

    url: str
    status: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample | None = None
    error: str = ""

    @property
    def role(self) -> str:
        """leader, standby, starting …; `away` when it does not answer."""
        return str(self.status.get("role", "?")) if not self.error else "away"


def checked_url(text: str) -> str:
    """An engine's address as a URL without a path. Raises ConfigError."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            f"--url: {text!r} is no good: it must be http://host:port", "The engine's setting listen says where."
        )
    return url.rstrip("/")


def ask_engine(url: str) -> Engine:
    """What /status and /metrics say."""
    try:
        status = json.loads(_get(f"{url}/status"))
        sample = parsed(_get(f"{url}/metrics"), time.monotonic())
    except (OSError, HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return Engine(url=url, error=str(getattr(reason, "strerror", None) or reason))
    except ValueError:
        return Engine(url=url, error="it answers, but it is no walflow engine")
    if not isinstance(status, dict):
        return Engine(url=url, error="it answers, but it is no walflow engine")
    return Engine(url=url, status=status, sample=sample)


def _get(url: str) -> str:
    with _OPENER.open(url, timeout=HTTP_SECONDS) as answer:
        body: bytes = answer.read(LARGEST_ANSWER)
    return body.decode()


# -- the database -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """The replication slot, as any role may see it."""

    slot_name: str
    active: bool
    wal_status: str | None
    lag_bytes: float | None
    retained_bytes: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Oldest:
    """An instance that has not ended."""

    id: str
    owner: str
    label: str | None
    quarantined: str | None
    created_at: datetime
    waits_for: str | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """What failed of one label in the last hour."""

    label: str | None
    count: int
    last_at: datetime
    message: str | None
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """The database's answer, or why there is none."""

    place: str = ""
    role: str = ""
    slot: Slot | None = None
    quarantined: int | None = None
    oldest: list[Oldest] = field(default_factory=list)
    failing: list[Failing] = field(default_factory=list)
    error: str = ""


SLOT: Final[LiteralString] = """
    select s.slot_name::text as slot_name, s.active, s.wal_status,
           pg_wal_lsn_diff(e.position, s.confirmed_flush_lsn)::float8 as lag_bytes,
           pg_wal_lsn_diff(e.position, s.restart_lsn)::float8 as retained_bytes
      from pg_replication_slots s,
           (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as position) as e
     where s.slot_name = %(slot)s
"""
# Of each role the lowest keys, which are the oldest: there may be a million that sleep. What is younger than a moment, and what
# waits to be admitted, has no row here.
OLDEST: Final[LiteralString] = """
    select i.id, coalesce(r.rolname, i.submitter::text) as owner, i.label, i.quarantined, i.created_at,
           case
             when octet_length(i.graph) < 50000 and json_array_length(o.nodes) > 0
               then (select df.one_line(df.node_text(g.kinds[n.node], g.queries[n.node], 0, g.conditions[n.node] is not null))
                       from (select (o.nodes -> (json_array_length(o.nodes) - 1) ->> 'node')::integer as node) as n,
                            df.number_nodes(i.graph) as g)
           end as waits_for,
           clock_timestamp() as now
      from (select p.instance_key, p.nodes
              from unnest(df.seen_roles()) as s(role)
             cross join lateral (
                     select q.instance_key, q.nodes
                       from df.progress q
                      where q.submitted_by = s.role
                      order by q.submitted_by, q.instance_key
                      limit %(shown)s) as p
             order by p.instance_key
             limit %(shown)s) as o
      join df.instances i on i.key = o.instance_key
      left join pg_roles r on r.oid = i.submitter
     where i.status in ('pending', 'running')
     order by i.created_at
"""
FAILING: Final[LiteralString] = """
    select i.label, count(*) as count, max(i.finished_at) as last_at,
           (array_agg(left(i.error ->> 'message', 300) order by i.finished_at desc))[1] as message, clock_timestamp() as now
      from df.page_of_instances('failed', null, 'infinity', '', 500) as p
      join df.instances i on i.key = p.key
     where i.finished_at > clock_timestamp() - interval '1 hour'
     group by i.label
     order by count(*) desc, max(i.finished_at) desc
     limit %(shown)s
"""
QUARANTINED: Final[LiteralString] = """
    select count(*)
      from unnest(df.seen_roles()) as s(role)
      join df.instances i on i.submitted_by = s.role and i.quarantined is not null
"""


class Watched:
    """The database, connected to when it is asked for, and anew when the connection is gone."""

    def __init__(self, dsn: str, slot: str) -> None:
        self._dsn = dsn
        self._slot = slot
        self._session: Session | None = None

    def ask(self) -> Database:
        """How things stand. Says what is wrong instead of raising."""
        try:
            if self._session is None:
                self._session = Session(self._dsn, connect_timeout=CONNECT_SECONDS)
            return self._answer(self._session)
        except Unfit as error:
            self.close()
            return Database(error=first_line(error))
        except ConfigError as error:
            return Database(error=first_line(error))

    def _answer(self, session: Session) -> Database:
        with session.reading() as asked:
            slots = asked.rows(Slot, SLOT, slot=self._slot)
            return Database(
                place=session.place,
                role=session.role,
                slot=slots[0] if slots else None,
                quarantined=_count(asked),
                oldest=asked.rows(Oldest, OLDEST, shown=SHOWN),
                failing=asked.rows(Failing, FAILING, shown=SHOWN),
            )

    def close(self) -> None:
        """Hang up."""
        if self._session is not None:
            self._session.close()
            self._session = None


def _count(asked: Asked) -> int:
    [count] = asked.values(QUARANTINED)
    return int(count)
