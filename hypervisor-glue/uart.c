// SPDX-License-Identifier: Apache-2.0
/*
 * The 16550A's registers. A byte sent is gone at once, unless the caller says that its queue is
 * full: then the transmitter looks busy, as on a slow line, and the guest's driver waits.
 */
#include <string.h>
#include <linux/serial_reg.h>

#include "hypervisor-glue/uart.h"

#define IER_MASK 0x0f
#define MCR_MASK 0x1f
/* With nobody on the line, a modem that is always ready. */
#define MSR_READY (UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS)
#define MSR_LINES 0xf0

void uart_init(struct uart *uart)
{
	memset(uart, 0, sizeof(*uart));
	uart->msr = MSR_READY;
	uart->trigger = 1;
	uart->dll = 12; /* 9600 baud, as firmware leaves it */
}

static void receive_clear(struct uart *uart)
{
	uart->rx_start = uart->rx_count = 0;
	uart->overrun = false;
}

static bool receive_byte(struct uart *uart, uint8_t byte)
{
	if (uart->rx_count == (uart->fifo ? UART_FIFO : 1))
		return false;
	uart->rx[(uart->rx_start + uart->rx_count++) % UART_FIFO] = byte;
	return true;
}

size_t uart_receive(struct uart *uart, const uint8_t *bytes, size_t count)
{
	size_t n = 0;

	/* In loopback the pin is cut off; what comes in waits outside. */
	if (uart->mcr & UART_MCR_LOOP)
		return 0;
	while (n < count && receive_byte(uart, bytes[n]))
		n++;
	return n;
}

void uart_set_thr_full(struct uart *uart, bool full)
{
	if (uart->thr_full && !full)
		uart->thr_pending = true;
	if (full)
		uart->thr_pending = false;
	uart->thr_full = full;
}

/* The pending interrupt of the highest priority, as the low bits of IIR. */
static uint8_t interrupt_id(const struct uart *uart)
{
	if (uart->ier & UART_IER_RLSI && uart->overrun)
		return UART_IIR_RLSI;
	if (uart->ier & UART_IER_RDI && uart->rx_count)
		/* Fewer than the trigger: the character timeout, which for us is over at once. */
		return !uart->fifo || uart->rx_count >= uart->trigger ? UART_IIR_RDI
								      : UART_IIR_RX_TIMEOUT;
	if (uart->ier & UART_IER_THRI && uart->thr_pending)
		return UART_IIR_THRI;
	if (uart->ier & UART_IER_MSI && uart->msr & UART_MSR_ANY_DELTA)
		return UART_IIR_MSI;
	return UART_IIR_NO_INT;
}

bool uart_interrupt(const struct uart *uart)
{
	return interrupt_id(uart) != UART_IIR_NO_INT;
}

static uint8_t line_status(struct uart *uart)
{
	uint8_t lsr = 0;

	if (uart->rx_count)
		lsr |= UART_LSR_DR;
	if (uart->overrun)
		lsr |= UART_LSR_OE;
	if (!uart->thr_full)
		lsr |= UART_LSR_THRE | UART_LSR_TEMT;
	uart->overrun = false;
	return lsr;
}

/* In loopback the modem control outputs are wired to the modem status inputs. */
static void modem_update(struct uart *uart)
{
	uint8_t lines = MSR_READY, changed;

	if (uart->mcr & UART_MCR_LOOP) {
		lines = 0;
		if (uart->mcr & UART_MCR_RTS)
			lines |= UART_MSR_CTS;
		if (uart->mcr & UART_MCR_DTR)
			lines |= UART_MSR_DSR;
		if (uart->mcr & UART_MCR_OUT1)
			lines |= UART_MSR_RI;
		if (uart->mcr & UART_MCR_OUT2)
			lines |= UART_MSR_DCD;
	}
	changed = (uart->msr ^ lines) & MSR_LINES;
	/* Delta bits stand in the same order, four lower; RI counts only when it ends. */
	if (changed & UART_MSR_RI && lines & UART_MSR_RI)
		changed &= (uint8_t)~UART_MSR_RI;
	uart->msr = (uint8_t)(lines | (uart->msr & UART_MSR_ANY_DELTA) | (changed >> 4));
}

static void fifo_control(struct uart *uart, uint8_t value)
{
	static const uint8_t triggers[] = { 1, 4, 8, 14 };
	bool fifo = value & UART_FCR_ENABLE_FIFO;

	if (fifo != uart->fifo || value & UART_FCR_CLEAR_RCVR)
		receive_clear(uart);
	uart->fifo = fifo;
	uart->trigger = fifo ? triggers[value >> 6] : 1;
}

uint8_t uart_read(struct uart *uart, unsigned port)
{
	bool divisor = uart->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (port) {
	case UART_RX:
		if (divisor)
			return uart->dll;
		if (!uart->rx_count)
			return 0;
		value = uart->rx[uart->rx_start];
		uart->rx_start = (uart->rx_start + 1) % UART_FIFO;
		uart->rx_count--;
		return value;
	case UART_IER:
		return divisor ? uart->dlm : uart->ier;
	case UART_IIR:
		value = interrupt_id(uart);
		if (value == UART_IIR_THRI)
			uart->thr_pending = false;
		return value | (uart->fifo ? UART_IIR_FIFO_ENABLED_16550A : 0);
	case UART_LCR:
		return uart->lcr;
	case UART_MCR:
		return uart->mcr;
	case UART_LSR:
		return line_status(uart);
	case UART_MSR:
		value = uart->msr;
		uart->msr &= MSR_LINES;
		return value;
	case UART_SCR:
		return uart->scr;
	default:
		return 0xff;
	}
}

bool uart_write(struct uart *uart, unsigned port, uint8_t value)
{
	bool divisor = uart->lcr & UART_LCR_DLAB;

	switch (port) {
	case UART_TX:
		if (divisor) {
			uart->dll = value;
			return false;
		}
		uart->thr_pending = !uart->thr_full;
		if (!(uart->mcr & UART_MCR_LOOP))
			return true;
		if (!receive_byte(uart, value))
			uart->overrun = true;
		return false;
	case UART_IER:
		if (divisor) {
			uart->dlm = value;
			return false;
		}
		/* Enabling it with an empty transmitter raises it (drivers test for that). */
		if (value & ~uart->ier & UART_IER_THRI && !uart->thr_full)
			uart->thr_pending = true;
		uart->ier = value & IER_MASK;
		return false;
	case UART_FCR:
		fifo_control(uart, value);
		return false;
	case UART_LCR:
		uart->lcr = value;
		return false;
	case UART_MCR:
		uart->mcr = value & MCR_MASK;
		modem_update(uart);
		return false;
	case UART_SCR:
		uart->scr = value;
		return false;
	default: /* LSR and MSR are read-only */
		return false;
	}
}
