# Bare `just` lists the recipes. Each calls the virtual environment's own Python: nothing needs activating.

python := ".venv/bin/python"

_default:
    @just --list --unsorted

# Install the locked dependencies and tbot itself into .venv.
setup:
    {{python}} -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
    {{python}} -m pip install -q --disable-pip-version-check --no-deps -e .

# Trade on a local exchange: `just sim --seed 7 --duration 1h --speed max --chaos`.
sim *ARGS:
    {{python}} -m tbot sim {{ARGS}}

# Trade live public data with play money; needs the network: `just paper --duration 1h`.
paper *ARGS:
    {{python}} -m tbot paper {{ARGS}}

# Serve the local exchange alone: `just exchange --port 8137`.
exchange *ARGS:
    {{python}} -m tbot exchange {{ARGS}}

# Record market data: `just record --config my.toml --duration 1h`.
record *ARGS:
    {{python}} -m tbot record {{ARGS}}

# Check recordings of market data: `just frames recordings/*`.
frames *ARGS:
    {{python}} -m tbot frames {{ARGS}}

# Run the quick tests on all cores; extra arguments go to pytest (`-n 0` is one process, for a debugger).
test *ARGS:
    {{python}} -m pytest -m "not slow" -n auto --dist worksteal {{ARGS}}

# Run the quick tests, then the slow sweeps over many seeds.
test-all: test
    {{python}} -m pytest -m slow -n auto --dist worksteal

# Format check, lint, async lint, import contracts. ASYNC114 wants a list kept by hand; bodies of protocols may not await (124).
lint:
    {{python}} -m ruff format --check .
    {{python}} -m ruff check .
    find . -name "*.py" -not -path "./.venv/*" -print0 | xargs -0 -n 32 -P 4 \
        .venv/bin/flake8-async --disable=ASYNC9,ASYNC114,ASYNC124
    .venv/bin/lint-imports --no-cache --no-logo

# Prove the types of the bot and its tests.
typecheck:
    {{python}} -m mypy

# Measure the hot paths; numbers are worth something only beside the name of the machine.
bench *ARGS:
    {{python}} -m bench {{ARGS}}

# Everything a change must pass.
check: lint typecheck test

# Pin and hash the dependencies of pyproject.toml again. Without its extras an entry does not hold for pip before 23.3.
lock:
    {{python}} -m venv .venv/lock && .venv/lock/bin/pip install -q uv==0.13.9
    .venv/lock/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --upgrade --quiet \
        --generate-hashes --no-strip-extras --no-emit-index-url --no-annotate --custom-compile-command "just lock" -o requirements.lock
