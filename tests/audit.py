"""Looks the pinned dependencies up in the advisory databases: ``python -m tests.audit``.

Prints SKIPPED if no source of advisories can be reached, and returns 1 if there is a finding.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WEB = ROOT / "service" / "web"
SECONDS = 300


def run(command: list[str], folder: Path) -> Any:
    """Return the JSON that a command prints, or None if it prints none."""
    try:
        output = subprocess.run(  # noqa: S603 - our own commands
            command, cwd=folder, capture_output=True, check=False, timeout=SECONDS, text=True
        ).stdout
        return json.loads(output)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None


def python_findings(report: Any) -> list[str] | None:
    """Return the findings of pip-audit, or None if it could look nothing up."""
    entries = [] if report is None else report["dependencies"]
    checked = [entry for entry in entries if "skip_reason" not in entry]
    if not checked:
        return None
    return [
        f"{entry['name']} {entry['version']}: {finding['id']}"
        for entry in checked
        for finding in entry["vulns"]
    ]


def npm_findings(report: Any) -> list[str] | None:
    """Return the findings of npm, or None if it could not reach its registry."""
    if report is None or "vulnerabilities" not in report:
        return None
    vulnerabilities = report["vulnerabilities"].values()
    return [f"{entry['name']} {entry['range']}: {entry['severity']}" for entry in vulnerabilities]


def main() -> int:
    """Print a line for each file, and return 1 if there is a finding."""
    auditor = Path(sys.executable).with_name("pip-audit")
    failed = False
    reports = {
        file.name: python_findings(
            run([str(auditor), "-r", str(file), "--no-deps", "--disable-pip", "-f", "json"], ROOT)
        )
        for file in sorted(ROOT.glob("requirements*.txt"))
    }
    npm = shutil.which("npm")
    reports["package-lock.json"] = (
        None if npm is None else npm_findings(run([npm, "audit", "--json"], WEB))
    )
    for name, findings in reports.items():
        if findings is None:
            sys.stdout.write(f"{name}: SKIPPED, no source of advisories can be reached\n")
        elif findings:
            failed = True
            sys.stdout.write(f"{name}:\n" + "".join(f"  {finding}\n" for finding in findings))
        else:
            sys.stdout.write(f"{name}: nothing found\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
