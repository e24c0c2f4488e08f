#!/bin/sh
# make install, make uninstall.
#
#   PREFIX   where programs go, /usr/local
#   DESTDIR  a stage below which all of it is laid out, and then nothing of the machine is touched
#   BIN      a folder of built programs; without it they are built
#
# The table below is the one list of what is installed: uninstall removes exactly that.
set -eu
verb=${1:?install, uninstall or list}
cd "$(dirname "$0")/../.."
PREFIX=${PREFIX:-/usr/local}
DESTDIR=${DESTDIR:-}

fail() {
    echo "make $verb: $*" >&2
    exit 1
}

# It is written into units.
case $PREFIX in
/*[!A-Za-z0-9._/+-]* | *..* | */) fail "PREFIX=$PREFIX is no plain absolute path" ;;
/*) ;;
*) fail "PREFIX=$PREFIX is no absolute path" ;;
esac
libexec=$PREFIX/libexec/synthesis
# systemd looks for units, users and the catalog in these alone.
case $PREFIX in
/usr) lib=/usr/lib ;;
*) lib=/usr/local/lib ;;
esac

# kind source destination: a program, a file of text, one with paths to fill in, a configuration
# that is never overwritten, a symbolic link.
table() {
    for program in frontd spawnd launch channel; do
        echo "program $program $libexec/$program"
    done
    echo "script systemd/packaging/synthesis-login $PREFIX/bin/synthesis-login"
    for daemon in frontd spawnd; do
        echo "link ../libexec/synthesis/$daemon $PREFIX/sbin/$daemon"
    done
    # For everybody: status, sessions, stop.
    echo "link ../libexec/synthesis/frontd $PREFIX/bin/frontd"
    for unit in systemd/*.service systemd/*.socket systemd/*.slice; do
        echo "unit $unit $lib/systemd/system/${unit##*/}"
    done
    echo "text systemd/sysusers.conf $lib/sysusers.d/synthesis.conf"
    echo "text systemd/tmpfiles.conf $lib/tmpfiles.d/synthesis.conf"
    echo "text systemd/synthesis.catalog $lib/systemd/catalog/synthesis.catalog"
    for page in docs/man/*.[58]; do
        [ ! -f "$page" ] || echo "text $page $PREFIX/share/man/man${page##*.}/${page##*/}"
    done
    for page in docs/*.md; do
        echo "text $page $PREFIX/share/doc/synthesis/${page##*/}"
    done
    for config in frontd.toml spawnd.toml; do
        echo "config systemd/$config /etc/synthesis/$config"
    done
}

# Beside its place and then renamed: whoever starts the program meanwhile gets the old one or the new
# one, and one that runs keeps its own.
put() {
    mode=$1 from=$2 to=$DESTDIR$3
    mkdir -p "$(dirname "$to")"
    install -m "$mode" "$from" "$to.new"
    mv -f "$to.new" "$to"
}

# The machine itself, not a stage of it.
on_the_machine() { [ -z "$DESTDIR" ]; }
systemd_runs() { on_the_machine && [ -d /run/systemd/system ]; }

build() {
    BIN=${CARGO_TARGET_DIR:-target}/release
    if command -v cargo >/dev/null 2>&1; then
        # spawnd alone: another crate's features are not for what root runs.
        cargo build --locked --release -p spawnd
        cargo build --locked --release -p frontd -p channel
    fi
}

put_all() {
    table | while read -r kind from to; do
        case $kind in
        program)
            [ -x "$BIN/$from" ] || fail "$BIN/$from is not built"
            put 755 "$BIN/$from" "$to"
            ;;
        script) put 755 "$from" "$to" ;;
        text) put 644 "$from" "$to" ;;
        unit)
            filled=$(mktemp)
            sed "s,/usr/libexec/synthesis,$libexec,g" "$from" >"$filled"
            put 644 "$filled" "$to"
            rm -f "$filled"
            ;;
        config)
            if [ -e "$DESTDIR$to" ] || [ -L "$DESTDIR$to" ]; then
                echo "$to is kept as it is"
            else
                put 644 "$from" "$to"
            fi
            ;;
        link)
            mkdir -p "$(dirname "$DESTDIR$to")"
            ln -sfn "$from" "$DESTDIR$to"
            ;;
        esac
    done
}

case $verb in
list)
    table
    ;;
install)
    if on_the_machine && [ "$(id -u)" != 0 ]; then
        fail "only root can install into /; DESTDIR=FOLDER lays a stage out"
    fi
    umask 022
    [ -n "${BIN:-}" ] || build
    put_all
    on_the_machine || exit 0
    systemd-sysusers "$lib/sysusers.d/synthesis.conf"
    systemd-tmpfiles --create "$lib/tmpfiles.d/synthesis.conf"
    journalctl --update-catalog
    if systemd_runs; then
        systemctl daemon-reload
        # An upgrade: sessions and their runs go on, the sockets stay.
        systemctl try-restart synthesis-spawnd.service synthesis-frontd.service
    fi
    echo "installed. To serve: systemctl enable --now synthesis-spawnd.socket synthesis-frontd.socket"
    ;;
uninstall)
    if systemd_runs; then
        # Sockets first, that nobody wakes a service again; spawnd's stop ends every session.
        systemctl disable --now synthesis-frontd.socket synthesis-bridge.socket synthesis-frontd.service \
            synthesis-spawnd.socket synthesis-spawnd.service synthesis-sessions.slice 2>/dev/null || true
        systemctl stop synthesis-frontd.service synthesis-spawnd.service synthesis-sessions.slice || true
    fi
    table | while read -r kind _ to; do
        [ "$kind" = config ] || rm -f "$DESTDIR$to"
    done
    # Folders that may be ours alone; in any other something lies.
    for folder in "$libexec" "$PREFIX/share/doc/synthesis" "$PREFIX/share/doc" "$PREFIX/share/man/man5" \
        "$PREFIX/share/man/man8" "$lib/systemd/system" "$lib/systemd/catalog" "$lib/systemd" \
        "$lib/sysusers.d" "$lib/tmpfiles.d"; do
        rmdir "$DESTDIR$folder" 2>/dev/null || true
    done
    if on_the_machine; then
        journalctl --update-catalog
        ! systemd_runs || systemctl daemon-reload
    fi
    echo "uninstalled. Kept: ${DESTDIR}/etc/synthesis, ${DESTDIR}/var/lib/synthesis, the user synthesis and the group synthesis-users"
    ;;
*)
    fail "what is $verb?"
    ;;
esac
