"""The grammar of NATS subjects and wildcards, and the three questions asked about them.

`matches` (is this subject meant by that pattern), `covers` (does one pattern mean everything that another means) and
`overlaps` (is there any subject that both mean). `*` stands for one token, `>` for one or more at the end.

Stricter than nats-server, which takes `a*b` and `a.>.b` for literal tokens: a pattern that someone would misread is
refused. Which subjects exist is not known here.
"""

from authz.errors import AuthzError
from authz.quoting import quoted

ONE = "*"
REST = ">"

MAX_SUBJECT = 1024


class SubjectFormatError(AuthzError):
    """Text is not a subject, or not a pattern.

    Attributes:
        text: what was given.
        problem: what is wrong with it, in words.
    """

    def __init__(self, text: object, problem: str) -> None:
        super().__init__(f"subject {quoted(text)} {problem}")
        self.text = text
        self.problem = problem


def parse_pattern(text: str) -> tuple[str, ...]:
    """Return the tokens of a pattern: a subject that may hold wildcards.

    Raises:
        SubjectFormatError: with what is wrong.
    """
    if not isinstance(text, str) or not text or len(text) > MAX_SUBJECT:
        raise SubjectFormatError(text, f"must be text of 1 to {MAX_SUBJECT} characters")
    tokens = tuple(text.split("."))
    for position, token in enumerate(tokens, start=1):
        problem = _token_problem(token, last=position == len(tokens))
        if problem:
            raise SubjectFormatError(text, problem)
    return tokens


def parse_subject(text: str) -> tuple[str, ...]:
    """Return the tokens of a subject without wildcards.

    Raises:
        SubjectFormatError: with what is wrong.
    """
    tokens = parse_pattern(text)
    if ONE in tokens or REST in tokens:
        raise SubjectFormatError(text, "must not hold a wildcard")
    return tokens


def matches(pattern: str, subject: str) -> bool:
    """Tell whether ``pattern`` means ``subject``. Wildcards in the subject are only themselves."""
    return covers(pattern, subject)


def covers(wide: str, narrow: str) -> bool:
    """Tell whether each subject meant by ``narrow`` is meant by ``wide`` too."""
    wides, narrows = wide.split("."), narrow.split(".")
    for outer, inner in zip(wides, narrows, strict=False):
        if outer == REST:
            return True
        if inner == REST or outer not in (ONE, inner):
            return False
    return len(wides) == len(narrows)


def overlaps(left: str, right: str) -> bool:
    """Tell whether some subject is meant by both patterns."""
    lefts, rights = left.split("."), right.split(".")
    for one, other in zip(lefts, rights, strict=False):
        if REST in (one, other):
            return True
        if one != other and ONE not in (one, other):
            return False
    return len(lefts) == len(rights)


def _token_problem(token: str, *, last: bool) -> str | None:
    if not token:
        return "has an empty token: no dot at either end, and never two in a row"
    if any(character <= " " or character == "\x7f" for character in token):
        return "holds a space or a control character"
    if token == REST and not last:
        return "has `>` before its end: `>` stands for all the rest, so it comes last"
    if len(token) > 1 and (ONE in token or REST in token):
        return "has a wildcard inside a token: `*` and `>` stand alone between dots"
    return None
