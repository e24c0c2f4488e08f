# Each target is one or two lines; what it takes longer to say lives in tests/scripts.
.PHONY: run demo test check bench build release install uninstall deb

build:
	cargo build --workspace

release:
	cargo build --workspace --release

# The main job: serve the calling user; installs the pinned CLI below target/ when there is none.
run: build
	sh tests/scripts/run.sh

# The real CLI against a mock of the model's service: no account needed.
demo: build
	sh tests/scripts/demo.sh

test:
	sh tests/scripts/test.sh

check:
	sh tests/scripts/check.sh

bench: release
	sh tests/scripts/bench.sh

# PREFIX (/usr/local), DESTDIR for a stage, BIN for programs built elsewhere.
install:
	sh systemd/packaging/install.sh install

uninstall:
	sh systemd/packaging/install.sh uninstall

# A Debian package below target/debian; cargo-deb is installed below target/tools when it is missing.
deb:
	sh systemd/packaging/deb.sh
