// SPDX-License-Identifier: Apache-2.0
/*
 * testguest: a guest of a few hundred lines, for tests of the VMM that need no operating system.
 *
 * The first word of its command line says what it does, "key=number" words follow:
 *
 *   hello                       a line on the serial port
 *   string count=               as many bytes (up to 64) by REP INSB, and back by REP OUTSB
 *   read  addr= size= count=    MMIO reads; ends with the last value
 *   write addr= size= count= value=   MMIO writes
 *   out   port= count=          bytes written to a port
 *   doorbell addr= flag= count=  writes to addr, each after the 32-bit word at flag says the number of the last
 *   smp cpus=                   starts the other processors; ends with how many counted
 *   topology cpus=              every processor writes its place (see report_place()); ends as smp
 *   irq count= vector=          waits for messages; ends with how many came
 *   intx pin= count= vector=    the same for a level-triggered pin of the I/O APIC
 *   reset                       through port 0xcf9
 *   triple                      a triple fault
 *   ud                          an instruction that does not exist, caught
 *   chaos seed= count=          reads and writes everywhere at random, then a reset (chaos.c)
 *   gpu packed=                 drives a vGPU's display (gpu.c)
 *
 * With "mark=1", read, write and out first write to the test device's offset 8; with "flag=ADDRESS", irq
 * keeps how many interrupts came in the word there: both are for measurements (tests/bench).
 *
 * With "ring=3", read, write, doorbell, irq and intx do it in ring 3, which runs natively even where ring 0 is
 * emulated. It says "ready" on the serial port before it waits for interrupts, and ends by writing a number to
 * the test device (docs/memory-map.md), which powers the machine off. 0xdead: an exception; 0xbad: a
 * command line that it does not know.
 *
 * Everything here must be an instruction that KVM emulates: no SSE, no x87, no INT n.
 */
#include "guest-drivers/testguest/testguest.h"

#define PORT_SERIAL 0x3f8
#define TRAMPOLINE  0x8000u
#define CODE64	    0x18
#define USER_DATA   0x23
#define USER_CODE   0x2b
#define TSS	    0x30
#define PORTS	    0x400u /* that ring 3 may have */

#define LAPIC_SVR    0xf0
#define LAPIC_ICR    0x300
#define LAPIC_ICR_HI 0x310
#define ICR_INIT     0x4500u /* INIT, asserted */
#define ICR_STARTUP  0x4600u
#define ICR_OTHERS   (3u << 18) /* all but the sender */
#define ICR_PENDING  (1u << 12)

#define RESULT_EXCEPTION 0xdeadu
#define RESULT_UNKNOWN	 0xbadu

struct start_info {
	uint32_t magic, version, flags, modules;
	uint64_t modules_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
	uint32_t memmap_entries, reserved;
};
#define START_INFO_MAGIC 0x336ec578u

struct gate {
	uint16_t offset_low, selector;
	uint8_t ist, type;
	uint16_t offset_middle;
	uint32_t offset_high, reserved;
};

struct table_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

/* Only the stack for interrupts out of ring 3 is of use. */
struct task_state {
	uint32_t reserved;
	uint32_t rsp0_low, rsp0_high;
	uint32_t unused[22];
	uint16_t reserved2, ports_at;
	uint8_t ports[PORTS / 8 + 1]; /* 0: ring 3 may use it */
};

struct interrupt_frame;

extern const char ap_trampoline[];
extern const uint32_t ap_trampoline_size;
extern uint64_t gdt_tss[2];
void testguest_main(const struct start_info *info);
void testguest_ap(void);

static struct gate idt[256] __attribute__((aligned(16)));
static struct task_state task;
static char interrupt_stack[8192] __attribute__((aligned(16)));
static int user; /* in ring 3 by now */
static volatile uint32_t interrupts, processors;
static volatile uint32_t *interrupts_flag; /* a copy for who watches from outside */
static volatile uint32_t expect_exception;
static volatile uint32_t tell_places;

/* ---- the machine ------------------------------------------------------------------------- */

void print(const char *text)
{
	for (; *text; text++) {
		while (!(inb(PORT_SERIAL + 5) & 0x20))
			;
		outb(PORT_SERIAL, (uint8_t)*text);
	}
}

