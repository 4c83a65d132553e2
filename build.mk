# The build proper: one static library a folder, programs, tests. Included by Makefile.

ifeq ($(origin CC),default)
CC := gcc
endif
PREFIX ?= /usr/local
BUILD := build/$(if $(FUZZ),fuzz,$(notdir $(CC))$(if $(SAN),-san))
VERSION := 0.1
# V=1 shows whole commands.
Q := $(if $(V),,@)
show = $(if $(V),,@printf '  %-7s %s\n' $(1) $@)

LIBS := base iommu vfio vgpu-sched mdev hypervisor-glue instances
PACKAGES := libsystemd libpci liburcu-memb liburcu-cds jansson liburing libseccomp libcap-ng libcyaml yaml-0.1 libmicrohttpd vulkan virglrenderer pixman-1 libpng \
	libvncserver libvncclient xkbcommon gnutls sqlite3 ncursesw libdrm libcurl
comma := ,
SANITIZERS := $(if $(SAN)$(FUZZ),-fsanitize=address$(comma)undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined)
CFLAGS_ALL := -std=gnu11 -O2 -g -I. -I$(BUILD)/generated -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DDIVVY_VERSION='"$(VERSION)"' \
	-fPIC -pthread -fstack-protector-strong -fno-common -fvisibility=hidden \
	-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
	-Wpointer-arith -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wno-format-nonliteral \
	-Wno-unused-parameter -Wno-missing-field-initializers \
	$(SANITIZERS) $(if $(FUZZ),-fsanitize=fuzzer-no-link) \
	$(shell pkg-config --cflags $(PACKAGES)) $(CFLAGS)
# A program gets only the libraries it calls: the VMM needs none of the simulator's.
LDLIBS_ALL := -Wl,--as-needed $(shell pkg-config --libs $(PACKAGES)) -lm -pthread

# main.c (and daemon/main.c) is a program; every other .c of a folder and of its folders goes into its library.
srcs = $(filter-out $(1)/main.c $(1)/daemon/main.c,$(wildcard $(1)/*.c $(1)/*/*.c))
objs = $(patsubst %.c,$(BUILD)/%.o,$(1))
ARCHIVES := $(foreach l,$(LIBS),$(if $(call srcs,$(l)),$(BUILD)/$(l)/lib$(l).a))
# Link order: users before what they use.
LINK := $(foreach l,instances hypervisor-glue mdev vgpu-sched vfio iommu base,$(filter $(BUILD)/$(l)/%,$(ARCHIVES)))

PROGRAMS := $(if $(wildcard hypervisor-glue/main.c),$(BUILD)/divvy-vmm) $(if $(wildcard mdev/main.c),$(BUILD)/divvy-vgpu) $(if $(wildcard instances/main.c),$(BUILD)/divvy) $(if $(wildcard instances/daemon/main.c),$(BUILD)/divvyd)
programs_of = $(patsubst %.c,$(BUILD)/%,$(wildcard $(1)))
UNIT_TESTS := $(call programs_of,tests/unit/test_*.c)
BENCHES := $(call programs_of,tests/bench/bench_*.c)
RIG_PROGRAMS := $(call programs_of,tests/rig/*.c tests/guest/*.c)
VKLOAD := $(BUILD)/tests/live/vkload
FUZZERS := $(call programs_of,tests/fuzz/fuzz_*.c)
LAYER := $(BUILD)/libVkLayer_divvy_vgpu.so
LAYER_MANIFESTS := $(BUILD)/layers/VkLayer_divvy_vgpu.json $(BUILD)/layers/implicit/VkLayer_divvy_vgpu.json
VK_XML ?= /usr/share/vulkan/registry/vk.xml

.DEFAULT_GOAL := all
.PHONY: all unit fuzz clean install check bench demo shell deps
.SECONDARY:
all: $(ARCHIVES) $(PROGRAMS) $(LAYER) $(LAYER_MANIFESTS) $(UNIT_TESTS) $(BENCHES) $(RIG_PROGRAMS) $(VKLOAD)

-include guest-drivers/testguest/testguest.mk

$(BUILD)/%.o: %.c build.mk
	@mkdir -p $(@D)
	$(call show,CC)
	$(Q)$(CC) $(CFLAGS_ALL) -MMD -MP -c $< -o $@

# The folders themselves are prerequisites: a source file that goes away makes a new archive.
define archive_rule
$(BUILD)/$(1)/lib$(1).a: $(call objs,$(call srcs,$(1))) $(1) $(patsubst %/,%,$(wildcard $(1)/*/))
	@rm -f $$@
	$$(call show,AR)
	$$(Q)ar rcs $$@ $$(filter %.o,$$^)
