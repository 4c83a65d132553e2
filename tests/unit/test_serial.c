// SPDX-License-Identifier: Apache-2.0
/* The 16550A as Linux's 8250 driver probes and drives it, and the escapes of the terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <linux/serial_reg.h>

#include <cmocka.h>

#include "hypervisor-glue/platform.h"
#include "hypervisor-glue/uart.h"
#include "tests/unit/confined.h"

static int setup(void **state)
{
	static struct uart uart;

	uart_init(&uart);
	*state = &uart;
	return 0;
}

static uint8_t iir(struct uart *uart)
{
	return uart_read(uart, UART_IIR) & 0x0f;
}

static void driver_finds_a_16550a(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_IER, 0);
	assert_int_equal(uart_read(uart, UART_IER) & 0x0f, 0);
	uart_write(uart, UART_IER, 0x0f);
	assert_int_equal(uart_read(uart, UART_IER), 0x0f);
	uart_write(uart, UART_IER, 0x40); /* no XScale unit enable */
	assert_int_equal(uart_read(uart, UART_IER), 0);
	uart_write(uart, UART_SCR, 0xae);
	assert_int_equal(uart_read(uart, UART_SCR), 0xae);

	assert_int_equal(uart_read(uart, UART_IIR) >> 6, 0);
	uart_write(uart, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(uart_read(uart, UART_IIR) >> 6, 3);
	/* no extended feature register behind either LCR access mode */
	uart_write(uart, UART_LCR, UART_LCR_CONF_MODE_A);
	assert_int_not_equal(uart_read(uart, UART_EFR), 0);
	uart_write(uart, UART_LCR, UART_LCR_CONF_MODE_B);
	assert_int_not_equal(uart_read(uart, UART_EFR), 0);
	/* no 64-byte FIFO of a 16750 */
	uart_write(uart, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR7_64BYTE);
	assert_int_equal(uart_read(uart, UART_IIR) >> 5, 6);
}

static void divisor_latch_hides_data_and_interrupt_registers(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_IER, UART_IER_RDI);
	uart_write(uart, UART_LCR, UART_LCR_DLAB | UART_LCR_WLEN8);
	assert_false(uart_write(uart, UART_DLL, 1));
	uart_write(uart, UART_DLM, 2);
	assert_int_equal(uart_read(uart, UART_DLL), 1);
	assert_int_equal(uart_read(uart, UART_DLM), 2);
	uart_write(uart, UART_LCR, UART_LCR_WLEN8);
	assert_int_equal(uart_read(uart, UART_IER), UART_IER_RDI);
	assert_true(uart_write(uart, UART_TX, 'x'));
}

static void loopback_wires_modem_lines_and_data(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_MCR, UART_MCR_LOOP | UART_MCR_OUT2 | UART_MCR_RTS);
	assert_int_equal(uart_read(uart, UART_MSR) & 0xf0, UART_MSR_DCD | UART_MSR_CTS);
	assert_false(uart_write(uart, UART_TX, 'L'));
	assert_int_equal(uart_receive(uart, (const uint8_t *)"x", 1), 0);
	assert_true(uart_read(uart, UART_LSR) & UART_LSR_DR);
	assert_int_equal(uart_read(uart, UART_RX), 'L');
	uart_write(uart, UART_MCR, 0);
	assert_int_equal(uart_read(uart, UART_MSR) & 0xf0,
			 UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS);
}

static void modem_changes_are_told_once(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_IER, UART_IER_MSI);
	assert_false(uart_interrupt(uart));
	uart_write(uart, UART_MCR, UART_MCR_LOOP);
	assert_int_equal(iir(uart), UART_IIR_MSI);
	assert_true(uart_interrupt(uart));
	assert_int_equal(uart_read(uart, UART_MSR), UART_MSR_DCTS | UART_MSR_DDSR | UART_MSR_DDCD);
	assert_int_equal(uart_read(uart, UART_MSR), 0);
	assert_false(uart_interrupt(uart));
}

static void enabling_the_transmit_interrupt_raises_it_each_time(void **state)
{
	struct uart *uart = *state;

	/* serial8250_THRE_test: without this the driver believes in a broken chip */
	uart_write(uart, UART_IER, UART_IER_THRI);
	assert_int_equal(iir(uart), UART_IIR_THRI);
	assert_int_equal(iir(uart), UART_IIR_NO_INT); /* reading acknowledged it */
	uart_write(uart, UART_IER, 0);
	uart_write(uart, UART_IER, UART_IER_THRI);
	assert_int_equal(iir(uart), UART_IIR_THRI);
}

static void sent_byte_empties_the_transmitter_at_once(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_IER, UART_IER_THRI);
	iir(uart);
	assert_false(uart_interrupt(uart));
	assert_true(uart_write(uart, UART_TX, 'a'));
	assert_true(uart_interrupt(uart));
	assert_true(uart_read(uart, UART_LSR) & UART_LSR_THRE);
}

static void full_queue_looks_like_a_busy_transmitter(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_IER, UART_IER_THRI);
	uart_set_thr_full(uart, true);
	assert_false(uart_interrupt(uart));
	assert_int_equal(uart_read(uart, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT), 0);
	uart_set_thr_full(uart, false);
	assert_true(uart_interrupt(uart));
	assert_int_equal(uart_read(uart, UART_LSR) & (UART_LSR_THRE | UART_LSR_TEMT),
			 UART_LSR_THRE | UART_LSR_TEMT);
}

