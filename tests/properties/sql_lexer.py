"""A second opinion on SQL's tokens: PostgreSQL's scan.l, followed rule by rule and a character at a time.

It shares nothing with engine.sqltext, knows both settings of standard_conforming_strings, and says what every literal
means. Only for tests: slow, and strict about nothing that the properties do not need.
"""

from dataclasses import dataclass
from typing import Final

SPACE: Final = " \t\n\r\f\v"
NEWLINE: Final = "\n\r"
ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
HEX: Final = "0123456789abcdefABCDEF"


@dataclass(frozen=True)
class Token:
    """`kind`: word, string, bits, number, parameter, name, error, or the operator character itself."""

    kind: str
    text: str


class BadEscape(Exception):
    """An escape that PostgreSQL refuses; the statement as a whole is an error."""


def is_start(character: str) -> bool:
    return (character.isascii() and (character.isalpha() or character == "_")) or character >= "\x80"


def is_rest(character: str) -> bool:
    return is_start(character) or (character.isascii() and character.isdigit()) or character == "$"


def is_digit(character: str) -> bool:
    return character.isascii() and character.isdigit()


class Lexer:
    def __init__(self, text: str, conforming: bool) -> None:
        self.text = text
        self.conforming = conforming
        self.at = 0
        self.tokens: list[Token] = []

    def peek(self, offset: int = 0) -> str:
        place = self.at + offset
        return self.text[place] if place < len(self.text) else "\0"

    def run(self) -> list[Token]:
        while self.at < len(self.text):
            self.one()
        return self.tokens

    def one(self) -> None:
        if not (self.blank() or self.literal() or self.named() or self.counted()):
            self.tokens.append(Token(self.peek(), self.peek()))
            self.at += 1

    def blank(self) -> bool:
        """White space and comments."""
        if self.peek() in SPACE:
            self.at += 1
        elif self.text.startswith("--", self.at):
            while self.at < len(self.text) and self.peek() not in NEWLINE:
                self.at += 1
        elif self.text.startswith("/*", self.at):
            self.comment()
        else:
            return False
        return True

    def literal(self) -> bool:
        """Whatever a quote ends, with the letters before it that say how to read it."""
        opening = self.text[self.at : self.at + 3].upper()
        if opening.startswith("'"):
            self.string("'" if self.conforming else "E")
        elif opening[:2] in ("E'", "B'", "X'"):
            self.at += 1
            self.string("E" if opening[0] == "E" else "B")
        elif opening == "U&'":
            self.at += 2
            self.string("U")
        else:
            return False
        return True

    def named(self) -> bool:
        """Words and quoted names. N before a quote is the word nchar."""
        opening = self.text[self.at : self.at + 3].upper()
        if opening[:2] == "N'":
            self.tokens.append(Token("word", "nchar"))
            self.at += 1
        elif opening == 'U&"':
            self.at += 2
            self.name()
        elif opening.startswith('"'):
            self.name()
        elif is_start(self.peek()):
            start = self.at
            while self.at < len(self.text) and is_rest(self.peek()):
                self.at += 1
            self.tokens.append(Token("word", self.text[start : self.at]))
        else:
            return False
        return True

    def counted(self) -> bool:
        """Numbers, and what a dollar begins."""
        if is_digit(self.peek()) or (self.peek() == "." and is_digit(self.peek(1))):
            self.number()
        elif self.peek() == "$":
            self.dollar()
        else:
            return False
        return True

    def comment(self) -> None:
        depth, self.at = 1, self.at + 2
        while depth and self.at < len(self.text):
            pair = self.text[self.at : self.at + 2]
            if pair in ("/*", "*/"):
                depth += 1 if pair == "/*" else -1
                self.at += 2
            else:
                self.at += 1

    def name(self) -> None:
        start, self.at = self.at, self.at + 1
        while self.at < len(self.text):
            if self.peek() == '"' and self.peek(1) == '"':
                self.at += 2
            elif self.peek() == '"':
                self.at += 1
                break
            else:
                self.at += 1
        self.tokens.append(Token("name", self.text[start : self.at]))

    def number(self) -> None:
        """Digits, a point, an exponent. What follows directly, letters included, counts as a part: junk is an error."""
        start = self.at
        while is_digit(self.peek()) or self.peek() == ".":
            self.at += 1
        if self.peek() in "eE" and (is_digit(self.peek(1)) or (self.peek(1) in "+-" and is_digit(self.peek(2)))):
            self.at += 2
            while is_digit(self.peek()):
                self.at += 1
        self.tokens.append(Token("number", self.text[start : self.at]))

    def dollar(self) -> None:
        start = self.at
        if is_digit(self.peek(1)):
            self.at += 1
            while is_digit(self.peek()):
                self.at += 1
            self.tokens.append(Token("parameter", self.text[start : self.at]))
            return
        end = self.at + 1
        while end < len(self.text) and is_rest(self.text[end]) and self.text[end] != "$":
            end += 1
        if end < len(self.text) and self.text[end] == "$":
            tag = self.text[start : end + 1]
            close = self.text.find(tag, end + 1)
            self.at = len(self.text) if close < 0 else close + len(tag)
            self.tokens.append(Token("string", self.text[end + 1 : close if close >= 0 else len(self.text)]))
            return
        self.tokens.append(Token("error", "$"))  # no token of the grammar: the statement is refused as a whole
        self.at += 1

    def string(self, state: str) -> None:
        """A literal in state ', E, U or B, from its quote on, over all the lines that it goes on."""
        self.at += 1
        value: list[str] = []
        while self.at < len(self.text):
            if self.peek() == "'":
                if self.peek(1) == "'" and state != "B":
                    value.append("'")
                    self.at += 2
                elif self.continues():
                    pass
                else:
                    self.at += 1
                    break
            elif self.peek() == "\\" and state in "EU":
                value.append(self.escape() if state == "E" else self.unicode_escape())
            else:
                value.append(self.peek())
                self.at += 1
        self.tokens.append(Token("bits" if state == "B" else "string", "".join(value)))

    def continues(self) -> bool:
        """After a quote: white space with a newline in it (comments count), then a quote. Moves past it if so."""
        place, newline = self.at + 1, False
        while place < len(self.text):
            here = self.text[place]
            if here in SPACE:
                newline = newline or here in NEWLINE
                place += 1
            elif self.text.startswith("--", place):
                while place < len(self.text) and self.text[place] not in NEWLINE:
                    place += 1
                if newline and place == len(self.text):
                    return False
            elif here == "'" and newline:
                self.at = place + 1
                return True
            else:
                return False
        return False

    def take(self, allowed: str, most: int) -> str:
        start = self.at
        while self.at - start < most and self.peek() in allowed:
            self.at += 1
        return self.text[start : self.at]

    def escape(self) -> str:
        self.at += 1
        kind = self.peek()
        if self.at >= len(self.text):
            return "\\"
        if kind in "01234567":
            return chr(int(self.take("01234567", 3), 8) & 0xFF)
        self.at += 1
        if kind == "x" and self.peek() in HEX:
            return chr(int(self.take(HEX, 2), 16))
        if kind in "uU":
            digits = self.take(HEX, 4 if kind == "u" else 8)
            if len(digits) != (4 if kind == "u" else 8) or int(digits, 16) > 0x10FFFF:
                raise BadEscape
            return chr(int(digits, 16))
        return ESCAPES.get(kind, kind)

    def unicode_escape(self) -> str:
        self.at += 1
        if self.peek() == "\\":
            self.at += 1
            return "\\"
        most = 4
        if self.peek() == "+":
            most, self.at = 6, self.at + 1
        digits = self.take(HEX, most)
        if len(digits) != most or int(digits, 16) > 0x10FFFF:
            raise BadEscape
        return chr(int(digits, 16))


def tokens_of(text: str, conforming: bool = True) -> list[Token]:
    """The tokens of a statement; BadEscape when a literal has an escape that PostgreSQL refuses."""
    return Lexer(text, conforming).run()
