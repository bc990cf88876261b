"""The command line: one small module a command, or a group of them that share a purpose.

    app        the commands put together, and outcomes turned into exit codes
    run, dev, migrate, doctor       what looks after the engine: its settings, its role
    listing, showing, history, steering, starting    what users ask and send: any role, by the SQL surface
    top/       the live screen
    session    a user's own connection, and what its errors mean to a person
    instances  what is asked of schema df, as rows (fetching)
    views, times, output            rows to text (rendering, without I/O), and where text goes

What fetches does not render, what renders does not fetch: views are tested without a terminal or a server.
"""

from engine.cli.app import main

__all__ = ["main"]
