#!/bin/sh
# The units: what systemd thinks of them, how exposed they are, and whether the journal's catalog
# explains every entry of the audit record.
set -eu
cd "$(dirname "$0")/../.."
failures=0

fail() {
    echo "check-units: $*" >&2
    failures=$((failures + 1))
}

ids=$(grep -oE '`[0-9a-f]{32}`' docs/audit.md | tr -d '`' | sort -u)
explained=$(sed -n 's/^-- \([0-9a-f]\{32\}\)$/\1/p' systemd/synthesis.catalog | sort)
[ -n "$ids" ] || fail "no MESSAGE_ID in docs/audit.md"
[ "$explained" = "$(echo "$explained" | uniq)" ] || fail "systemd/synthesis.catalog explains an id twice"
for id in $ids; do
    echo "$explained" | grep -qxF "$id" || fail "systemd/synthesis.catalog does not explain $id"
done

if ! command -v systemd-analyze >/dev/null 2>&1; then
    if [ "${CI:-}" = true ]; then
        fail "systemd-analyze is missing"
    else
        echo "SKIPPED: the units were not verified (no systemd-analyze)" >&2
    fi
else
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    # Where the units say, something must be executable.
    mkdir -p "$stage/libexec"
    for program in frontd spawnd; do
        printf '#!/bin/sh\n' >"$stage/libexec/$program"
        chmod 755 "$stage/libexec/$program"
    done
    for unit in systemd/*.service systemd/*.socket systemd/*.slice; do
        sed "s,/usr/libexec/synthesis,$stage/libexec," "$unit" >"$stage/${unit##*/}"
    done
    # Its status says nothing about unknown keys; a clean unit makes it print nothing.
    said=$(systemd-analyze verify --man=no "$stage"/synthesis-* 2>&1 | grep -F synthesis- || true)
    [ -z "$said" ] || fail "systemd-analyze verify: $said"
    # How exposed a unit may be, in tenths.
    for unit in frontd:15 spawnd:50; do
        name=synthesis-${unit%:*}.service
        if said=$(systemd-analyze security --no-pager --offline=yes --threshold="${unit#*:}" "$stage/$name" 2>&1); then
            echo "$said" | tail -1
        else
            fail "$name: $(echo "$said" | tail -1); at most ${unit#*:} tenths"
        fi
    done
fi

[ "$failures" -eq 0 ] || { echo "check-units: $failures faults" >&2; exit 1; }
