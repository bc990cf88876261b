"""Schedules: when a cron expression comes in a zone, and which texts are expressions and zones."""

import warnings
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from engine.schedule import ScheduleError, next_tick_us, parse_cron, ticks_between, zone_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from croniter import CroniterError, croniter  # type: ignore[import-untyped]  # it has no types

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
US = timedelta(microseconds=1)
MACROS = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"]


def us(text: str) -> int:
    """Microseconds of an ISO 8601 time with its offset."""
    return (datetime.fromisoformat(text) - EPOCH) // US


def ticks(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The ticks that follow, as the zone's clocks show them."""
    found, at = [], us(after)
    for _ in range(count):
        at = next_tick_us(cron, zone, at)
        local = (EPOCH + at * US).astimezone(zone_of(zone))
        found.append(local.strftime("%Y-%m-%d %H:%M %z").replace(":00 +0000", ":00 UTC"))
    return found


# --- on the wall ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:00+00:00", ["2026-01-01 00:15", "2026-01-01 00:30"]),
        ("0 0 29 2 *", "2096-02-29T00:00+00:00", ["2104-02-29 00:00", "2108-02-29 00:00"]),
        ("0 0 31 * *", "2027-01-31T00:00+00:00", ["2027-03-31 00:00", "2027-05-31 00:00"]),
        ("0 0 28-31 2 *", "2027-02-28T00:00+00:00", ["2028-02-28 00:00", "2028-02-29 00:00"]),
        ("30 9 13 * fri", "2026-02-01T00:00+00:00", ["2026-02-06 09:30", "2026-02-13 09:30", "2026-02-20 09:30"]),
        ("0 0 1 * 0", "2026-03-01T00:00+00:00", ["2026-03-08 00:00"]),
        ("0 0 * * 7", "2026-03-01T00:00+00:00", ["2026-03-08 00:00"]),
        ("0 0 5 * */1", "2026-02-01T00:00+00:00", ["2026-02-05 00:00", "2026-03-05 00:00"]),
        ("0 0 30 2 mon", "2026-02-01T00:00+00:00", ["2026-02-02 00:00", "2026-02-09 00:00"]),
        ("0 12 * * sat-sun", "2026-11-20T00:00+00:00", ["2026-11-21 12:00", "2026-11-22 12:00", "2026-11-28 12:00"]),
        ("0 22-2/2 * * *", "2026-01-01T12:00+00:00", ["2026-01-01 22:00", "2026-01-02 00:00", "2026-01-02 02:00"]),
        ("59 23 31 dec *", "2026-12-31T23:58:59+00:00", ["2026-12-31 23:59", "2027-12-31 23:59"]),
        ("5/20 0 * * *", "2026-01-01T00:00+00:00", ["2026-01-01 00:05", "2026-01-01 00:25", "2026-01-01 00:45"]),
    ],
)
def test_ticks_come_as_in_cron(cron: str, after: str, expected: list[str]) -> None:
    found = ticks(cron, "UTC", after, len(expected))
    assert [tick.removesuffix(" UTC").removesuffix(" +0000").replace(":00 UTC", ":00") for tick in found] == expected


def test_a_tick_is_strictly_later_to_the_microsecond() -> None:
    noon = us("2026-06-01T12:00+00:00")
    assert next_tick_us("0 12 * * *", "UTC", noon - 1) == noon
    assert next_tick_us("0 12 * * *", "UTC", noon) == noon + 86_400_000_000
    assert next_tick_us("* * * * *", "UTC", noon + 59_999_999) == noon + 60_000_000


def test_no_tick_after_the_last_year_is_an_error_and_no_endless_search() -> None:
    for cron in ("* * * * *", "0 0 29 2 *"):
        with pytest.raises(ScheduleError, match="does not come again before the year 10000"):
            next_tick_us(cron, "Europe/Berlin", us("9999-12-31T23:30+00:00"))


