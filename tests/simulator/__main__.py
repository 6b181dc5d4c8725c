"""`python -m tests.simulator [--attack NAME] [--json]` plays the attacks and prints the table. Exit 0 if every one came
to what it must come to: refused or excluded by the expected check, the honest nodes on the model that they should have,
and the audit with the finding that it should have.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from tests.simulator.attack import Result, play
from tests.simulator.table import ATTACKS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description="Plays attacks on a federation.")
    parser.add_argument("--attack", help="only those whose name contains this")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    results: list[Result] = []
    for attack in ATTACKS:
        if asked.attack is None or asked.attack in attack.name:
            with tempfile.TemporaryDirectory() as folder:
                results.append(result := play(attack, Path(folder)))
            if not asked.json:
                words = ("differs", "agreed")[result.agreed], ("audit differs", "audited")[result.audited]
                print(f"{attack.name:32} {attack.expected:28} {result.got:28} {words[0]:8} {words[1]}", flush=True)
    held = sum(result.holds for result in results)
    if asked.json:
        table = [result.to_dict() for result in results]
        print(json.dumps({"attacks": table, "played": len(results), "held": held}, indent=2))
    else:
        print(f"{held} of {len(results)} attacks came to what they must come to")
    return 0 if held == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
