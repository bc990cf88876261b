import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import ProtocolError
from cdc.lsn import Lsn, format_lsn, parse_lsn


def test_text_form_is_that_of_postgresql() -> None:
    assert parse_lsn("0/16B3748") == 0x16B3748
    assert parse_lsn("16/b374d848") == 0x16_B374D848
    assert format_lsn(Lsn(0x16_0000_0001)) == "16/1"


@given(st.integers(0, 2**64 - 1).map(Lsn))
def test_every_position_survives_being_written_and_read(lsn: Lsn) -> None:
    assert parse_lsn(format_lsn(lsn)) == lsn


@pytest.mark.parametrize(
    "text", ["", "0", "/", "0/", "/0", "0/123456789", "0/16B3748\n", " 0/1", "0x0/1", "-1/0", "0/٣", "0/1/2"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ProtocolError):
        parse_lsn(text)
