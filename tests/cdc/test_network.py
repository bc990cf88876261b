"""Every connection notices that the other side is gone, unless its connection string has its own mind about that."""

from __future__ import annotations

from cdc.limits import WAL_SENDER_TIMEOUT_SECONDS
from cdc.network import network_options
from cdc.slot import connect_replication
from tests.cdc.conftest import Run
from tests.cdc.source import Source


def test_a_dead_network_is_noticed_within_the_time_in_which_the_server_frees_the_slot() -> None:
    options = {name: int(value) for name, value in network_options("host=a").items()}
    probing = options["keepalives_interval"] * options["keepalives_count"]
    assert options["keepalives"] == 1
    assert options["keepalives_idle"] + probing <= WAL_SENDER_TIMEOUT_SECONDS
    assert options["tcp_user_timeout"] <= WAL_SENDER_TIMEOUT_SECONDS * 1000
    assert options["connect_timeout"] < WAL_SENDER_TIMEOUT_SECONDS


def test_what_the_connection_string_says_itself_counts() -> None:
    options = network_options("postgresql://a/b?keepalives_idle=77&connect_timeout=3")
    assert (options["keepalives_idle"], options["connect_timeout"]) == ("77", "3")


def test_the_replication_connection_has_them(source: Source, run: Run) -> None:
    async def test() -> None:
        async with await connect_replication(source.dsn(tcp_user_timeout="1234"), application_name="x") as conn:
            parameters = conn.info.get_parameters()
        assert (parameters["tcp_user_timeout"], parameters["keepalives_count"]) == ("1234", "2")

    run(test())
