"""*Confirm only what is durable*: the one place where the flushed position comes from.

Theory of operation. PostgreSQL believes any flushed position that it is told, also one past the end of its WAL, and
never sends again what lies before it: a wrong number loses commits silently. So the number has one source,
`Progress.flush_to_report`, and it is always the position of a checkpoint that has committed.

Three positions exist:

- *received*: up to here everything has been delivered to this process (a commit's end, or a keepalive's position
  outside a transaction). It is written by the protocol as frames arrive and says nothing about durability.
- *durable*: the position that the last committed checkpoint holds. Written by whoever committed it, afterwards.
- *flushed*: what the server is told. Equal to *durable*; nothing (0) as long as no checkpoint exists.

Both stored positions only grow, and durable never passes received. A call that would break this is a mistake of our
own: it raises AssertionError and changes nothing. (Raised explicitly: this rule must hold under `python -O` as well.)

A position means something only within one system identifier and one generation of the slot. Whoever passes `stored`
has compared those first (`cdc.slot.check_stored_position`).
"""

from cdc.lsn import NO_LSN, Lsn, format_lsn


class Progress:
    """How far one slot has been received and made durable."""

    __slots__ = ("_durable", "_received")

    def __init__(self, stored: Lsn = NO_LSN) -> None:
        """`stored` is the position of the last committed checkpoint of this slot, NO_LSN when there is none."""
        # What a committed checkpoint holds was received in an earlier life.
        self._received = stored
        self._durable = stored

    @property
    def received(self) -> Lsn:
        """The furthest position up to which everything was delivered."""
        return self._received

    @property
    def durable(self) -> Lsn:
        """The position of the last committed checkpoint; NO_LSN before the first."""
        return self._durable

    def receive(self, position: Lsn) -> None:
        """Everything before `position` has been delivered. Earlier positions, as in a redelivery, change nothing."""
        if position > self._received:
            self._received = position

    def checkpointed(self, position: Lsn) -> None:
        """A checkpoint at `position` has committed. The same position again is welcome, an earlier one is a mistake."""
        if position < self._durable:
            raise AssertionError(
                f"checkpoint at {format_lsn(position)} after one at {format_lsn(self._durable)}: "
                "what the server was told already would not be stored any more"
            )
        if position > self._received:
            raise AssertionError(
                f"checkpoint at {format_lsn(position)}, but nothing after {format_lsn(self._received)} was received"
            )
        self._durable = position

    def flush_to_report(self) -> Lsn:
        """The flushed position for the next status message. No other value may ever be reported as flushed."""
        return self._durable
