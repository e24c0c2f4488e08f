#!/bin/sh
# make check: what must hold before anything is run.
set -eu
cd "$(dirname "$0")/../.."
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
# spawnd is built alone in production: a workspace build would unify features into it.
cargo clippy --locked -p spawnd -- -D warnings
sh tests/scripts/check-docs.sh
sh tests/scripts/check-size.sh
# Every key that the shipped file only shows must be one, too.
cargo run --locked --quiet -p spawnd --bin spawnd -- --check-config systemd/spawnd.toml
shown=$(mktemp)
trap 'rm -f "$shown"' EXIT
sed 's/^#\(\[\|[a-z_]* = \)/\1/' systemd/spawnd.toml >"$shown"
cargo run --locked --quiet -p spawnd --bin spawnd -- --check-config "$shown"
if command -v cargo-deny >/dev/null 2>&1; then
    cargo deny --offline check licenses bans sources
else
    echo "SKIPPED: cargo deny (not installed): licences and sources are not checked" >&2
fi
