"""`garrison call`: one call of a capability, as whoever the folder belongs to."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from runtime.cli import names
from runtime.cli.exits import bad_input
from runtime.cli.options import JsonOption, examples, seconds
from runtime.cli.output import Output, json_text
from runtime.cli.session import converse

_INPUT_LIMIT = 4 * 1024 * 1024


def register(app: typer.Typer) -> None:
    """Add the command to the tree."""
    app.command(
        epilog=examples(
            'garrison call greeting \'{"name": "World"}\' --as amy',
            "garrison call vitals.assess @observations.json --as amy --json",
            "cat observations.json | garrison call vitals.assess - --as amy",
            "garrison call vitals.assess @observations.json --as amy --seal phi --data-subject patient/4711",
        )
    )(call)


def call(
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help="Such as vitals.assess.")],
    data: Annotated[str, typer.Argument(metavar="JSON", help="The input: JSON, @FILE, or - for standard input.")],
    folder: Annotated[Path, typer.Option("--as", metavar="FOLDER", help="The caller's credentials folder.")],
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long an answer is of use.")] = "30s",
    idempotent: Annotated[
        bool, typer.Option("--idempotent", help="The call may be repeated when its outcome is not known.")
    ] = False,
    seal: Annotated[
        str | None,
        typer.Option("--seal", metavar="LABEL", help="Seal the data, and take only a sealed answer: phi."),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option("--data-subject", metavar="SUBJECT", help="Whom sealed data is about: patient/4711."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Call a capability and print its result."""
    names.capability(capability)
    _check_scope(seal, subject)
    request, limit = read_object(data), seconds(timeout)

    async def work(client: Any) -> Any:
        return await client.ask(capability, request, timeout=limit, idempotent=idempotent, seal=seal, subject=subject)

    started = time.perf_counter()
    answer = converse(folder, work)
    took_ms = round((time.perf_counter() - started) * 1000, 1)
    value = {
        "result": answer.result,
        "agent_id": answer.agent_id,
        "correlation_id": answer.correlation_id,
        "ms": took_ms,
    }
    if as_json:
        Output(as_json=True).result(value)
    else:
        print(json_text(answer.result, indent=2))


def _check_scope(seal: str | None, subject: str | None) -> None:
    if seal is not None:
        names.key_scope(seal, subject)
    elif subject is not None:
        raise bad_input("--data-subject is about sealed data", hint="name its label with --seal")


def read_object(text: str) -> dict[str, Any]:
    """The JSON object that an argument gives, names as @FILE, or leaves to standard input with `-`.

    Raises:
        CommandError: It is not one JSON object.
    """
    source = "standard input" if text == "-" else f"`{text[1:]}`" if text.startswith("@") else "the input"
    content = _content(text)
    if len(content) > _INPUT_LIMIT:
        raise bad_input(f"{source} is larger than {_INPUT_LIMIT} bytes")
    try:
        value = json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError as error:
        raise bad_input(f"{source} is nested too deeply") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise bad_input(f"{source} is not JSON: {error.msg.lower()} at {where}") from error
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise bad_input(f"{source} is not JSON: {reason}") from error
    if not isinstance(value, dict):
        raise bad_input(f"{source} is not a JSON object", hint='write it like \'{"name": "World"}\'')
    return value


def _content(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read(_INPUT_LIMIT + 1)
    if text.startswith("@"):
        with Path(text[1:]).open("rb") as source:
            return source.read(_INPUT_LIMIT + 1)
    return text.encode(errors="surrogateescape")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is given twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"`{name}` is not a JSON number")
