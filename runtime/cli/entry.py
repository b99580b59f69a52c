"""Where the `garrison` command begins: Ctrl-C ends it silently while it is still loading.

Loading takes a moment, and Python would answer Ctrl-C in it with a traceback. Nothing has been done until then, so
the signal's own effect, the end, is all that is wanted; the shell makes 130 of it. It imports nothing but `signal`.
"""

import signal


def main() -> None:
    """Entry point of the `garrison` command."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where whoever started us ignores it
    if ours:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from runtime.cli.main import main as run_command

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run_command()