endef
$(foreach l,$(LIBS),$(eval $(call archive_rule,$(l))))

link = $(CC) $(CFLAGS_ALL) $(LDFLAGS) $(1) $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS_ALL) $(2) -o $@

# The Vulkan layer (docs/layer.md) exports one function. A sanitizer's symbols come from the program.
$(BUILD)/generated/chain_sizes.inc: vgpu-sched/layer/chain_sizes.py $(VK_XML)
	@mkdir -p $(@D)
	$(call show,GEN)
	$(Q)python3 $^ > $@.new && mv $@.new $@
# The API's document, as the daemon shows it.
$(BUILD)/generated/generated_openapi.h: instances/daemon/openapi.py instances/openapi.yaml
	@mkdir -p $(@D)
	$(call show,GEN)
	$(Q)python3 $^ > $@.new && mv $@.new $@
$(BUILD)/instances/daemon/api_node.o: $(BUILD)/generated/generated_openapi.h
$(BUILD)/vgpu-sched/layer/chain.o: $(BUILD)/generated/chain_sizes.inc
$(LAYER): $(call objs,$(wildcard vgpu-sched/layer/*.c)) $(BUILD)/vgpu-sched/libvgpu-sched.a $(BUILD)/base/libbase.a
	$(call show,LINK)
	$(Q)$(call link,-shared $(if $(SANITIZERS),,-Wl$(comma)-z$(comma)defs))
$(LAYER_MANIFESTS): vgpu-sched/layer/VkLayer_divvy_vgpu.json.in build.mk
	@mkdir -p $(@D)
	$(call show,GEN)
	$(Q)sed 's|@LIBRARY@|$(LIBRARY)|; s|@VULKAN@|$(shell pkg-config --modversion vulkan)|; s|@IMPLICIT@|$(IMPLICIT)|' $< > $@
$(BUILD)/layers/VkLayer_divvy_vgpu.json: LIBRARY := ../libVkLayer_divvy_vgpu.so
$(BUILD)/layers/implicit/VkLayer_divvy_vgpu.json: LIBRARY := ../../libVkLayer_divvy_vgpu.so
# The loader compares values, so that the token cannot be what enables it; and insists on a way to disable it.
$(BUILD)/layers/implicit/VkLayer_divvy_vgpu.json: IMPLICIT := \n        "enable_environment": { "DIVVY_VGPU": "1" },\n        "disable_environment": { "DIVVY_VGPU_DISABLE": "1" },

$(BUILD)/divvy-vmm: $(BUILD)/hypervisor-glue/main.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link)
$(BUILD)/divvy-vgpu: $(BUILD)/mdev/main.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link)
$(BUILD)/divvy: $(BUILD)/instances/main.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link)
$(BUILD)/divvyd: $(BUILD)/instances/daemon/main.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link)
$(BUILD)/tests/unit/%: $(BUILD)/tests/unit/%.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link,$(WRAP:%=-Wl$(comma)--wrap=%),-lcmocka)
# A driver that is made up.
$(filter $(BUILD)/tests/unit/test_layer_%,$(UNIT_TESTS)): $(call objs,$(wildcard tests/unit/fake_*.c))
$(BUILD)/tests/unit/test_layer_chain: WRAP := calloc
$(BUILD)/tests/unit/test_layer_library: $(LAYER) $(LAYER_MANIFESTS)
# They run the programs.
$(addprefix $(BUILD)/tests/unit/,test_cli test_completion test_cli_run test_daemon_api test_daemon_disks test_daemon_tls test_daemon_tunnel): $(PROGRAMS)
$(BUILD)/tests/unit/test_cli_run: $(LAYER) $(LAYER_MANIFESTS)
$(BUILD)/tests/unit/test_chaos: $(BUILD)/divvy-vmm $(BUILD)/tests/rig/vfio_user_server
$(BUILD)/tests/unit/test_machine_gpu: $(BUILD)/divvy-vmm $(BUILD)/divvy-vgpu
$(BUILD)/tests/unit/test_daemon_real: | $(PROGRAMS) $(TESTGUEST) $(LAYER) $(LAYER_MANIFESTS)
# A Vulkan program of the live tests, as a guest's.
$(addprefix $(BUILD)/tests/unit/,test_virtio_gpu_vulkan test_render_registered): | $(VKLOAD) $(BUILD)/tests/unit/vtest_preload.so
$(BUILD)/tests/unit/test_vgpu_start: | $(BUILD)/divvy $(BUILD)/divvy-vgpu $(LAYER) $(LAYER_MANIFESTS)
# Loaded into programs that know nothing of sanitizers.
$(BUILD)/tests/unit/vtest_preload.so: tests/unit/vtest_preload.c
	@mkdir -p $(@D)
	$(call show,LINK)
	$(Q)$(CC) -std=gnu11 -O2 -D_GNU_SOURCE -Wall -Wextra -Werror -shared -fPIC -o $@ $<
# The scheduler allocates at creation only.
$(BUILD)/tests/unit/test_sched_core: WRAP := malloc calloc realloc aligned_alloc
# The calls that tests/unit/faults.h makes fail.
$(addprefix $(BUILD)/tests/unit/,test_faults test_reset test_vfio_open): WRAP := malloc calloc realloc aligned_alloc strdup eventfd memfd_create \
	ftruncate64 fstat64 fstatfs64 pipe2 socket connect setsockopt sendmsg recvmsg read pread64 pwrite64 readlinkat \
	opendir fdopendir sigaction madvise pthread_create sd_event_new sd_event_add_io sd_event_add_signal \
	mmap64 munmap open64 openat64 fcntl64 close ioctl
# The kernel's mediated devices of tests/unit/fake_mdev.h.
$(addprefix $(BUILD)/tests/unit/,test_daemon_slices test_daemon_crash test_daemon_api): WRAP := file_write
# Drivers that hang and crash.
$(BUILD)/tests/unit/test_node_vulkan: WRAP := launch_gpu_list
# The hook of tests/unit/vfio_user_server.h.
$(addprefix $(BUILD)/tests/unit/,test_faults test_machine_user test_vfio_user test_vfio_user_lies): WRAP += server_handle
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link,-fsanitize=fuzzer $(WRAP:%=-Wl$(comma)--wrap=%))
# Its time is the script's.
$(BUILD)/tests/fuzz/fuzz_arbiter: WRAP := monotonic_ns
# Benchmarks use the tests' driver and machine.
$(BENCHES): $(BUILD)/%: $(BUILD)/%.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link,,-lcmocka)
$(RIG_PROGRAMS): $(BUILD)/%: $(BUILD)/%.o $(LINK)
	$(call show,LINK)
	$(Q)$(call link)

# The live tests' plain Vulkan program; its shaders become arrays.
LIVE_OBJS := $(call objs,$(wildcard tests/live/*.c))
LIVE_SHADERS := $(patsubst %,$(BUILD)/%.h,$(wildcard tests/live/*.comp tests/live/*.vert tests/live/*.frag))
$(VKLOAD): $(LIVE_OBJS) $(filter %/libbase.a,$(LINK))
	$(call show,LINK)
	$(Q)$(call link,,$(shell pkg-config --libs vulkan))
$(LIVE_OBJS): CFLAGS_ALL += -I$(BUILD)
$(LIVE_OBJS): | $(LIVE_SHADERS)
$(BUILD)/tests/live/%.h: tests/live/%
	@mkdir -p $(@D)
	$(call show,GLSL)
	$(Q)glslangValidator --quiet -V --vn $(subst .,_,$(*F)) -o $@ $<

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

# For clang-tidy and editors.
build/compile_flags.txt: build.mk
	@mkdir -p $(@D)
	@printf '%s\n' $(filter-out -W%,$(CFLAGS_ALL)) > $@

unit: $(UNIT_TESTS)
	@for t in $^; do $$t || exit 1; done

# Fuzz targets; FUZZ=1 CC=clang only (libFuzzer).
fuzz: $(FUZZERS)

# Man pages: divvy(1) is made from its table of verbs, the others' words are what the programs say of themselves.
MAN_PAGES := $(addprefix $(BUILD)/man/,divvy.1 $(patsubst dist/man/%.scd,%,$(wildcard dist/man/*.scd)))
.PHONY: man
man: $(MAN_PAGES)
$(BUILD)/man/divvy.1: $(BUILD)/divvy
	@mkdir -p $(@D)
	$(call show,MAN)
	$(Q)$< __manual | scdoc > $@.new && mv $@.new $@
$(BUILD)/man/%: dist/man/%.scd dist/man/help.awk $(PROGRAMS)
	@mkdir -p $(@D)
	$(call show,MAN)
	$(Q)if [ -x $(BUILD)/$(basename $*) ]; then $(BUILD)/$(basename $*) --help > $(BUILD)/man/$*.said && awk -f dist/man/help.awk $(BUILD)/man/$*.said > $(BUILD)/man/$*.help || exit 1; else : > $(BUILD)/man/$*.help; fi
	$(Q)sed -e '/^@HELP@$$/{r $(BUILD)/man/$*.help' -e 'd}' $< | scdoc > $@.new && mv $@.new $@

# What is installed. Folders of systemd are those it looks into below PREFIX (systemd.unit(5), sysusers.d(5), udev(7)).
.PHONY: programs deb
programs: $(PROGRAMS) $(LAYER) $(LAYER_MANIFESTS) $(MAN_PAGES)
SYSCONFDIR ?= /etc
SHARE = $(DESTDIR)$(PREFIX)/share
SYSTEM = $(DESTDIR)$(PREFIX)/lib
install: programs
	install -d $(DESTDIR)$(PREFIX)/bin $(SHARE)/doc/divvy $(SHARE)/divvy/scenarios $(SHARE)/divvy/types.d $(SYSTEM)/divvy/layers/implicit \
		$(SYSTEM)/systemd/system $(SYSTEM)/tmpfiles.d $(SYSTEM)/sysusers.d $(SYSTEM)/udev/rules.d \
		$(SHARE)/man/man1 $(SHARE)/man/man5 $(SHARE)/man/man8 $(SHARE)/bash-completion/completions $(SHARE)/zsh/vendor-completions \
		$(SHARE)/fish/vendor_completions.d $(DESTDIR)$(SYSCONFDIR)/divvy/types.d
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(LAYER) $(SYSTEM)/divvy
	for m in $(LAYER_MANIFESTS:$(BUILD)/%=%); do install -m 644 $(BUILD)/$$m $(SYSTEM)/divvy/$$m; done
	install -m 644 README.md $(wildcard docs/*.md) $(SHARE)/doc/divvy
	install -m 644 $(wildcard vgpu-sched/scenarios/*.yaml) $(SHARE)/divvy/scenarios
	install -m 644 $(wildcard instances/types.d/*.yaml) $(SHARE)/divvy/types.d
	for p in $(MAN_PAGES); do install -m 644 $$p $(SHARE)/man/man$${p##*.}; done
	$(BUILD)/divvy completion bash > $(SHARE)/bash-completion/completions/divvy
	$(BUILD)/divvy completion zsh > $(SHARE)/zsh/vendor-completions/_divvy
	$(BUILD)/divvy completion fish > $(SHARE)/fish/vendor_completions.d/divvy.fish
	for u in divvyd divvy-guests; do sed 's|@BINDIR@|$(PREFIX)/bin|' dist/$$u.service.in > $(SYSTEM)/systemd/system/$$u.service; done
	chmod 644 $(SYSTEM)/systemd/system/divvyd.service $(SYSTEM)/systemd/system/divvy-guests.service
	install -m 644 dist/divvy.tmpfiles $(SYSTEM)/tmpfiles.d/divvy.conf
	install -m 644 dist/divvy.sysusers $(SYSTEM)/sysusers.d/divvy.conf
	install -m 644 dist/60-divvy.rules $(SYSTEM)/udev/rules.d/60-divvy.rules
	[ -e $(DESTDIR)$(SYSCONFDIR)/divvy/divvyd.yaml ] || install -m 644 dist/divvyd.yaml $(DESTDIR)$(SYSCONFDIR)/divvy/divvyd.yaml

# Debian packages in build/deb, from what git knows; lintian looks at them.
deb:
	@dist/deb

# On Debian 13 and later the packages go onto the machine itself; in the host root they are there.
deps:
	@[ -n "$$DIVVY_IN_HOSTROOT" ] || tools/hostroot install

check: deps
	@tests/check

bench: deps
	@$(MAKE) -s CC=gcc all
	@tests/bench/run

demo: deps
	@$(MAKE) -s CC=gcc all
	@tests/rig/demo

shell: deps
	@bash

clean:
	rm -rf build