# --- daylight saving ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cron", "zone", "after", "expected"),
    [
        # the hour that the clock skips: at its end, once
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("*/20 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["03-29 03:00 +0200", "03-30 03:00 +0200"]),
        ("0 0 * * *", "America/Santiago", "2026-09-05T12:00-04:00", ["09-06 01:00 -0300", "09-07 00:00 -0300"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00+1030", ["10-04 02:30 +1100", "10-05 02:15 +1100"]),
        # every hour: only what the clock shows
        ("30 * * * *", "Europe/Berlin", "2026-03-29T00:40+01:00", ["03-29 01:30 +0100", "03-29 03:30 +0200"]),
        ("5 * * * *", "Australia/Lord_Howe", "2026-10-04T01:06+1030", ["10-04 03:05 +1100", "10-04 04:05 +1100"]),
        # the hour that comes twice: the first time
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("*/30 1-3 * * *", "Europe/Berlin", "2026-10-25T02:00+02:00",
         ["10-25 02:30 +0200", "10-25 03:00 +0100", "10-25 03:30 +0100", "10-26 01:00 +0100"]),
        ("0 0 * * *", "America/Havana", "2026-10-31T12:00-04:00", ["11-01 00:00 -0400", "11-02 00:00 -0500"]),
        # every hour: both times
        ("30 * * * *", "Europe/Berlin", "2026-10-25T01:40+02:00",
         ["10-25 02:30 +0200", "10-25 02:30 +0100", "10-25 03:30 +0100"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:59:59+02:00", ["10-25 02:00 +0100", "10-25 02:30 +0100"]),
        ("*/30 * * * *", "Europe/Berlin", "2026-10-25T02:10+01:00", ["10-25 02:30 +0100", "10-25 03:00 +0100"]),
        # from within the second of the two
        ("45 2 * * *", "Europe/Berlin", "2026-10-25T02:30+01:00", ["10-26 02:45 +0100"]),
        # a day that a country left out
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T13:00-10:00", ["12-31 00:00 +1400", "12-31 12:00 +1400"]),
    ],
)  # fmt: skip
def test_twice_a_year_the_clock_is_set(cron: str, zone: str, after: str, expected: list[str]) -> None:
    assert [tick[5:] for tick in ticks(cron, zone, after, len(expected))] == expected


DAILY = st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23))
HOURLY = st.sampled_from(["0 * * * *", "*/7 * * * *", "* * * * *", "59 * * * *"])
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Sao_Paulo", "Africa/Casablanca",
     "Asia/Kathmandu", "Pacific/Apia", "Africa/Cairo", "America/St_Johns", "Antarctica/Troll"]
)  # fmt: skip
STARTS = st.integers(us("1990-01-01T00:00+00:00"), us("2080-01-01T00:00+00:00"))


@settings(max_examples=60, deadline=None)
@given(DAILY, ZONES, STARTS)
def test_what_is_due_once_a_day_comes_once_a_day(cron: str, zone: str, start: int) -> None:
    """Whatever happens to the clock; but for a day that its country left out, which has none or whose tick is late."""
    rules = zone_of(zone)
    days = []
    for _ in range(400):
        start = next_tick_us(cron, zone, start)
        days.append((EPOCH + start * US).astimezone(rules).date())
    left_out = datetime(2011, 12, 30, tzinfo=UTC).date()
    if zone == "Pacific/Apia" and days[0] <= left_out <= days[-1]:
        return
    assert all(after - before == timedelta(days=1) for before, after in pairwise(days))


@settings(max_examples=60, deadline=None)
@given(HOURLY, ZONES, STARTS)
def test_an_expression_that_has_every_hour_comes_whenever_the_clock_shows_it(cron: str, zone: str, start: int) -> None:
    """The minutes of two days, one by one."""
    rules, minutes = zone_of(zone), parse_cron(cron).minutes
    start -= start % 60_000_000
    shown = [
        at
        for at in range(start + 60_000_000, start + 2 * 86_400_000_000, 60_000_000)
        if (EPOCH + at * US).astimezone(rules).minute in minutes
    ]
    at = start
    found: list[int] = []
    while len(found) < len(shown):
        at = next_tick_us(cron, zone, at)
        found.append(at)
    assert found == shown


def test_ticks_are_counted_up_to_a_limit() -> None:
    after, upto = us("2026-03-01T00:00+00:00"), us("2026-03-02T00:00+00:00")
    assert ticks_between("0 * * * *", "UTC", after, upto) == 24
    assert ticks_between("0 * * * *", "UTC", after, upto - 1) == 23
    assert ticks_between("* * * * *", "UTC", after, upto) == 1_000
    assert ticks_between("* * * * *", "UTC", after, upto, limit=5) == 5
    assert ticks_between("* * * * *", "UTC", upto, after) == 0


# --- what an expression is ------------------------------------------------------------------------------------------

NAMES = ["jan", "FEB", "Mar", "dec", "sun", "Mon", "fri", "sat", "foo", "ja", ""]
values = st.one_of(st.integers(0, 61).map(str), st.integers(0, 13).map(str), st.sampled_from(NAMES))
terms = st.one_of(
    st.just("*"),
    values,
    st.builds("{}-{}".format, values, values),
    st.builds("{}/{}".format, st.one_of(st.just("*"), values), st.integers(0, 70)),
    st.builds("{}-{}/{}".format, values, values, st.integers(0, 9)),
)
fields = st.lists(terms, min_size=1, max_size=3).map(",".join)
crons = st.one_of(
    st.lists(st.one_of(st.just("*"), fields), min_size=5, max_size=5).map(" ".join),
    st.lists(fields, min_size=3, max_size=6).map(" ".join),
    st.sampled_from([*MACROS, "@Daily", "@reboot", "@", "", "@daily *"]),
)


