#!/bin/sh
# make demo: the real CLI against the mock model.
set -eu
cd "$(dirname "$0")/../.."
. tests/scripts/claude.sh
pinned_claude
exec target/debug/demo "$CLAUDE"
