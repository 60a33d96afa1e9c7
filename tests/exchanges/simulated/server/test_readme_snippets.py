"""What the README says in Python works as it stands, from the first line to the last."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
ENDING = """
print(json.dumps([first.get_order(placed["orderID"])["asset_id"] == token_id, client is not first]))
exchange.terminate()
assert exchange.wait(20) == 0
"""


@pytest.mark.slow
def test_readme_snippets_run_as_they_stand() -> None:
    plain, unified = SNIPPETS
    # Only the interpreter is another one where the environment is not called .venv.
    assert plain.count('".venv/bin/tbot"') == 1
    plain = plain.replace('".venv/bin/tbot"', f'{sys.executable!r}, "-m", "tbot"')
    assert plain.count("client.create_and_post_order(") == 1
    plain = plain.replace("client.create_and_post_order(", "placed = client.create_and_post_order(")
    script = f"{plain}\nfirst = client\n{unified}\n{ENDING}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=180, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [True, True]
