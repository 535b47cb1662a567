"""Prints what `coverage json` has found for each folder, the least covered first: `coverage_by_folder.py FILE`."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

ALL = "in all"


def main(report: Path) -> None:
    """Print the table."""
    statements: Counter[str] = Counter()
    covered: Counter[str] = Counter()
    for file, found in json.loads(report.read_text())["files"].items():
        for folder in (str(Path(file).parent), ALL):
            statements[folder] += found["summary"]["num_statements"]
            covered[folder] += found["summary"]["covered_lines"]
    sys.stdout.write(f"{'folder':45}{'statements':>12}{'missed':>9}{'covered':>10}\n")
    shares = {folder: covered[folder] / statements[folder] for folder in statements if statements[folder]}
    for folder in sorted(shares, key=lambda folder: (folder == ALL, shares[folder])):
        missed = statements[folder] - covered[folder]
        sys.stdout.write(f"{folder:45}{statements[folder]:12}{missed:9}{shares[folder]:10.1%}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
