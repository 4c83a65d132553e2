// SPDX-License-Identifier: Apache-2.0
/*
 * The way in: a PVH ELF note names start32, which the VMM enters in 32-bit protected mode without
 * paging, EBX pointing at hvm_start_info (Xen, docs/misc/pvh.pandoc). From there to long mode with
 * the first 4 GiB mapped one to one in 2 MiB pages (for ring 3 too), since only long mode has an IRET
 * that an emulated ring 0 can run. Other processors come through ap_trampoline, which is copied below
 * 1 MiB.
 */
#define CR0_PE	  0x1
#define CR0_PG	  0x80000000
#define CR4_PAE	  0x20
#define EFER	  0xc0000080
#define EFER_LME  0x100
#define PAGE_RWU  0x7
#define PAGE_BIG  0x87
#define CODE32	  0x08
#define DATA	  0x10
#define CODE64	  0x18
#define TRAMPOLINE 0x8000

	.section .note.Xen, "a", @note
	.balign 4
	.long 4
	.long 4
	.long 18 /* XEN_ELFNOTE_PHYS32_ENTRY */
	.asciz "Xen"
	.long start32

	.section .text.start, "ax"
	.code32
	.globl start32
start32:
	cli
	cld
	movl %ebx, %ebp
	lgdt gdt_pointer

	/* PML4 and PDPT */
	movl $pdpt + PAGE_RWU, pml4
	movl $pds + PAGE_RWU, %eax
	movl $pdpt, %edi
	movl $4, %ecx
1:	movl %eax, (%edi)
	addl $4096, %eax
	addl $8, %edi
	loop 1b
	/* 4 x 512 pages of 2 MiB */
	movl $PAGE_BIG, %eax
	movl $pds, %edi
	movl $2048, %ecx
2:	movl %eax, (%edi)
	addl $0x200000, %eax
	addl $8, %edi
	loop 2b

	movl $stack_end, %esp
	movl $start64, %esi
	ljmp $CODE32, $long_mode

/* To long mode: %esi where to, %ebp the argument. PAE before LME, as every kernel does. */
long_mode:
	movl $DATA, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl %cr4, %eax
	orl $CR4_PAE, %eax
	movl %eax, %cr4
	movl $pml4, %eax
	movl %eax, %cr3
	movl $EFER, %ecx
	rdmsr
	orl $EFER_LME, %eax
	wrmsr
	movl %cr0, %eax
	orl $CR0_PG, %eax
	movl %eax, %cr0
	ljmp $CODE64, $jump64

	.code64
jump64:
	movl %esi, %eax
	movl %ebp, %edi
	jmp *%rax

start64:
	call testguest_main
3:	hlt
	jmp 3b

/* Another processor: its number decides its stack. */
	.code32
ap32:
	movl $DATA, %eax /* the limit is still real mode's */
	movl %eax, %ds
	movl $1, %ebp
	lock xaddl %ebp, ap_next
	cmpl $AP_MAX, %ebp
	ja 4f
	movl %ebp, %eax
	shll $12, %eax
	leal ap_stacks(%eax), %esp
	movl $ap64, %esi
	jmp long_mode
4:	hlt
	jmp 4b

	.code64
ap64:
	call testguest_ap
5:	cli
	hlt
	jmp 5b

	.code16
	.globl ap_trampoline
ap_trampoline:
	cli
	xorw %ax, %ax
	movw %ax, %ds
	lgdtl TRAMPOLINE + (ap_gdt_pointer - ap_trampoline)
	movl %cr0, %eax
	orl $CR0_PE, %eax
	movl %eax, %cr0
	ljmpl $CODE32, $ap32
	.balign 4
ap_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
ap_trampoline_end:

	.section .rodata
	.balign 4
	.globl ap_trampoline_size
ap_trampoline_size:
	.long ap_trampoline_end - ap_trampoline

	.section .data
	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff /* CODE32 */
	.quad 0x00cf93000000ffff /* DATA */
	.quad 0x00af9b000000ffff /* CODE64 */
	.quad 0x00cff3000000ffff /* ring 3: data at 0x20 */
	.quad 0x00affb000000ffff /* ring 3: code at 0x28 */
	.globl gdt_tss
gdt_tss: /* at 0x30, filled by testguest_main */
	.quad 0, 0
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
	.balign 4
ap_next:
	.long 1

	.section .bss
	.balign 4096
pml4:	.skip 4096
pdpt:	.skip 4096
pds:	.skip 4 * 4096
	.skip 16384
stack_end:
ap_stacks:
	.skip (AP_MAX + 1) * 4096

	.section .note.GNU-stack, "", @progbits
