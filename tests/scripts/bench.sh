#!/bin/sh
# make bench: the release build, measured from outside. Nothing else should run meanwhile.
set -eu
cd "$(dirname "$0")/../.."
exec target/release/bench "$@"
