#!/bin/sh
# make check: what must hold before anything is run.
set -eu
cd "$(dirname "$0")/../.."
cargo fmt --all --check
cargo clippy --locked --workspace --all-targets -- -D warnings
# Only checked: its dependencies are many.
cargo check --locked -p frontd --features otel --tests
# spawnd is built alone in production: a workspace build would unify features into it.
cargo clippy --locked -p spawnd -- -D warnings
sh tests/scripts/check-docs.sh
sh tests/scripts/check-size.sh
sh tests/scripts/check-units.sh
# Every key that the shipped files only show must be one, too.
shown=$(mktemp)
trap 'rm -f "$shown"' EXIT
for file in systemd/spawnd.toml systemd/frontd.toml; do
    sed 's/^#\(\[\|[a-z_]* = \)/\1/' "$file" >"$shown"
    for file in "$file" "$shown"; do
        case $(head -1 "$file") in
        */spawnd.toml*) cargo run --locked --quiet -p spawnd --bin spawnd -- --check-config "$file" ;;
        *) cargo run --locked --quiet -p frontd --bin frontd -- check-config "$file" ;;
        esac
    done
done
if command -v cargo-deny >/dev/null 2>&1; then
    cargo deny --offline check licenses bans sources
else
    echo "SKIPPED: cargo deny (not installed): licences and sources are not checked" >&2
fi
