"""What users ask of schema df, as rows. Everything as the asking role sees it (row-level security), newest first.

An id means one's own instance first, else the only one of that id that can be seen; `owner` says whose outright. Once found,
an instance is asked for by its key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, LiteralString

from engine.cli.output import Raw
from engine.cli.session import Asked, Session
from engine.errors import ConfigError

STATUSES: Final = ("pending", "running", "completed", "failed", "cancelled")
FINAL: Final = ("completed", "failed", "cancelled")
PAGE: Final = 1_000
"""Instances that are looked at by one query while filters pass over some."""
ENDLESS: Final = datetime(9999, 12, 31, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An instance that an id means."""

    key: int
    id: str
    owner: str
    submitter: int
    own: bool
    status: str
    quarantined: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of a list."""

    id: str
    owner: str
    label: str | None
    status: str
    quarantined: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    message: str | None
    """Of its error."""
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Something that an instance waits for, or is in the middle of."""

    step: str
    what: str
    state: str
    due_in_seconds: float | None
    child: str | None
    instance: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """One instance, as of the last checkpoint."""

    id: str
    owner: str
    label: str | None
    status: str
    quarantined: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime | None
    executions: int
    parent_id: str | None
    logged_in_as: str | None
    input: Raw | None
    result: Raw | None
    error: Raw | None
    message: str | None
    tree: str
    now: datetime

    @property
    def final(self) -> bool:
        """Whether it never changes again."""
        return self.status in FINAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line of a history."""

    number: int
    at: datetime | None
    event: str
    node_id: int | None
    node_type: str | None
    step: str | None
    attempt: int | None
    repetitions: int | None
    query: str | None
    outcome: str | None
    result: Raw | None
    error: Raw | None
    message: str | None
    started_at: datetime | None
    duration_ms: float | None
    who: str | None
    note: str | None
    begun_at: datetime
    """When the instance was started, for what counts from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which instances are listed."""

    statuses: Sequence[str] = ()
    label: str | None = None
    owner: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    quarantined: bool = False
    limit: int = 20


# -- one instance -----------------------------------------------------------------------------------------------------

FIND: Final[LiteralString] = """
    select i.key, i.id, coalesce(r.rolname, i.submitter::text) as owner, i.submitter::bigint as submitter,
           i.submitter = df.me() as own, i.status, i.quarantined
      from df.instances i
      left join pg_roles r on r.oid = i.submitter
     where i.submitted_by = any (df.seen_roles())
       and i.id = %(id)s
     order by own desc, owner
"""


def find(session: Session, asked: Asked, id: str, owner: str | None) -> Found:
    """The instance that is meant. Raises ConfigError where there is none, or more than one that is not one's own."""
    found = asked.rows(Found, FIND, id=id)
    if owner is not None:
        found = [one for one in found if one.owner == owner]
    if not found:
        whose = f" of role {owner}" if owner is not None else ""
        raise ConfigError(
            f"Instance not found or access denied: {id}{whose}",
            f"walflow list shows what role {session.role} sees in database {session.dbname}.",
        )
    if len(found) > 1 and not found[0].own:
        owners = [one.owner for one in found]
        raise ConfigError(
            f"Instance {id} is ambiguous: {', '.join(owners[:-1])} and {owners[-1]} have one each",
            f"Say whose is meant, such as --owner {owners[0]}.",
        )
    return found[0]


DETAILS: Final[LiteralString] = """
    select i.id, coalesce(r.rolname, i.submitter::text) as owner, i.label, i.status, i.quarantined, i.created_at, i.started_at,
           i.finished_at, i.updated_at, df.generations(i.key, i.graph, i.started_at) as executions, i.parent_id,
           nullif(i.session_role::text, r.rolname::text) as logged_in_as, i.input, i.result, i.error,
           i.error ->> 'message' as message,
           df.draw_instance(i.key) as tree, clock_timestamp() as now
      from df.instances i
      left join pg_roles r on r.oid = i.submitter
     where i.key = %(key)s
"""
WAITING: Final[LiteralString] = """
    select f.frame ->> 'step' as step,
           df.one_line(df.node_text(g.kinds[n.node], g.queries[n.node], 0, g.conditions[n.node] is not null)) as what,
           f.frame ->> 'state' as state,
           (f.frame ->> 'due_us')::float8 / 1000000 - extract(epoch from clock_timestamp())::float8 as due_in_seconds,
           f.frame ->> 'child' as child, f.frame ->> 'instance' as instance
      from df.instances i
      join df.progress p on p.submitted_by = i.submitted_by and p.instance_key = i.key
     cross join lateral df.number_nodes(i.graph) as g
     cross join lateral json_array_elements(p.nodes) with ordinality as f(frame, place)
     cross join lateral (select (f.frame ->> 'node')::integer as node) as n
     where i.key = %(key)s
       and i.status not in ('completed', 'failed', 'cancelled')
       and f.frame ->> 'state' <> 'running'
     order by f.place
     limit 10
"""


