# Thin: the work is in scripts/, which need no make.
all:
	scripts/deps && scripts/build
demo:
	scripts/demo
check:
	scripts/check
bench: all
	bench/pause
install: all
	meson install -C build/release --no-rebuild
.PHONY: all demo check bench install
