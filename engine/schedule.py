"""Schedules: what a cron expression says, and when it is next due in a time zone.

Theory of operation. A tick is a time on the wall: five sets of numbers say which. Days match as in cron: when both day
fields say something (anything but `*`), either is enough. Walls are searched without a zone, a day at a time, and then
turned into instants by the zone's rules. Twice a year a wall is no instant or two of them:

- a tick in the hour that the clock skips comes when the clock has skipped it, and one in the hour that comes twice comes the
  first time: what is due once a day is due once on those days too;
- an expression that has every hour follows the clock instead: nothing in the skipped hour, and both of the doubled ones.

The grammar is read here and in the database (df.cron_flaw), and not by a library: croniter takes `5-5` for every minute,
imports a clock, and takes a tenth of a millisecond to begin. The tests hold the three against one another.

Zones are spelled as in pg_timezone_names, in any case. Their rules come from the system or from the package tzdata.
"""

import re
import zoneinfo
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final

from engine.jsontext import WHITE

_SHOWN_CHARACTERS: Final = 60
_LONGEST_TURN: Final = timedelta(hours=25)
"""By more than a day no zone has ever turned its clock back."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTE: Final = timedelta(minutes=1)
_DAY: Final = timedelta(days=1)


class ScheduleError(ValueError):
    """What is wrong with a cron expression or a time zone."""


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five: its numbers, and names for them (the first stands for the lowest)."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS: Final = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of the month", 1, 31),
    _Field("month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("day of the week", 0, 6, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)
_MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_TERM: Final = re.compile(r"(\*|[0-9]{1,2}|[A-Za-z]{3})(?:-([0-9]{1,2}|[A-Za-z]{3}))?(?:/([0-9]{1,4}))?")
_EVERY: Final = re.compile(r"(?:^|,)\*(?:/0*1)?(?:,|$)")
_DAYS: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """A cron expression: sorted numbers, weekdays from 0 for Sunday. `either` day field is enough, or both must match."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either: bool

    @property
    def every_hour(self) -> bool:
        return len(self.hours) == 24

    def has_day(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.either else in_month and in_week

    def at_or_after(self, wall: datetime) -> datetime:
        """The first tick on the wall from this minute on. `OverflowError` when the calendar ends before."""
        day = wall.date()
        time = self._time(wall.hour, wall.minute) if self.has_day(day) else None
        while time is None:
            day = day + _DAY if day.month in self.months else _next_month(day)
            time = (self.hours[0], self.minutes[0]) if self.has_day(day) else None
        return wall.replace(year=day.year, month=day.month, day=day.day, hour=time[0], minute=time[1])

    def _time(self, hour: int, minute: int) -> tuple[int, int] | None:
        """The first time of a day from this one on."""
        at = bisect_left(self.hours, hour)
        if at < len(self.hours) and self.hours[at] == hour:
            there = bisect_left(self.minutes, minute)
            if there < len(self.minutes):
                return hour, self.minutes[there]
            at += 1
        return (self.hours[at], self.minutes[0]) if at < len(self.hours) else None


def _next_month(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=31)).replace(day=1)


# --- reading --------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1_000)
def parse_cron(text: str) -> Cron:
    """The schedule that an expression says. `ScheduleError` when it is none, or none that ever comes."""
    shown = text[:_SHOWN_CHARACTERS]
    given = text.strip(WHITE)
    parts = re.split(f"[{WHITE}]+", _MACROS.get(given.lower(), given) if given.isascii() else given)
    if len(parts) != len(_FIELDS):
        raise ScheduleError(f"cron_expr is neither five fields nor a macro such as @daily: '{shown}'")
    found: list[frozenset[int]] = []
    for field, part in zip(_FIELDS, parts, strict=True):
        numbers = _numbers(field, part)
        if numbers is None:
            raise ScheduleError(f"cron_expr has no valid {field.name}: '{shown}'")
        found.append(numbers)
    minutes, hours, days, months, weekdays = found
    restricted = [_EVERY.search(part) is None for part in (parts[2], parts[4])]
    if not restricted[1] and min(days) > max(_DAYS[month - 1] for month in months):
        raise ScheduleError(f"cron_expr never comes: '{shown}'")
    return Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=days,
        months=months,
        weekdays=weekdays,
        either=all(restricted),
    )


def _numbers(field: _Field, text: str) -> frozenset[int] | None:
    found: set[int] = set()
    for term in text.split(","):
        numbers = _term(field, term)
        if numbers is None:
            return None
        found.update(numbers)
    return frozenset(found)


def _term(field: _Field, term: str) -> Iterator[int] | None:
    """`*`, `a` or `a-b`, each with `/step`; `a/step` goes on to the end, and a range may go past it (`22-2`, `fri-mon`)."""
    read = _TERM.fullmatch(term)
    if read is None or (read[1] == "*" and read[2] is not None):
        return None
    step = 1 if read[3] is None else int(read[3])
    low = field.low if read[1] == "*" else _value(field, read[1])
    alone = read[1] != "*" and read[3] is None
    high = _value(field, read[2]) if read[2] is not None else low if alone else field.high
    if low is None or high is None or step == 0:
        return None
    size = field.high - field.low + 1
    last = high if high >= low else high + size
    return ((number - field.low) % size + field.low for number in range(low, last + 1, step))