def good(low: int, high: int) -> st.SearchStrategy[str]:
    """A field without what croniter reads in ways of its own: `5-5` is everything to it, and steps restart past the end."""
    number = st.integers(low, high)
    ascending = st.tuples(number, number).filter(lambda ends: ends[0] < ends[1])
    term = st.one_of(
        number.map(str),
        number.filter(lambda step: step > 1).map("*/{}".format),
        st.builds("{0[0]}-{0[1]}/{1}".format, ascending, st.integers(1, 9)),
        st.builds("{}/{}".format, number, st.integers(1, 9)),
    )
    return st.one_of(st.just("*"), st.just("*"), st.lists(term, min_size=1, max_size=2).map(",".join))


good_crons = st.builds(
    "{} {} {} {} {}".format, good(0, 59), good(0, 23), good(1, 28), good(1, 12), st.one_of(good(0, 6), st.just("sat,7"))
)


def is_valid(text: str) -> bool:
    try:
        parse_cron(text)
    except ScheduleError:
        return False
    return True


def croniter_takes(text: str) -> bool:
    """Whether the field's own library takes it, and finds a time for it."""
    try:
        croniter(text, 0.0, max_years_between_matches=10).get_next(float)
    except CroniterError:
        return False
    return True


@settings(max_examples=400, deadline=None)
@given(crons)
def test_what_is_valid_is_what_croniter_takes(text: str) -> None:
    assume(len(text.split()) < 6)  # it takes seconds and years as well
    assume("-0" not in text)  # and ranges up to 0 where no 0 belongs
    assert is_valid(text) == croniter_takes(text)


@settings(max_examples=150, deadline=None)
@given(good_crons, STARTS)
def test_on_the_wall_it_comes_when_croniter_says(text: str, start: int) -> None:
    cron = parse_cron(text)
    # croniter takes a day field that has every number for `*`, but only when there is a `*` in the other one
    assume(not cron.either or (len(cron.days) < 31 and len(cron.weekdays) < 7))
    mine = next_tick_us(text, "UTC", start)
    theirs = croniter(text, start / 1e6, max_years_between_matches=10).get_next(float)
    assert mine == round(theirs * 1e6)


@pytest.mark.parametrize("text", ["* * * * *", " *\t* * *  * \n", "@DAILY", " @hourly ", "0 0 1,15 * mon,WED-fri/2"])
def test_expressions(text: str) -> None:
    assert is_valid(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cron_expr is neither five fields nor a macro such as @daily: ''"),
        ("* * * * * *", "cron_expr is neither five fields nor a macro such as @daily: '* * * * * *'"),
        ("@reboot", "cron_expr is neither five fields nor a macro such as @daily: '@reboot'"),
        ("60 * * * *", "cron_expr has no valid minute: '60 * * * *'"),
        ("* 24 * * *", "cron_expr has no valid hour: '* 24 * * *'"),
        ("* * 0 * *", "cron_expr has no valid day of the month: '* * 0 * *'"),
        ("* * L * *", "cron_expr has no valid day of the month: '* * L * *'"),
        ("* * * 13 *", "cron_expr has no valid month: '* * * 13 *'"),
        ("* * * * 8", "cron_expr has no valid day of the week: '* * * * 8'"),
        ("* * * * mon#2", "cron_expr has no valid day of the week: '* * * * mon#2'"),
        ("*/0 * * * *", "cron_expr has no valid minute: '*/0 * * * *'"),
        ("\u0665 * * * *", "cron_expr has no valid minute: '\u0665 * * * *'"),
        ("0 0 30 2 *", "cron_expr never comes: '0 0 30 2 *'"),
        ("0 0 31 2,4,6,9,11 *", "cron_expr never comes: '0 0 31 2,4,6,9,11 *'"),
    ],
)
def test_what_is_wrong_is_said(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_cron(text)
    assert str(caught.value) == message


def test_zones_are_found_in_any_case_and_nothing_else_is_one() -> None:
    assert zone_of("europe/BERLIN") is ZoneInfo("Europe/Berlin")
    for text in (
        "",
        "PST",
        "CEST",
        "UTC+3",
        "FOO5",
        "Etc/GMT+13",
        "posix/UTC",
        "../UTC",
        "/etc/passwd",
        "Europe",
        "Mars/Olympus",
    ):
        with pytest.raises(ScheduleError, match="is not known"):
            zone_of(text)


@pytest.mark.parametrize(
    ("cron", "zone", "after", "ours", "croniters"),
    [
        # clocks are set back at 01:00 UTC: the wall shows 02:30 twice
        (
            "30 2 * * *",
            "Europe/Berlin",
            "2025-10-26T00:30:00+00:00",
            "2025-10-27T01:30:00+00:00",
            "2025-10-26T01:30:00+00:00",
        ),
        ("5-5 * * * *", "UTC", "2025-04-05T10:00:00+00:00", "2025-04-05T10:05:00+00:00", "2025-04-05T10:01:00+00:00"),
    ],
)
def test_where_croniter_reads_otherwise(cron: str, zone: str, after: str, ours: str, croniters: str) -> None:
    assert next_tick_us(cron, zone, us(after)) == us(ours)
    theirs = croniter(cron, datetime.fromisoformat(after).astimezone(ZoneInfo(zone))).get_next(float)
    assert round(theirs * 1e6) == us(croniters)
