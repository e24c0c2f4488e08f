#!/bin/sh
# make run: the dev pair with the user's claude, or the pinned one.
set -eu
cd "$(dirname "$0")/../.."
. tests/scripts/claude.sh
any_claude
export SYNTHESIS_CLAUDE="$CLAUDE"
exec target/debug/frontd dev
