/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/*
 * A new directory, until the next call of this process. When the program ends it is removed with what it holds,
 * and so are those of tests whose process was ended, by Check or a sanitizer.
 */
const char *test_dir(void);
