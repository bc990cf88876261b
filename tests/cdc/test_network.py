"""Every connection notices that the other side is gone, unless its connection string has its own mind about that."""

from __future__ import annotations

import gc
import socket

import psycopg
import pytest

from cdc.limits import WAL_SENDER_TIMEOUT_SECONDS
from cdc.network import network_options, open_connection
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


def test_a_login_that_is_not_answered_is_given_up_and_its_connection_closed(run: Run) -> None:
    """The server would wait for the rest of it, and up to 16 a crash stop for that."""
    server = socket.create_server(("127.0.0.1", 0))

    async def test() -> None:
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            await open_connection(f"host=127.0.0.1 port={server.getsockname()[1]}", {"connect_timeout": "2"})

    gc.disable()
    try:
        with server:
            run(test())
            accepted, _ = server.accept()
            with accepted:
                accepted.settimeout(5)
                while accepted.recv(1000):  # the start of a login, then the end of it
                    pass
    finally:
        gc.enable()
