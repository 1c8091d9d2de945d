/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The clocks. Pure code does not call these: time is an argument there. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int64_t clock_mono_ms(void); /* CLOCK_MONOTONIC, milliseconds */
int64_t clock_real_ns(void); /* since 1970, UTC, nanoseconds */

#define CLOCK_RFC3339_SIZE 32
/* "2026-08-01T12:00:05Z": whole seconds, UTC, as Kubernetes and Calico store times. */
void clock_rfc3339(int64_t real_ns, char buf[static CLOCK_RFC3339_SIZE]);
