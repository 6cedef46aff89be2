"""Regular expressions of users. A search that would backtrack for years ends, and the error says so."""

from __future__ import annotations

import re
from time import thread_time

from ...errors import InvalidArgument

MAX_SECONDS = 1.0  # CPU time that the search of one text may take above LINEAR_RATE
MAX_TOTAL_SECONDS = 10.0  # the same for all searches of one expression
LINEAR_RATE = 5_000_000  # characters a second: a search of an ordinary expression is faster
_MAX_SIZE = 200_000  # items of a compiled expression: the library needs up to 300 bytes for each
_TOKEN = re.compile(
    r"\\[NpP]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\{(?P<least>\d*)(?P<more>,\d*)?\}|\((?:\?[^()\\]*?[:>=!)])?|.",
    re.DOTALL,
)


class RegularExpression:
    """A regular expression of a user, in the syntax of Python's `re`, and more: `[[:alpha:]]` and Unicode properties.

    Args:
        pattern: the expression.
        whole: whether it has to match the whole text.
        dot: what `.` stands for; I-Regexp (RFC 9485) has its own meaning.

    Raises:
        InvalidArgument: it is not a regular expression, or has over 200,000 items with its repeats written out.

    """

    def __init__(self, pattern: str, whole: bool = False, dot: str = ".") -> None:
        import regex

        self.pattern = pattern
        try:
            compiled = regex.compile(_translate(pattern, dot), cache_pattern=False)
        except (regex.error, ValueError, OverflowError) as error:
            raise InvalidArgument(f"{pattern[:60]!r} is not a regular expression: {error}") from error
        except (RecursionError, MemoryError) as error:
            raise InvalidArgument(f"the regular expression {pattern[:60]!r} is too large or nested too deep") from error
        self._search = compiled.fullmatch if whole else compiled.search
        self._spent = 0.0  # seconds above LINEAR_RATE

    def search(self, text: str) -> tuple[int, int] | None:
        """Return the start and end of the first match, or None.

        Raises:
            InvalidArgument: the searches of this expression took too long.

        """
        allowed = min(MAX_SECONDS, MAX_TOTAL_SECONDS - self._spent)
        linear = 0.01 + len(text) / LINEAR_RATE
        start = thread_time()
        try:
            match = self._search(text, timeout=linear + allowed)
        except TimeoutError:
            raise InvalidArgument(
                f"the regular expression {self.pattern[:60]!r} was stopped after {self._spent + allowed:.1f} s of"
                f" backtracking, in a text of {len(text):,} characters",
                "Simplify repeats that can match one text in several ways, such as (a+)+",
            ) from None
        self._spent += min(allowed, max(0.0, thread_time() - start - linear))
        return None if match is None else match.span()


def _translate(pattern: str, dot: str) -> str:
    """Return the pattern for the library: `{` before a letter is text (there it allows misspelled text).

    Raises:
        ValueError: it has too many items. The library writes repeats out: `(a+){2}` has as many as `aa*aa*`.

    """
    out: list[str] = []
    sizes, last = [0], 0  # the items in each open group, and in the part that a repeat would repeat
    for token in _TOKEN.finditer(pattern):
        sign = token[0]
        times = 1
        if sign == "+":
            times = 2
        elif token["least"] is not None and sign != "{}":
            times = max(1, int(token["least"].lstrip("0")[:9] or 0) + (token["more"] is not None))
        elif sign[0] == "(" and sign[-1] != ")":
            sizes.append(0)
        elif sign == ")":
            last = sizes.pop() if len(sizes) > 1 else 0
            sizes[-1] += last
        elif sign[0] == "{":
            sign = r"\{" + sign[1:]
        else:
            last = 1
            sizes[-1] += last
        sizes[-1] += last * (times - 1)
        last *= times
        if sizes[-1] > _MAX_SIZE:
            raise ValueError(f"with its repeats written out it has over {_MAX_SIZE:,} items")
        out.append(dot if sign == "." else sign)
    return "".join(out)