static void __attribute__((noreturn)) finish(uint32_t value)
{
	write32(TEST_DEVICE, value);
	for (;;)
		__asm__ volatile("cli; hlt");
}

/* ---- interrupts -------------------------------------------------------------------------- */

__attribute__((interrupt)) static void on_interrupt(struct interrupt_frame *frame)
{
	interrupts++;
	if (interrupts_flag)
		*interrupts_flag = interrupts;
	end_of_interrupt();
}

__attribute__((interrupt)) static void on_spurious(struct interrupt_frame *frame)
{
}

static void on_exception(void)
{
	if (!expect_exception && !user)
		print("testguest: exception\n");
	finish(expect_exception ? expect_exception : RESULT_EXCEPTION);
}

void set_gate(unsigned vector, uint64_t to)
{
	idt[vector] = (struct gate){
		.offset_low = (uint16_t)to,
		.selector = CODE64,
		.type = 0x8e, /* interrupt gate, present */
		.offset_middle = (uint16_t)(to >> 16),
		.offset_high = (uint32_t)(to >> 32),
	};
}

static void load_idt(uint16_t limit)
{
	struct table_pointer pointer = { limit, (uint64_t)idt };

	__asm__ volatile("lidt %0" : : "m"(pointer));
}

void enable_interrupts(void)
{
	write32(LAPIC + LAPIC_SVR, 0x1ff); /* enabled, spurious vector 0xff */
}

static void load_task(void)
{
	uint64_t base = (uint64_t)&task,
		 top = (uint64_t)(interrupt_stack + sizeof(interrupt_stack));

	for (unsigned i = 0; i < sizeof(task.ports); i++)
		task.ports[i] = i == PORT_SERIAL / 8 ? 0 : 0xff;
	task.ports_at = __builtin_offsetof(struct task_state, ports);
	task.rsp0_low = (uint32_t)top;
	task.rsp0_high = (uint32_t)(top >> 32);
	gdt_tss[0] = (sizeof(task) - 1) | (base & 0xffffff) << 16 | 0x89ull << 40 |
		     (base >> 24 & 0xff) << 56;
	gdt_tss[1] = base >> 32;
	__asm__ volatile("ltr %w0" : : "r"(TSS));
}

void enter_ring3(uint64_t rflags)
{
	user = 1;
	__asm__ volatile("movq %%rsp, %%rax\n\t"
			 "pushq %0\n\t"
			 "pushq %%rax\n\t"
			 "pushq %2\n\t"
			 "pushq %1\n\t"
			 "leaq 1f(%%rip), %%rax\n\t"
			 "pushq %%rax\n\t"
			 "iretq\n"
			 "1:"
			 :
			 : "i"(USER_DATA), "i"(USER_CODE), "r"(rflags)
			 : "rax", "memory", "cc");
}

/* HLT between interrupts: STI takes effect after it, so none is missed. */
static void wait_for_interrupts(uint32_t count, int ring3)
{
	print("ready\n");
	if (ring3) {
		enter_ring3(0x202);
		while (interrupts < count)
			__asm__ volatile("pause");
		return;
	}
	for (;;) {
		__asm__ volatile("cli");
		if (interrupts >= count)
			return;
		__asm__ volatile("sti; hlt" : : : "memory");
	}
}

/* ---- the command line -------------------------------------------------------------------- */

static const char *skip(const char *text, const char *prefix)
{
	while (*prefix)
		if (*text++ != *prefix++)
			return 0;
	return text;
}

static int is(const char *cmdline, const char *word)
{
	const char *end = skip(cmdline, word);

	return end && (*end == 0 || *end == ' ');
}

uint64_t number(const char *cmdline, const char *key, uint64_t otherwise)
{
	const char *at = cmdline;

	while (*at) {
		const char *digits = skip(at, key);
		uint64_t value = 0;
		unsigned base = 10;

		if (!digits || *digits != '=') {
			while (*at && *at != ' ')
				at++;
			at += *at == ' ';
			continue;
		}
		digits++;
		if (digits[0] == '0' && digits[1] == 'x') {
			base = 16;
			digits += 2;
		}
		for (;; digits++) {
			unsigned d = (unsigned char)*digits;

			if (d >= '0' && d <= '9')
				d -= '0';
			else if (base == 16 && d >= 'a' && d <= 'f')
				d -= 'a' - 10;
			else
				return value;
			value = value * base + d;
		}
	}
	return otherwise;
}

