"""The command's tree and its one way out: whatever ends a command becomes one exit code and at most one error.

A user's mistake never shows a traceback. A fault of ours does, on standard error, with exit code 1: hiding it would
help nobody.
"""

import errno
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated

import typer

from runtime.cli import agent, call, creds, host, keys, policychecks, status, tenant, up
from runtime.cli.demo import command as demo
from runtime.cli.exits import Exit, Failure
from runtime.cli.failures import failure_of
from runtime.cli.options import examples
from runtime.cli.output import print_failure

app = typer.Typer(
    name="garrison",
    help="A secure multi-tenant agent runtime on NATS.",
    epilog=examples(
        "garrison demo",
        "garrison up",
        "garrison tenant create st-marys",
        "garrison call vitals.assess '{}' --as nurse",
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(tenant.app, name="tenant")
app.add_typer(policychecks.app, name="policy")
app.add_typer(creds.app, name="creds")
app.add_typer(keys.app, name="keys")
app.add_typer(agent.app, name="agent")
app.add_typer(host.app, name="host")
up.register(app)
demo.register(app)
call.register(app)
status.register(app)


def _print_version(asked: bool) -> None:
    if asked:
        import importlib.metadata

        print(importlib.metadata.version("garrison"))
        raise typer.Exit


@app.callback()
def root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """A secure multi-tenant agent runtime on NATS."""


_UNWRITABLE = frozenset({errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG})
_INTERRUPTED = Failure(exit=Exit.INTERRUPTED, code="interrupted", message="interrupted")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    as_json = wants_json(arguments)
    try:
        code = int(app(list(arguments), standalone_mode=False) or Exit.OK)
        sys.stdout.flush()  # what can't be written is known now, not when the interpreter ends
        if code != Exit.INTERRUPTED:  # what typer makes of Ctrl-C, without a word
            return code
        failure = _INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        failure = _INTERRUPTED
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer does not export the type; its message is the help
            print(error.format_message(), file=sys.stderr)
            return Exit.USAGE
        failure = _usage(error)
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain again when it flushes at exit.
        sys.stdout = None
        return Exit.FAILED
    except Exception as error:  # noqa: BLE001 - the last resort: what is unknown is printed whole
        known = failure_of(error)
        if isinstance(error, OSError) and error.errno in _UNWRITABLE:
            sys.stdout = None  # or the interpreter tries once more as it ends
        if known is None:
            traceback.print_exc()
            return Exit.FAILED
        failure = known
    print_failure(failure, as_json=as_json)
    return failure.exit


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether `--json` was given: known before parsing, so that usage errors are JSON too."""
    before_end = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in before_end


def _usage(error: typer.TyperException) -> Failure:
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context is not None else ""
    message = " ".join(error.format_message().split()).rstrip(".")
    return Failure(exit=Exit.USAGE, code="usage", message=message[:1].lower() + message[1:], hint=hint)


def main() -> None:
    """Entry point of the `garrison` command."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale: what is printed may be JSON
    sys.exit(run(sys.argv[1:]))
