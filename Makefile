# SPDX-License-Identifier: Apache-2.0
# A short front for CMake + Ninja and the scripts; a bare Debian calls the scripts by name.
BUILD ?= build

.PHONY: all demo test check tsan fuzz bench install format clean
all:
	@sh scripts/setup.sh build
demo:
	@sh scripts/demo.sh
test:
	@sh scripts/test.sh
check:
	@sh scripts/check.sh
tsan:
	@sh scripts/tsan.sh
fuzz:
	@sh scripts/fuzz.sh
bench:
	@sh bench/compare/run.sh
install: all
	cmake --install $(BUILD) $(if $(PREFIX),--prefix $(PREFIX))
format:
	find bench cmake include src tests -name '*.[ch]' -exec clang-format -i {} +
clean:
	rm -rf $(BUILD) build-*