static int in_ring3(const char *cmdline)
{
	return number(cmdline, "ring", 0) == 3;
}

/* ---- what it can do ---------------------------------------------------------------------- */

static uint32_t do_hello(const char *cmdline)
{
	print("testguest: hello\n");
	return 0;
}

static uint32_t do_string(const char *cmdline)
{
	static char text[64];
	uint64_t wanted = number(cmdline, "count", 1);
	uint64_t count = wanted <= sizeof(text) ? wanted : sizeof(text);
	uint64_t left = count;
	char *at = text;

	__asm__ volatile("rep insb" : "+D"(at), "+c"(left) : "d"(PORT_SERIAL) : "memory");
	at = text;
	__asm__ volatile("rep outsb" : "+S"(at), "+c"(count) : "d"(PORT_SERIAL) : "memory");
	return 0;
}

/* "Now it begins", for who measures. */
static void mark(const char *cmdline)
{
	if (number(cmdline, "mark", 0))
		write32(TEST_DEVICE + 8, 1);
}

static uint32_t do_read(const char *cmdline)
{
	uint64_t address = number(cmdline, "addr", TEST_DEVICE);
	uint64_t size = number(cmdline, "size", 4);
	uint64_t count = number(cmdline, "count", 1);
	uint64_t value = 0;

	if (in_ring3(cmdline))
		enter_ring3(0x202);
	mark(cmdline);
	while (count-- > 0)
		value = read_sized(address, size);
	return (uint32_t)value;
}

static uint32_t do_write(const char *cmdline)
{
	uint64_t address = number(cmdline, "addr", TEST_DEVICE);
	uint64_t size = number(cmdline, "size", 4);
	uint64_t count = number(cmdline, "count", 1);
	uint64_t value = number(cmdline, "value", 0);

	if (in_ring3(cmdline))
		enter_ring3(0x202);
	mark(cmdline);
	while (count-- > 0)
		write_sized(address, size, value);
	return 0;
}

static uint32_t do_out(const char *cmdline)
{
	uint16_t port = (uint16_t)number(cmdline, "port", PORT_SERIAL);
	uint64_t count = number(cmdline, "count", 1);

	mark(cmdline);
	while (count-- > 0)
		outb(port, 0);
	return 0;
}

static uint32_t do_doorbell(const char *cmdline)
{
	uint64_t address = number(cmdline, "addr", TEST_DEVICE + 16);
	volatile uint32_t *flag = (volatile uint32_t *)number(cmdline, "flag", 0);
	uint32_t count = (uint32_t)number(cmdline, "count", 1);

	if (in_ring3(cmdline))
		enter_ring3(0x202);
	for (uint32_t i = 1; i <= count; i++) {
		write32(address, i);
		while (flag && *flag != i)
			__asm__ volatile("pause");
	}
	return 0;
}

static void cpuid(uint32_t leaf, uint32_t index, uint32_t out[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3])
			 : "a"(leaf), "c"(index));
}

/*
 * 64 bits to the test device's offset 8: the x2APIC ID (leaf 0xb), from bit 32 the APIC ID of leaf 1, from
 * bit 40 and 44 how many bits of it are below the core and below the socket.
 */
static void report_place(void)
{
	uint32_t one[4], thread[4], core[4];

	cpuid(1, 0, one);
	cpuid(0xb, 0, thread);
	cpuid(0xb, 1, core);
	write_sized(TEST_DEVICE + 8, 8,
		    core[3] | (uint64_t)(one[1] >> 24) << 32 | (uint64_t)(thread[0] & 0xf) << 40 |
			    (uint64_t)(core[0] & 0xf) << 44);
}

static void (*volatile other_processor)(void);

void testguest_ap(void)
{
	other_processor();
}

