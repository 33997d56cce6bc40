#!/bin/sh
# Strips a virtual environment down to what is needed at run time: removes debug symbols, sources of
# extension modules, tests and unused database dialects, and compiles only the bytecode of modules
# that the server imports at start. Usage: slim.sh ENVIRONMENT
set -eu
cd "$1"/lib/python3*/site-packages
# strip corrupts the patched libraries that NumPy bundles.
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
