#!/bin/sh
# make bench: the release build, measured from outside. Nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/../.."
. tests/scripts/claude.sh
pinned_claude
exec target/release/bench "$CLAUDE"