static void count_processor(void)
{
	if (tell_places)
		report_place();
	__asm__ volatile("lock incl %0" : "+m"(processors));
}

static void send_ipi(uint32_t command)
{
	write32(LAPIC + LAPIC_ICR_HI, 0);
	write32(LAPIC + LAPIC_ICR, command);
	while (read32(LAPIC + LAPIC_ICR) & ICR_PENDING)
		;
}

void start_processors(void (*run)(void))
{
	volatile char *to = (volatile char *)(uint64_t)TRAMPOLINE;

	other_processor = run;
	for (uint32_t i = 0; i < ap_trampoline_size; i++)
		to[i] = ap_trampoline[i];
	write32(LAPIC + LAPIC_SVR, 0x1ff);
	send_ipi(ICR_INIT | ICR_OTHERS);
	send_ipi(ICR_STARTUP | ICR_OTHERS | TRAMPOLINE >> 12);
}

static uint32_t do_smp(const char *cmdline)
{
	uint32_t others = (uint32_t)number(cmdline, "cpus", 2) - 1;

	start_processors(count_processor);
	while (processors < others)
		__asm__ volatile("pause");
	return processors + 1;
}

static uint32_t do_topology(const char *cmdline)
{
	tell_places = 1;
	report_place();
	return do_smp(cmdline);
}

static uint32_t do_irq(const char *cmdline)
{
	interrupts_flag = (volatile uint32_t *)number(cmdline, "flag", 0);
	set_gate((uint8_t)number(cmdline, "vector", 0x40), (uint64_t)on_interrupt);
	enable_interrupts();
	wait_for_interrupts((uint32_t)number(cmdline, "count", 1), in_ring3(cmdline));
	return interrupts;
}

static uint32_t do_intx(const char *cmdline)
{
	uint32_t pin = (uint32_t)number(cmdline, "pin", 16);
	uint32_t vector = (uint32_t)number(cmdline, "vector", 0x41);

	set_gate((uint8_t)vector, (uint64_t)on_interrupt);
	enable_interrupts();
	write32(IOAPIC, 0x11 + 2 * pin); /* to local APIC 0 */
	write32(IOAPIC + 0x10, 0);
	write32(IOAPIC, 0x10 + 2 * pin);
	write32(IOAPIC + 0x10, vector | 1u << 15); /* level, active high, fixed, not masked */
	wait_for_interrupts((uint32_t)number(cmdline, "count", 1), in_ring3(cmdline));
	return interrupts;
}

static uint32_t do_reset(const char *cmdline)
{
	outb(PORT_RESET, 0x6);
	return RESULT_UNKNOWN;
}

static uint32_t do_triple(const char *cmdline)
{
	load_idt(0);
	__asm__ volatile("ud2");
	return RESULT_UNKNOWN;
}

static uint32_t do_ud(const char *cmdline)
{
	expect_exception = 6;
	__asm__ volatile("ud2");
	return RESULT_UNKNOWN;
}

static const struct {
	const char *word;
	uint32_t (*run)(const char *cmdline);
} modes[] = {
	{ "hello", do_hello },	     { "string", do_string },	  { "read", do_read },
	{ "write", do_write },	     { "smp", do_smp },		  { "irq", do_irq },
	{ "intx", do_intx },	     { "reset", do_reset },	  { "triple", do_triple },
	{ "out", do_out },	     { "doorbell", do_doorbell }, { "ud", do_ud },
	{ "topology", do_topology }, { "chaos", do_chaos },	  { "gpu", do_gpu },
};

void testguest_main(const struct start_info *info)
{
	const char *cmdline = "";

	for (unsigned i = 0; i < 32; i++)
		set_gate(i, (uint64_t)on_exception);
	set_gate(0xff, (uint64_t)on_spurious);
	load_idt(sizeof(idt) - 1);
	load_task();
	if (info->magic == START_INFO_MAGIC && info->cmdline_gpa)
		cmdline = (const char *)info->cmdline_gpa;
	for (unsigned i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (is(cmdline, modes[i].word))
			finish(modes[i].run(cmdline));
	print("testguest: unknown: ");
	print(cmdline);
	print("\n");
	finish(RESULT_UNKNOWN);
}