static void input_is_held_back_when_the_fifo_is_full(void **state)
{
	struct uart *uart = *state;
	uint8_t bytes[40];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	assert_int_equal(uart_receive(uart, bytes, sizeof(bytes)), 1); /* no FIFO yet */
	uart_write(uart, UART_FCR, UART_FCR_ENABLE_FIFO);
	assert_int_equal(uart_receive(uart, bytes, sizeof(bytes)), UART_FIFO);
	assert_int_equal(uart_receive(uart, bytes, sizeof(bytes)), 0);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(uart_read(uart, UART_RX), i);
	assert_int_equal(uart_receive(uart, bytes, sizeof(bytes)), 5);
	assert_int_equal(uart_read(uart, UART_RX), 5);
	uart_write(uart, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_CLEAR_RCVR);
	assert_int_equal(uart_read(uart, UART_LSR) & UART_LSR_DR, 0);
}

static void input_interrupts_by_trigger_or_timeout(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_FCR, UART_FCR_ENABLE_FIFO | UART_FCR_R_TRIG_01);
	uart_write(uart, UART_IER, UART_IER_RDI);
	uart_receive(uart, (const uint8_t *)"abc", 3);
	assert_int_equal(iir(uart), UART_IIR_RX_TIMEOUT);
	uart_receive(uart, (const uint8_t *)"d", 1);
	assert_int_equal(iir(uart), UART_IIR_RDI);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(uart_interrupt(uart));
		assert_int_equal(uart_read(uart, UART_RX), 'a' + i);
	}
	assert_false(uart_interrupt(uart));
}

static void receive_overrun_in_loopback_is_reported_once(void **state)
{
	struct uart *uart = *state;

	uart_write(uart, UART_MCR, UART_MCR_LOOP);
	uart_write(uart, UART_IER, UART_IER_RLSI);
	uart_write(uart, UART_TX, '1');
	uart_write(uart, UART_TX, '2');
	assert_int_equal(iir(uart), UART_IIR_RLSI);
	assert_true(uart_read(uart, UART_LSR) & UART_LSR_OE);
	assert_false(uart_read(uart, UART_LSR) & UART_LSR_OE);
}

static void every_access_is_harmless(void **state)
{
	struct uart *uart = *state;
	uint32_t seed = 1;

	/* A guest may write anything: bounds hold (the sanitizers see to it). */
	for (unsigned i = 0; i < 200000; i++) {
		seed = seed * 1664525u + 1013904223u;
		if (seed & 0x100)
			uart_write(uart, seed >> 9 & 15, (uint8_t)(seed >> 16));
		else
			uart_read(uart, seed >> 9 & 15);
		if ((seed >> 28) == 3)
			uart_receive(uart, (const uint8_t *)"0123456789abcdefgh", 18);
		assert_true(uart->rx_count <= UART_FIFO);
	}
}

static void escapes_are_taken_out_of_what_is_typed(void **state)
{
	struct terminal_escape escape = { 0 };
	enum terminal_command command;
	uint8_t bytes[] = "ab\001acd";

	assert_int_equal(terminal_filter(&escape, bytes, 6, &command), 5);
	assert_memory_equal(bytes, "ab\001cd", 5);
	assert_int_equal(command, TERMINAL_NONE);
	memcpy(bytes, "\001\001", 2);
	assert_int_equal(terminal_filter(&escape, bytes, 2, &command), 1);
	assert_int_equal(bytes[0], 1);
	memcpy(bytes, "\001p", 2);
	assert_int_equal(terminal_filter(&escape, bytes, 2, &command), 0);
	assert_int_equal(command, TERMINAL_POWER_BUTTON);
}

static void escape_is_seen_across_two_reads(void **state)
{
	struct terminal_escape escape = { 0 };
	enum terminal_command command;
	uint8_t byte = 1;

	assert_int_equal(terminal_filter(&escape, &byte, 1, &command), 0);
	assert_int_equal(command, TERMINAL_NONE);
	byte = 'x';
	assert_int_equal(terminal_filter(&escape, &byte, 1, &command), 0);
	assert_int_equal(command, TERMINAL_QUIT);
	byte = 'x';
	assert_int_equal(terminal_filter(&escape, &byte, 1, &command), 1);
}

#define TEST(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(driver_finds_a_16550a),
		TEST(divisor_latch_hides_data_and_interrupt_registers),
		TEST(loopback_wires_modem_lines_and_data),
		TEST(modem_changes_are_told_once),
		TEST(enabling_the_transmit_interrupt_raises_it_each_time),
		TEST(sent_byte_empties_the_transmitter_at_once),
		TEST(full_queue_looks_like_a_busy_transmitter),
		TEST(input_is_held_back_when_the_fifo_is_full),
		TEST(input_interrupts_by_trigger_or_timeout),
		TEST(receive_overrun_in_loopback_is_reported_once),
		TEST(every_access_is_harmless),
		TEST(escapes_are_taken_out_of_what_is_typed),
		TEST(escape_is_seen_across_two_reads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
