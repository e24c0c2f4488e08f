#!/bin/sh
# make test: sets up what the tests need below target/, builds everything, runs everything.
set -eu
cd "$(dirname "$0")/../.."
. tests/scripts/claude.sh
. tests/scripts/clients.sh

# Without npm or python the tests that need them say so, loudly; under CI they fail.
if pinned_claude; then
    SYNTHESIS_TEST_CLAUDE=$CLAUDE
    if [ "$(id -u)" = 0 ]; then
        # The session's user must reach it, past closed folders and those that sessions do not see.
        SYNTHESIS_TEST_CLAUDE=/var/lib/synthesis-test/claude
        mkdir -p -m 755 /var/lib/synthesis-test
        cmp -s "$CLAUDE" "$SYNTHESIS_TEST_CLAUDE" || cp -L "$CLAUDE" "$SYNTHESIS_TEST_CLAUDE"
    fi
    export SYNTHESIS_TEST_CLAUDE
fi
official_clients || echo "SKIPPED: the official clients could not be installed" >&2
schemathesis_tool || echo "SKIPPED: schemathesis could not be installed" >&2

# Without these the tests that boot a systemd of their own say so, loudly; under CI they fail.
if [ "$(id -u)" = 0 ] && ! command -v systemd-nspawn >/dev/null 2>&1; then
    { apt-get -q update && apt-get -qy install --no-install-recommends systemd-container dbus; } >/dev/null ||
        echo "SKIPPED: systemd-container could not be installed" >&2
fi

cargo build --locked --workspace
cargo test --locked --workspace --lib --bins --tests
