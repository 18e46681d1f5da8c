"""Every check of the project: `python check.py [PYTEST_ARGUMENT...]`, with epomdp[dev] installed."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent


def steps(site: str, pytest_arguments: list[str]) -> dict[str, list[str]]:
    """Name -> arguments of `python -m`; the documentation is built into the folder `site`."""
    return {
        "lint": ["ruff", "check", "."],
        "format": ["ruff", "format", "--check", "."],
        "types": ["pyright", "--pythonpath", sys.executable],
        "documentation": ["mkdocs", "build", "--strict", "--site-dir", site],
        "tests": ["pytest", "-rs", "--numprocesses=2", "--dist=loadfile", *pytest_arguments],
    }


def main() -> int:
    """Run every step, also after one that fails; 0 if all have passed, else 1."""
    failed = []
    with tempfile.TemporaryDirectory() as site:
        for name, arguments in steps(site, sys.argv[1:]).items():
            print(f"== {name}: {' '.join(arguments)}", flush=True)
            if subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT).returncode:
                failed.append(name)
    print(f"== failed: {', '.join(failed)}" if failed else "== all checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
