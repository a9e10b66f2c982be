#!/usr/bin/env bash
# Everything worth measuring on a machine whose CUDA GPU is lent for minutes; benchmarks/README.md says what.
# It runs from the checkout, nothing needs to be installed but what semiseg depends on.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
exec "${PYTHON:-python3}" -m benchmarks.gpu "$@"
