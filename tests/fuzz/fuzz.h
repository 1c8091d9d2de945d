/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a fuzz target defines: called with bytes, it returns 0, or dies where a promise is broken. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
