#!/bin/sh
# make check: what must hold before anything is run.
set -eu
cd "$(dirname "$0")/../.."
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
# spawnd is built alone in production: a workspace build would unify features into it.
cargo clippy --locked -p spawnd -- -D warnings
sh tests/scripts/check-docs.sh
if command -v cargo-deny >/dev/null 2>&1; then
    cargo deny --offline check licenses bans sources
else
    echo "SKIPPED: cargo deny (not installed): licences and sources are not checked" >&2
fi
