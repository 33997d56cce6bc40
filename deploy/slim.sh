#!/bin/sh
# Leaves of an environment what runs: no symbols for debuggers, no sources of extension modules, no
# tests, no databases but ours, and bytecode of what a start loads. Takes the environment's folder.
set -eu
cd "$1"/lib/python3*/site-packages
# NumPy's own libraries have been patched in a way that strip breaks.
find . -name '*.so' -not -path './numpy.libs/*' -exec strip --strip-unneeded {} +
find . -type f -regex '.*\.\(c\|cpp\|h\|hpp\|pxd\|pxi\|pyi\|pyx\)' -delete
find . -type d -name tests -prune -exec rm -r {} +
rm -rf alembic/templates alembic/testing \
    fastapi_offline/static/redoc.standalone.js \
    numpy/_core/_simd.*.so numpy/_core/include numpy/_core/lib numpy/f2py numpy/random/lib \
    pydantic/v1 \
    sqlalchemy/dialects/mssql sqlalchemy/dialects/mysql sqlalchemy/dialects/oracle \
    sqlalchemy/testing
find . -type d -name __pycache__ -prune -exec rm -r {} +
data=$(mktemp -d)
"$1/bin/python" -c 'import sqlalchemy.dialects.postgresql.asyncpg'
timeout --preserve-status --signal=TERM 10 "$1/bin/neurond" serve --port 0 --data-dir "$data"
rm -r "$data"
