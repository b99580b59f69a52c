"""`garrison policy lint`, `explain` and `diff`: look at a policy before it is applied.

They work on files alone; only `diff` without `--against` asks the platform for the policy in force.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.cli.exits import CommandError, Exit, Failure, bad_input
from runtime.cli.options import DEFAULT_DIR, AsOption, DirOption, JsonOption, acting_folder, examples
from runtime.cli.output import Output
from runtime.cli.policy import FileArgument, app, load
from runtime.cli.session import administer

if TYPE_CHECKING:
    from authz.diff import Change
    from authz.lint import Finding
    from authz.policy import Action, Policy


__all__ = ["app"]


@app.command(epilog=examples("garrison policy lint st-marys.yaml", "garrison policy lint st-marys.yaml --strict"))
def lint(
    file: FileArgument,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a policy file: grants that can't work, are never reached, or give more than they seem to."""
    from authz.compiler import compile_policy
    from authz.lint import lint_policy

    policy = load(file)
    compile_policy(policy)
    findings = lint_policy(policy)
    fatal = {"error", "warning"} if strict else {"error"}
    lines = tuple(f"line {finding.line}: {finding.severity}: {finding.message}" for finding in findings)
    if to_mend := [finding for finding in findings if finding.severity in fatal]:
        raise _to_mend(file, to_mend, findings, lines)
    warnings = sum(finding.severity == "warning" for finding in findings)
    counted = f"{warnings} warning{'' if warnings == 1 else 's'}"
    value = {"tenant": policy.tenant, "findings": [asdict(finding) for finding in findings]}
    Output(as_json=as_json).result(value, *lines, f"`{file}` can be applied to `{policy.tenant}`: {counted}")


def _to_mend(file: Path, to_mend: list[Finding], findings: tuple[Finding, ...], lines: tuple[str, ...]) -> CommandError:
    message = f"`{file}` has {len(to_mend)} finding{'' if len(to_mend) == 1 else 's'} to mend"
    extra = (("findings", [asdict(finding) for finding in findings]),)
    return CommandError(Failure(exit=Exit.USAGE, code="bad_policy", message=message, details=lines, extra=extra))


@app.command(
    epilog=examples(
        "garrison policy explain st-marys.yaml nurse",
        "garrison policy explain st-marys.yaml nurse call vitals.assess",
    )
)
def explain(
    file: FileArgument,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="A role, or agent:NAME.")],
    action: Annotated[
        str | None, typer.Argument(metavar="[ACTION]", help="call, publish, subscribe, admin or data.")
    ] = None,
    resource: Annotated[str | None, typer.Argument(metavar="[RESOURCE]", help="Such as vitals.assess.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what a role may do and which line grants it; or whether it may do one thing, and why."""
    from authz.policy import ACTIONS

    policy = load(file)
    if action is None:
        _explain_role(policy, role, Output(as_json=as_json))
        return
    if action not in ACTIONS:
        raise bad_input(f"`{action}` is not an action", hint=f"it is one of: {', '.join(ACTIONS)}")
    if resource is None:
        raise bad_input(f"`{action}` what? name the resource too", hint="such as: call vitals.assess")
    _explain_decision(policy, role, action, resource, Output(as_json=as_json))


@app.command(epilog=examples("garrison policy diff st-marys.yaml", "garrison policy diff new.yaml --against old.yaml"))
def diff(
    file: FileArgument,
    against: Annotated[
        Path | None, typer.Option("--against", metavar="OLD", help="Compare with this file, not the platform.")
    ] = None,
    directory: DirOption = DEFAULT_DIR,
    acting_as: AsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what applying a policy file would grant and take away."""
    from authz.diff import diff_policies

    policy = load(file)
    old = load(against) if against else _in_force(policy.tenant, acting_folder(directory, acting_as))
    changes = diff_policies(old, policy)
    value = {"tenant": policy.tenant, "changes": [asdict(change) for change in changes]}
    Output(as_json=as_json).result(value, *([_line(change) for change in changes] or ["no change"]))


def _line(change: Change) -> str:
    sign = "+" if change.kind == "added" else "-"
    deny = "deny " if change.effect == "deny" else ""
    effect = "may do more" if change.widens else "may do less"
    return f"{sign} {change.role}: {deny}{change.action} {change.pattern} (line {change.line}; {effect})"


def _explain_role(policy: Policy, role: str, output: Output) -> None:
    from authz.explain import explain as explain_role

    traces = explain_role(policy, role)
    rows = [[trace.effect, trace.direction, trace.subject, trace.line, trace.grant] for trace in traces]
    value = {"tenant": policy.tenant, "role": role, "permissions": [asdict(trace) for trace in traces]}
    output.rows(value, ["effect", "direction", "subject", "line", "grant"], rows, none="nothing")


def _explain_decision(policy: Policy, role: str, action: Action, resource: str, output: Output) -> None:
    from authz.explain import explain_decision

    trace = explain_decision(policy, role, action, resource)
    decision = trace.decision
    effect = "allowed" if decision.allowed else "denied"
    lines = [f"{effect}: {decision.reason}"]
    lines += [f"  line {grant.line}: {grant.text}" for grant in trace.considered]
    if trace.also_allowed:
        lines.append(f"other roles that may: {', '.join(trace.also_allowed)}")
    if trace.way_out:
        lines.append(f"to allow it: {trace.way_out}")
    value = {
        "tenant": policy.tenant,
        "role": role,
        "action": action,
        "resource": resource,
        "effect": effect,
        "reason": decision.reason,
        "rule": asdict(decision.rule) if decision.rule else None,
        "considered": [asdict(grant) for grant in trace.considered],
        "also_allowed": list(trace.also_allowed),
        "way_out": trace.way_out,
    }
    output.result(value, *lines)


def _in_force(tenant: str, folder: Path) -> Policy | None:
    from authz.policyfile import load_policy

    text = str(administer(folder, "policy.show", tenant).get("policy") or "")
    return load_policy(text, source="the policy in force") if text else None
