#!/bin/sh
# make deb: the package below target/debian.
#
#   BIN      a folder of built programs; without it they are built
#   VERSION  of the package; else frontd's and 1
#   OUT      where it goes, target/debian
#   FAST     anything: pack quickly, not tightly
set -eu
cd "$(dirname "$0")/../.."
# Pinned: what it makes of the metadata is part of the package.
cargo_deb=3.8.0
tools=$PWD/target/tools

if [ "$("$tools/bin/cargo-deb" --version 2>/dev/null)" != "cargo-deb $cargo_deb" ]; then
    echo "installing cargo-deb $cargo_deb below target/tools" >&2
    # Unoptimised: it is built in half a minute and packs as fast as it must.
    cargo install --quiet --debug --locked --root "$tools" --version "$cargo_deb" cargo-deb
fi

# frontd/Cargo.toml names what lies here.
stage=$PWD/target/deb
rm -rf "$stage"
DESTDIR=$stage PREFIX=/usr sh systemd/packaging/install.sh install
"$tools/bin/cargo-deb" deb --quiet --package frontd --no-build --no-strip --no-dbgsym \
    --output "${OUT:-target/debian}/" ${VERSION:+--deb-version "$VERSION"} ${FAST:+--fast}