def details(asked: Asked, found: Found) -> tuple[Details, list[Waiting]]:
    """All that is shown of one instance. Raises ConfigError when it was removed meanwhile."""
    rows = asked.rows(Details, DETAILS, key=found.key)
    if not rows:
        raise removed(found)
    return rows[0], asked.rows(Waiting, WAITING, key=found.key)


def removed(found: Found) -> ConfigError:
    """The instance was there a moment ago."""
    return ConfigError(f"Instance {found.id} has been removed meanwhile", "It had ended: see the setting retention.")


def tree(asked: Asked, found: Found) -> str:
    """How far an instance has come, as df.explain draws it."""
    [drawn] = asked.values("select df.draw_instance(%(key)s)", key=found.key)
    if drawn is None:
        raise removed(found)
    return str(drawn)


HISTORY: Final[LiteralString] = """
    select h.number, h.at, h.event, h.node_id, h.node_type, h.step, h.attempt, h.repetitions, h.query, h.outcome, h.result,
           h.error, h.error ->> 'message' as message, h.started_at, h.duration_ms::float8 as duration_ms,
           h.who, h.note, i.created_at as begun_at
      from df.history_of(%(key)s) as h, df.instances i
     where i.key = %(key)s
     order by h.number desc
     limit %(last)s
"""


def history(asked: Asked, found: Found, last: int | None = None) -> list[Event]:
    """What happened in an instance, in order; the last so many events."""
    return asked.rows(Event, HISTORY, key=found.key, last=last)[::-1]


# -- many -------------------------------------------------------------------------------------------------------------

COLUMNS: Final[LiteralString] = """
    select i.id, coalesce(r.rolname, i.submitter::text) as owner, i.label, i.status, i.quarantined, i.created_at, i.started_at,
           i.finished_at, left(i.error ->> 'message', 1000) as message, clock_timestamp() as now
"""
OF_ALL: Final[LiteralString] = (
    COLUMNS
    + """
      from unnest(%(statuses)s::text[]) as s(status)
     cross join lateral df.page_of_instances(s.status, %(label)s, %(before)s, %(before_id)s, %(page)s) as p
      join df.instances i on i.key = p.key
      left join pg_roles r on r.oid = i.submitter
     order by i.created_at desc, i.id desc
     limit %(page)s
"""
)
# one range of an index that leads with the owner, read backwards
OF_ONE_ROLE: Final[LiteralString] = (
    COLUMNS
    + """
      from pg_roles r
     cross join lateral (
             select n.*
               from df.instances n
              where n.submitted_by = r.oid
                and (n.created_at, n.id) < (%(before)s, %(before_id)s)
                and (%(label)s::text is null or n.label = %(label)s)
                and (%(statuses)s::text[] = array[null::text] or n.status = any (%(statuses)s))
              order by n.submitted_by desc, n.created_at desc, n.id desc
              limit %(page)s) as i
     where r.rolname = %(owner)s
     order by i.created_at desc, i.id desc
"""
)
QUARANTINED: Final[LiteralString] = (
    COLUMNS
    + """
      from unnest(df.seen_roles()) as s(role)
      join df.instances i on i.submitted_by = s.role and i.quarantined is not null
      left join pg_roles r on r.oid = i.submitter
     where (i.created_at, i.id) < (%(before)s, %(before_id)s)
       and (%(label)s::text is null or i.label = %(label)s)
       and (%(statuses)s::text[] = array[null::text] or i.status = any (%(statuses)s))
     order by i.created_at desc, i.id desc
     limit %(page)s
"""
)


def listed(asked: Asked, wanted: Filter) -> list[Listed]:
    """The newest instances that a filter lets through, at most `wanted.limit`."""
    [now] = asked.values("select clock_timestamp()")
    oldest = now - wanted.newer_than if wanted.newer_than is not None else None
    before, before_id = (now - wanted.older_than if wanted.older_than is not None else ENDLESS), ""
    found: list[Listed] = []
    while len(found) < wanted.limit:
        page = asked.rows(
            Listed,
            _query(wanted),
            statuses=list(wanted.statuses) or [None],
            label=wanted.label,
            owner=wanted.owner,
            before=before,
            before_id=before_id,
            page=PAGE if wanted.owner is not None else wanted.limit,
        )
        found += [one for one in page if _passes(one, wanted, oldest)]
        if not page or wanted.owner is None or (oldest is not None and page[-1].created_at < oldest):
            break
        before, before_id = page[-1].created_at, page[-1].id
    return found[: wanted.limit]


def _query(wanted: Filter) -> LiteralString:
    if wanted.quarantined:
        return QUARANTINED
    # those that failed, and those that have not ended, are few: sooner found among all roles' than among all of one's
    selective = wanted.statuses and "completed" not in wanted.statuses
    return OF_ONE_ROLE if wanted.owner is not None and not selective else OF_ALL


def _passes(one: Listed, wanted: Filter, oldest: datetime | None) -> bool:
    return (wanted.owner is None or one.owner == wanted.owner) and (oldest is None or one.created_at >= oldest)
