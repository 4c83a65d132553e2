# Divvy. `make` builds, `make check` tests, `make demo` shows, `make bench` measures; docs/building.md says the rest.
#
#   make CC=clang      build with clang             make SAN=1     with ASan and UBSan
#   make install DESTDIR=...    make deb            make shell     a shell where the tools are
#
# On a machine older than Debian 13 every target runs inside the host root (tools/hostroot).

MAKEFLAGS += --no-builtin-rules --no-print-directory
NEED_HOSTROOT := $(shell [ -n "$$DIVVY_IN_HOSTROOT" ] || ! tools/hostroot needed || echo yes)

ifeq ($(NEED_HOSTROOT),yes)
GOALS := $(or $(MAKECMDGOALS),all)
.PHONY: $(GOALS) enter
$(GOALS): enter
enter:
	@echo "make: this machine is older than Debian 13: working inside the host root $$(tools/hostroot path)"
	@tools/hostroot run $(MAKE) $(MAKEFLAGS_PASSED) $(MAKECMDGOALS) $(foreach v,$(if $(filter default,$(origin CC)),,CC) SAN DESTDIR PREFIX SYSCONFDIR J LKVM,$(if $($(v)),$(v)=$($(v))))
else
include build.mk
endif