def _value(field: _Field, text: str) -> int | None:
    if text.isdigit():
        value = int(text)
        if field.names[:1] == ("sun",) and value == 7:
            return 0
        return value if field.low <= value <= field.high else None
    name = text.lower()
    return field.names.index(name) + field.low if name in field.names else None


# Those of pg_timezone_names without a slash. Other words are abbreviations (PST, CEST) or rules (UTC+3) to PostgreSQL.
_TOP_ZONES: Final = frozenset({
    "cet", "cst6cdt", "cuba", "eet", "egypt", "eire", "est", "est5edt", "gb", "gb-eire", "gmt", "gmt+0", "gmt-0",
    "gmt0", "greenwich", "hongkong", "hst", "iceland", "iran", "israel", "jamaica", "japan", "kwajalein", "libya",
    "met", "mst", "mst7mdt", "navajo", "nz", "nz-chat", "poland", "portugal", "prc", "pst8pdt", "roc", "rok",
    "singapore", "turkey", "uct", "universal", "utc", "w-su", "wet", "zulu",
})  # fmt: skip
_ZONE: Final = re.compile(r"(?!posix/|right/)[a-z][a-z_/-]*|etc/gmt(?:[+-]?0|\+[1-9]|\+1[0-2]|-[1-9]|-1[0-4])")


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """The names of all zones, by their lower case."""
    return {name.lower(): name for name in zoneinfo.available_timezones()}


@lru_cache(maxsize=1_000)
def zone_of(text: str) -> zoneinfo.ZoneInfo:
    """The zone of that name. `ScheduleError` when there is none."""
    key = text.lower() if text.isascii() else ""
    known = _ZONE.fullmatch(key) is not None if "/" in key else key in _TOP_ZONES
    name = _zones().get(key) if known else None
    if name is None:
        raise ScheduleError(f"timezone '{text[:_SHOWN_CHARACTERS]}' is not known")
    return zoneinfo.ZoneInfo(name)


# --- ticks ----------------------------------------------------------------------------------------------------------


def next_tick_us(cron: str, zone: str, after_us: int) -> int:
    """The first tick strictly after this time; microseconds since 1970 UTC. `ScheduleError` when there is none."""
    found = _next(parse_cron(cron), zone_of(zone), _EPOCH + after_us * _MICROSECOND)
    return (found - _EPOCH) // _MICROSECOND


def ticks_between(cron: str, zone: str, after_us: int, upto_us: int, limit: int = 1_000) -> int:
    """How many ticks there are after one time and up to another, but never more than `limit`."""
    schedule, rules = parse_cron(cron), zone_of(zone)
    at, upto = _EPOCH + after_us * _MICROSECOND, _EPOCH + upto_us * _MICROSECOND
    for count in range(limit):
        at = _next(schedule, rules, at)
        if at > upto:
            return count
    return limit


def _next(cron: Cron, zone: zoneinfo.ZoneInfo, after: datetime) -> datetime:
    try:
        found = _first(cron, zone, _wall(after, zone) + _MINUTE, after)
        turn = _turn_back(zone, after, found) if cron.every_hour else None
        if turn is not None:
            found = min(found, _first(cron, zone, _wall(turn, zone), turn - _MICROSECOND))
    except OverflowError:
        raise ScheduleError("cron_expr does not come again before the year 10000") from None
    return found


def _wall(instant: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """The minute that a clock on the wall shows."""
    return instant.astimezone(zone).replace(second=0, microsecond=0, tzinfo=None)


def _first(cron: Cron, zone: zoneinfo.ZoneInfo, wall: datetime, after: datetime) -> datetime:
    """The first tick after an instant, of those from this minute on the wall on."""
    while True:
        wall = cron.at_or_after(wall)
        for instant in _instants(wall, zone, each=cron.every_hour):
            if instant > after:
                return instant
        wall += _MINUTE


def _instants(wall: datetime, zone: zoneinfo.ZoneInfo, *, each: bool) -> tuple[datetime, ...]:
    """When a tick on the wall comes. `each`: every time the clock shows it."""
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    if second < first:  # the clock skips it: read by the rules before and after, it lies on either side
        return () if each else (_change(zone, second, first),)
    return (first, second) if each and second > first else (first,)


def _turn_back(zone: zoneinfo.ZoneInfo, after: datetime, upto: datetime) -> datetime | None:
    """When the clock is turned back soon, before the other time: minutes that it has shown come again."""
    upto = min(upto, after + _LONGEST_TURN)
    return _change(zone, after, upto) if _offset(zone, upto) < _offset(zone, after) else None


def _offset(zone: zoneinfo.ZoneInfo, instant: datetime) -> timedelta:
    found = instant.astimezone(zone).utcoffset()
    assert found is not None
    return found


def _change(zone: zoneinfo.ZoneInfo, low: datetime, high: datetime) -> datetime:
    """The second at which the zone's offset changes between two instants."""
    before = _offset(zone, low)
    low_s, high_s = (low - _EPOCH) // timedelta(seconds=1), -(-(high - _EPOCH) // timedelta(seconds=1))
    while high_s - low_s > 1:
        middle_s = (low_s + high_s) // 2
        if _offset(zone, _EPOCH + timedelta(seconds=middle_s)) == before:
            low_s = middle_s
        else:
            high_s = middle_s
    return _EPOCH + timedelta(seconds=high_s)
