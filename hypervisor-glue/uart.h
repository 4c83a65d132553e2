/* SPDX-License-Identifier: Apache-2.0 */
/*
 * uart: the registers of a 16550A, and nothing else: no thread, no file descriptor, no KVM. The
 * caller moves bytes in and out, serialises calls and drives the interrupt line from
 * uart_interrupt().
 *
 * Follows the register description of the PC16550D data sheet (National Semiconductor, 1995).
 */
#ifndef GLUE_UART_H
#define GLUE_UART_H

#include "base/base.h"

#define UART_PORTS 8
#define UART_FIFO  16

struct uart {
	uint8_t ier, lcr, mcr, msr, scr, dll, dlm;
	uint8_t trigger; /* bytes in the receive FIFO that raise "data available" */
	bool fifo;
	bool overrun;
	bool thr_pending; /* the transmitter-empty interrupt was not yet acknowledged */
	bool thr_full;	  /* the caller cannot take another byte */
	uint8_t rx[UART_FIFO];
	unsigned rx_start, rx_count;
};

void uart_init(struct uart *uart);
uint8_t uart_read(struct uart *uart, unsigned port);
/* uart_write() - true when @value leaves through the transmitter: the caller sends it. */
bool uart_write(struct uart *uart, unsigned port, uint8_t value);
/* uart_receive() - as many bytes as the receiver has room for; returns how many. */
size_t uart_receive(struct uart *uart, const uint8_t *bytes, size_t count);
/* uart_set_thr_full() - whether the caller's queue is full: the transmitter then looks busy. */
void uart_set_thr_full(struct uart *uart, bool full);
/* uart_interrupt() - the level of the interrupt line. */
bool uart_interrupt(const struct uart *uart);

#endif
